//! Holds, settlements and releases, as the gateway calls them.

use domain::Money;
use ledger::{HoldOutcome, How, Journal, LedgerError, LossReason, PriceChange, Sheet};

use super::support::*;

#[tokio::test]
async fn a_request_is_held_settled_and_still_there_after_a_restart() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    assert!(matches!(journal.hold(hold(request(1))).await.unwrap(), HoldOutcome::Opened(..)));
    let settled = journal.settle(settlement(request(1), used(100, 0, 20))).await.unwrap();
    assert!(!settled.repeated);
    journal.close().await;

    let journal = home.open().await;
    let rows = journal.requests(&[request(1)]).await.unwrap();
    assert_eq!(rows[0].held.hold, hold(request(1)));
    assert_eq!(rows[0].ending, Some(settled.ending));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn repeating_a_call_changes_nothing_and_is_answered_with_what_is_booked() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    assert!(matches!(journal.hold(hold(request(1))).await.unwrap(), HoldOutcome::AlreadyOpen(_)));
    let first = journal.settle(settlement(request(1), used(100, 0, 20))).await.unwrap();
    let again = journal.settle(settlement(request(1), used(1, 1, 1))).await.unwrap();
    let released = journal.release(release(request(1))).await.unwrap();
    assert!(again.repeated && released.repeated);
    assert_eq!((&again.ending, &released.ending), (&first.ending, &first.ending));
    assert!(matches!(journal.hold(hold(request(1))).await.unwrap(), HoldOutcome::AlreadyEnded(..)));
    let integrity = journal.check_integrity().await.unwrap();
    // One request: held, used, given back.
    assert_eq!((integrity.requests, integrity.entries, integrity.open_holds), (1, 3, 0));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn settling_what_was_never_held_is_an_error_that_names_the_request() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let error = journal.settle(settlement("lost".into(), used(1, 0, 1))).await.unwrap_err();
    assert_eq!(error, LedgerError::NoHold { request: "lost".into(), what: "settled" });
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn the_same_request_from_64_tasks_at_once_is_one_hold() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.hold(hold(request(7))).await.unwrap() })
        })
        .collect();
    let mut opened = 0;
    for task in tasks {
        opened += usize::from(matches!(task.await.unwrap(), HoldOutcome::Opened(..)));
    }
    assert_eq!(opened, 1);
    assert_eq!(journal.open_holds().await.unwrap().len(), 1);
    assert_sound(&journal).await;
}

