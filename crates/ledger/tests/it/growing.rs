//! Holds that grow while a stream runs, and losses that book what was held.

use ledger::{Grow, GrowOutcome, HoldOutcome, How, LedgerError, LossReason, PriceChange};

use super::support::*;

fn grow(number: u128, output: u64) -> Grow {
    Grow { request: request(number), estimate: used(100, 0, output), at: at(1_500) }
}

#[tokio::test]
async fn a_hold_grows_step_by_step_and_is_settled_from_its_whole() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let change = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
    journal.set_prices(vec![change]).await.unwrap();
    journal.hold(hold(request(1))).await.unwrap();
    for output in [80, 80, 60, 120] {
        let GrowOutcome::Grown(held, _) = journal.grow(grow(1, output)).await.unwrap() else {
            panic!("an open hold grows")
        };
        assert!(held.hold.estimate.output >= output);
    }
    assert_eq!(journal.open_holds().await.unwrap()[0].hold.estimate, used(100, 0, 120));
    assert_sound(&journal).await;
    // It is known after a restart as it had grown.
    let journal = home.crash(journal).await;
    let settled = journal.settle(settlement(request(1), used(100, 0, 110))).await.unwrap();
    assert_eq!(settled.held.hold.estimate, used(100, 0, 120));
    assert!(settled.excess().is_zero());
    // Opened, grown twice (80 and 120: the others added nothing), used, given back.
    assert_eq!(journal.check_integrity().await.unwrap().entries, 5);
    assert_sound(&journal).await;
}

#[tokio::test]
async fn what_was_held_is_booked_when_its_process_is_lost() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let change = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
    journal.set_prices(vec![change]).await.unwrap();
    journal.hold(hold(request(1))).await.unwrap();
    journal.grow(grow(1, 90)).await.unwrap();
    journal.expire_holds(vec![request(1)], LossReason::ProcessLost, at(3_000)).await.unwrap();
    let ending = journal.requests(&[request(1)]).await.unwrap().remove(0).ending.unwrap();
    let estimate = Some(used(100, 0, 90));
    assert_eq!(ending.how, How::Lost { reason: LossReason::ProcessLost, estimate });
    // 100 × 1 + 90 × 4 = 460 millionths of a dollar.
    assert_eq!(ending.cost.unwrap().to_string(), "0.00046");
    assert_sound(&journal).await;
}

#[tokio::test]
async fn nothing_grows_that_is_not_open() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let error = journal.grow(grow(1, 90)).await.unwrap_err();
    assert_eq!(error, LedgerError::NoHold { request: request(1), what: "grown" });
    journal.hold(hold(request(1))).await.unwrap();
    let ended = journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    let GrowOutcome::Ended(_, ending) = journal.grow(grow(1, 90)).await.unwrap() else {
        panic!("an ended hold does not grow")
    };
    assert_eq!(ending, ended.ending);
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_hold_its_growth_and_its_end_may_be_in_one_batch() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let (held, grown, settled) = tokio::join!(
        journal.hold(hold(request(1))),
        journal.grow(grow(1, 90)),
        journal.settle(settlement(request(1), used(100, 0, 70)))
    );
    assert!(matches!(held.unwrap(), HoldOutcome::Opened(..)));
    assert!(matches!(grown.unwrap(), GrowOutcome::Grown(..)));
    assert!(!settled.unwrap().repeated);
    assert!(journal.open_holds().await.unwrap().is_empty());
    assert_sound(&journal).await;
}

#[tokio::test]
async fn all_that_a_hold_says_comes_back() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let mut first = hold(request(1));
    first.account = "acme/research/chatbot".into();
    first.key = Some(ledger::KeyId("key-0123".into()));
    first.task = Some(ledger::TaskPath::parse("acme/run-42/plan/search").unwrap());
    first.end_user = Some("ünïcode 'quoted'".into());
    first.circumstances.region = Some("eu".into());
    journal.hold(first.clone()).await.unwrap();
    let mut second = hold(request(2));
    second.task = Some(ledger::TaskPath::parse("acme/run-42").unwrap());
    journal.hold(second.clone()).await.unwrap();
    let journal = home.crash(journal).await;
    let rows = journal.requests(&[request(1), request(2)]).await.unwrap();
    assert_eq!((&rows[0].held.hold, &rows[1].held.hold), (&first, &second));
    journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert_sound(&journal).await;
}
