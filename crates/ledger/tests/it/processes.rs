//! Servers that die, and what the others do about it; and requests that become old.

use ledger::{How, JournalOptions, LedgerError, LossReason, UsageQuery};

use super::support::*;

#[tokio::test]
async fn the_next_server_closes_what_a_dead_one_left_open_and_nothing_of_its_own() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    // The process ends in order, with a hold open: nobody need wait to be sure.
    journal.close().await;
    let journal = home.open().await;
    journal.hold(hold(request(2))).await.unwrap();
    let lost = journal.beat(at(9_000)).await.unwrap();
    assert_eq!(lost.iter().map(|held| held.hold.request.clone()).collect::<Vec<_>>(), [request(1)]);
    assert!(journal.beat(at(9_001)).await.unwrap().is_empty());
    let open = journal.own_open_holds().await.unwrap();
    assert_eq!(open.iter().map(|held| held.hold.request.clone()).collect::<Vec<_>>(), [request(2)]);
    let ending = journal.requests(&[request(1)]).await.unwrap().remove(0).ending.unwrap();
    let estimate = Some(used(100, 0, 50));
    assert_eq!(ending.how, How::Lost { reason: LossReason::ProcessLost, estimate });
    assert_sound(&journal).await;
}

#[tokio::test]
async fn old_requests_leave_the_book_and_their_sums_stay() {
    let Some(home) = Home::new() else { return };
    let journal = home.open_with(JournalOptions::default()).await;
    const HOUR: i64 = 3_600_000;
    for (number, hour) in [(1, 0), (2, 0), (3, 1), (4, 2)] {
        let mut hold = hold(request(number));
        hold.at = at(hour * HOUR + 5);
        journal.hold(hold).await.unwrap();
    }
    for number in [1, 3, 4] {
        journal.settle(settlement(request(number), used(10, 0, 5))).await.unwrap();
    }
    // Up to the middle of the third hour: the hour itself stays, and so does what is open.
    let before = at(2 * HOUR + HOUR / 2);
    assert_eq!(journal.drop_old_requests(before).await.unwrap(), 2);
    assert_eq!(journal.drop_old_requests(before).await.unwrap(), 0);
    let left = journal.requests(&[request(1), request(2), request(3), request(4)]).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|row| row.held.hold.request).collect();
    assert_eq!(left, [request(2), request(4)]);
    assert_sound(&journal).await;
    // What is above the mark is guarded as before.
    let error =
        home.meddle("DELETE FROM ending WHERE hold IN (SELECT id FROM hold WHERE at > 7200000)").await;
    assert!(error.unwrap_err().to_string().contains("append-only"));
    let error = journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap_err();
    assert!(matches!(error, LedgerError::NoHold { .. }), "{error}");
    let _ = journal.usage(&UsageQuery::default()).await.unwrap();
}