#[tokio::test]
async fn many_different_requests_at_once_are_all_booked() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let tasks: Vec<_> = (0..500)
        .map(|number| {
            let journal = journal.clone();
            tokio::spawn(async move {
                journal.hold(hold(request(number))).await.unwrap();
                journal.settle(settlement(request(number), used(100, 0, 10))).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let integrity = journal.check_integrity().await.unwrap();
    assert_eq!((integrity.requests, integrity.open_holds), (500, 0));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_request_is_settled_at_the_price_of_its_hold() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let change = |sheet, millis| vec![PriceChange { model: "tiny".into(), sheet, valid_from: at(millis) }];
    assert_eq!(journal.set_prices(change(sheet(), 0)).await.unwrap().len(), 1);
    journal.hold(hold(request(1))).await.unwrap();
    // Twice the price from 1,500 ms on: between this hold and its settlement.
    let price = |text: &str| text.parse().unwrap();
    let dearer = Sheet::per_token(price("2"), price("0.2"), price("8"));
    journal.set_prices(change(dearer, 1_500)).await.unwrap();
    let settled = journal.settle(settlement(request(1), used(100, 900, 10))).await.unwrap();
    // 100 × 1 + 900 × 0.1 + 10 × 4 = 230 millionths of a dollar.
    assert_eq!(settled.ending.cost.unwrap().to_string(), "0.00023");

    let mut later = hold(request(2));
    later.at = at(1_600);
    journal.hold(later).await.unwrap();
    let settled = journal.settle(settlement(request(2), used(100, 900, 10))).await.unwrap();
    assert_eq!(settled.ending.cost.unwrap().to_string(), "0.00046");
    assert_sound(&journal).await;
}

#[tokio::test]
async fn an_unchanged_price_makes_no_new_version_and_a_withdrawn_one_is_unpriced() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let change = |sheet, millis| vec![PriceChange { model: "tiny".into(), sheet, valid_from: at(millis) }];
    assert_eq!(journal.set_prices(change(Sheet::unpriced(), 0)).await.unwrap().len(), 0);
    assert_eq!(journal.set_prices(change(sheet(), 10)).await.unwrap().len(), 1);
    assert_eq!(journal.set_prices(change(sheet(), 20)).await.unwrap().len(), 0);
    assert_eq!(journal.set_prices(change(Sheet::unpriced(), 500)).await.unwrap().len(), 1);
    assert_eq!(journal.prices().await.unwrap().len(), 2);
    journal.hold(hold(request(1))).await.unwrap();
    let settled = journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert_eq!(settled.ending.cost, None);
    assert_sound(&journal).await;
}

#[tokio::test]
async fn one_price_that_cannot_be_written_refuses_them_all() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let change = |model: &str, sheet| PriceChange { model: model.into(), sheet, valid_from: at(0) };
    let mut absurd = sheet();
    absurd.standard.rates.output = Some(domain::Price::from_pico_per_token(u64::MAX));
    let changes = vec![change("tiny", sheet()), change("large", absurd)];
    let error = journal.set_prices(changes).await.unwrap_err().to_string();
    assert!(error.starts_with("a price of model large is 18446744.073709551615 USD a token"), "{error}");
    assert!(journal.prices().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_price_set_by_a_tool_beside_the_server_counts_from_the_next_hold_on() {
    let Some(home) = Home::new() else { return };
    let server = home.open().await;
    server.hold(hold(request(1))).await.unwrap();
    let tool = home.attach().await;
    let change = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
    tool.set_prices(vec![change]).await.unwrap();
    server.hold(hold(request(2))).await.unwrap();
    for (number, cost) in [(1, None), (2, Some("0.00001"))] {
        let settled = server.settle(settlement(request(number), used(10, 0, 0))).await.unwrap();
        assert_eq!(settled.ending.cost.map(|cost| cost.to_string()).as_deref(), cost);
    }
    assert_sound(&server).await;
}

#[tokio::test]
async fn a_released_request_costs_nothing_even_when_unpriced() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    let released = journal.release(release(request(1))).await.unwrap();
    assert_eq!(released.ending.cost, Some(Money::ZERO));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn holds_of_a_lost_process_are_booked_in_full_as_estimates() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    journal.hold(hold(request(2))).await.unwrap();
    journal.settle(settlement(request(2), used(1, 0, 1))).await.unwrap();
    let asked = vec![request(1), request(2), request(3)];
    let expired = journal.expire_holds(asked.clone(), LossReason::ProcessLost, at(9_000)).await.unwrap();
    assert_eq!(expired.iter().map(|held| held.hold.request.clone()).collect::<Vec<_>>(), [request(1)]);
    assert!(journal.expire_holds(asked, LossReason::ProcessLost, at(9_001)).await.unwrap().is_empty());
    let row = journal.requests(&[request(1)]).await.unwrap().remove(0);
    let ending = row.ending.unwrap();
    assert_eq!(
        (ending.how, ending.cost),
        (How::Lost { reason: LossReason::ProcessLost, estimate: Some(used(100, 0, 50)) }, None)
    );
    assert!(journal.open_holds().await.unwrap().is_empty());
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_request_id_of_any_shape_comes_back_as_it_was_given() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let names = ["", "req-", "req-0123456789ABCDEF0123456789ABCDEF", "ünïcode 'quoted'", "held"];
    for name in names {
        journal.hold(hold(name.into())).await.unwrap();
        assert_eq!(journal.requests(&[name.into()]).await.unwrap()[0].held.hold.request.as_str(), name);
    }
    let recent = journal.recent_requests(2).await.unwrap();
    assert_eq!(
        recent.iter().map(|row| row.held.hold.request.as_str()).collect::<Vec<_>>(),
        ["held", "ünïcode 'quoted'"]
    );
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_book_of_any_length_is_read_through_a_page_at_a_time() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    // All at one moment: pages must not lean on times that differ.
    let mut holds = tokio::task::JoinSet::new();
    for number in 0..4_100 {
        let journal = journal.clone();
        holds.spawn(async move { journal.hold(hold(request(number))).await.unwrap() });
    }
    holds.join_all().await;
    let name = |row: &ledger::RequestRow| row.held.hold.request.clone();
    let (mut read, mut place, mut pages) = (Vec::new(), None, 0);
    loop {
        let (rows, next) = journal.requests_before(place).await.unwrap();
        read.extend(rows.iter().map(name));
        (place, pages) = (next, pages + 1);
        if place.is_none() {
            break;
        }
    }
    assert!(pages > 1);
    let at_once: Vec<_> = journal.recent_requests(5_000).await.unwrap().iter().map(name).collect();
    assert_eq!((read.len(), &read), (4_100, &at_once));
}

#[tokio::test]
async fn a_payer_may_have_the_name_of_a_side_of_the_book() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    for (number, account) in ["held", "earned"].into_iter().enumerate() {
        let mut hold = hold(request(number as u128));
        hold.account = account.into();
        journal.hold(hold).await.unwrap();
        journal.settle(settlement(request(number as u128), used(9, 9, 99))).await.unwrap();
    }
    assert_sound(&journal).await;
}

#[tokio::test]
async fn what_is_queued_before_a_close_is_booked_and_what_comes_after_is_refused() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    let last = journal.settle(settlement(request(1), used(1, 0, 1)));
    let ((), last) = tokio::join!(journal.close(), last);
    let after = journal.hold(hold(request(2))).await.unwrap_err();
    assert!(matches!(after, LedgerError::Unavailable { doing: "holding", .. }), "{after}");
    // The join polled the close first, so whichever the queue took, the file must say the same.
    let reopened: Journal = home.open().await;
    let ending = reopened.requests(&[request(1)]).await.unwrap().remove(0).ending;
    assert_eq!(ending.is_some(), last.is_ok());
    assert_sound(&reopened).await;
}
