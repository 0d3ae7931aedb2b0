//! What is booked when a provider reports its usage twice, never, late, as zero, or in pieces that correct each other?
//!
//! The streams themselves are read elsewhere; here are the settlements that such streams come to.

use domain::{Money, Usage, UsageEnd, UsageSource};
use ledger::{How, Journal, LossReason, RequestRow, Settlement};

use super::support::*;

async fn row(journal: &Journal, number: u128) -> RequestRow {
    journal.requests(&[request(number)]).await.unwrap().remove(0)
}

async fn booked(journal: &Journal, number: u128) -> (How, Option<Money>) {
    let ending = row(journal, number).await.ending.expect("it has ended");
    (ending.how, ending.cost)
}

async fn priced() -> Option<(Home, Journal)> {
    let home = Home::new()?;
    let journal = home.open().await;
    journal
        .set_prices(vec![ledger::PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) }])
        .await
        .unwrap();
    Some((home, journal))
}

fn reported(number: u128, usage: Usage) -> Settlement {
    Settlement { source: UsageSource::Provider, ..settlement(request(number), usage) }
}

#[tokio::test]
async fn usage_that_is_reported_twice_is_booked_once_as_it_came_first() {
    let Some((_home, journal)) = priced().await else { return };
    journal.hold(hold(request(1))).await.unwrap();
    let first = journal.settle(reported(1, used(100, 0, 20))).await.unwrap();
    let second = journal.settle(reported(1, used(100, 0, 40))).await.unwrap();
    assert_eq!((first.repeated, second.repeated), (false, true));
    assert_eq!(second.ending, first.ending, "the second caller is told what is booked");
    assert_eq!(row(&journal, 1).await.ending, Some(first.ending));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn usage_reported_as_zero_is_zero_and_not_unknown() {
    let Some((_home, journal)) = priced().await else { return };
    journal.hold(hold(request(1))).await.unwrap();
    journal.settle(reported(1, Usage::default())).await.unwrap();
    let (how, cost) = booked(&journal, 1).await;
    assert!(
        matches!(how, How::Settled { source: UsageSource::Provider, usage, .. } if usage == Usage::default())
    );
    assert_eq!(cost, Some(Money::ZERO));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn usage_that_is_never_reported_is_an_estimate_and_says_so() {
    let Some((_home, journal)) = priced().await else { return };
    journal.hold(hold(request(1))).await.unwrap();
    let estimated = Settlement { source: UsageSource::Estimated, ..settlement(request(1), used(100, 0, 17)) };
    journal.settle(estimated).await.unwrap();
    assert!(matches!(booked(&journal, 1).await.0, How::Settled { source: UsageSource::Estimated, .. }));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn usage_that_comes_after_the_loss_changes_nothing_and_is_told_what_is_booked() {
    let Some((_home, journal)) = priced().await else { return };
    journal.hold(hold(request(1))).await.unwrap();
    journal.expire_holds(vec![request(1)], LossReason::ProcessLost, at(5_000)).await.unwrap();
    let late = journal.settle(reported(1, used(100, 0, 20))).await.unwrap();
    assert!(late.repeated);
    let (how, _) = booked(&journal, 1).await;
    assert_eq!(late.ending.how, how);
    // What was held, which is no less than what was delivered.
    assert_eq!(late.ending.usage(), Some(used(100, 0, 50)));
    assert!(matches!(how, How::Lost { .. }));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn prompt_tokens_that_turn_out_to_be_cached_are_booked_as_cached() {
    let Some((_home, journal)) = priced().await else { return };
    journal.hold(hold(request(1))).await.unwrap();
    // Held as 100 uncached tokens; the last report, which counts, found 90 of them in the provider's cache.
    let outcome = journal.settle(reported(1, used(10, 90, 20))).await.unwrap();
    assert_eq!(outcome.excess().tokens, [0, 90, 0, 0, 0, 0], "cached tokens were not held as such");
    // 10 at 1, 90 at 0.1 and 20 at 4 USD per million.
    assert_eq!(outcome.ending.cost.unwrap().to_string(), "0.000099");
    assert_eq!(outcome.excess().money, Money::ZERO, "it cost less than was held");
    assert_sound(&journal).await;
}

#[tokio::test]
async fn usage_beyond_the_hold_is_booked_in_full_and_named_as_excess() {
    let Some((_home, journal)) = priced().await else { return };
    journal.hold(hold(request(1))).await.unwrap();
    let outcome = journal.settle(reported(1, used(100, 0, 80))).await.unwrap();
    assert_eq!(outcome.excess().tokens, [0, 0, 0, 0, 30, 0]);
    assert_eq!(outcome.excess().money.to_string(), "0.00012", "30 tokens at 4 USD per million");
    assert_sound(&journal).await;
}

#[tokio::test]
async fn every_way_to_end_is_kept_apart() {
    let Some((_home, journal)) = priced().await else { return };
    let ends = [
        UsageEnd::Complete,
        UsageEnd::Truncated,
        UsageEnd::CancelledDrained,
        UsageEnd::CancelledAborted,
        UsageEnd::ErrorBilled,
        UsageEnd::Unknown,
    ];
    for (number, end) in (1..).zip(ends) {
        journal.hold(hold(request(number))).await.unwrap();
        journal.settle(Settlement { end, ..reported(number, used(100, 0, 5)) }).await.unwrap();
    }
    for (number, end) in (1..).zip(ends) {
        assert!(
            matches!(booked(&journal, number).await.0, How::Settled { end: kept, .. } if kept == end),
            "{end:?}"
        );
    }
    assert_sound(&journal).await;
}

#[tokio::test]
async fn an_end_before_its_beginning_is_booked_all_the_same() {
    let Some((_home, journal)) = priced().await else { return };
    // The clock was set back by a day between both.
    journal.hold(ledger::Hold { at: at(90_000_000), ..hold(request(1)) }).await.unwrap();
    journal.settle(Settlement { at: at(3_600_000), ..reported(1, used(100, 0, 20)) }).await.unwrap();
    assert_eq!(booked(&journal, 1).await.1.unwrap().to_string(), "0.00018");
    assert_sound(&journal).await;
}
