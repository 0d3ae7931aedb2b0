//! Several servers on one ledger.

use std::time::Duration;

use ledger::{GrowOutcome, HoldOutcome, JournalOptions, PriceChange};

use super::support::*;

fn patient_for(silence_ms: u64) -> JournalOptions {
    JournalOptions { silence_max: Duration::from_millis(silence_ms), ..JournalOptions::default() }
}

#[tokio::test]
async fn one_request_sent_to_many_servers_at_once_is_one_hold() {
    let Some(home) = Home::new() else { return };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(home.open().await);
    }
    for number in 0..20 {
        let tasks: Vec<_> = servers
            .iter()
            .cloned()
            .map(|server| tokio::spawn(async move { server.hold(hold(request(number))).await.unwrap() }))
            .collect();
        let mut opened = 0;
        for task in tasks {
            opened += usize::from(matches!(task.await.unwrap(), HoldOutcome::Opened(..)));
        }
        assert_eq!(opened, 1, "request {number}");
    }
    // And each is ended once, whoever ends it.
    for number in 0..20 {
        let (first, second) = tokio::join!(
            servers[0].settle(settlement(request(number), used(10, 0, 5))),
            servers[1].release(release(request(number)))
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.ending, second.ending);
        assert!(first.repeated != second.repeated);
    }
    assert_sound(&servers[2]).await;
}

#[tokio::test]
async fn servers_that_book_at_once_make_one_sound_book() {
    let Some(home) = Home::new() else { return };
    let mut tasks = Vec::new();
    for server in 0..3u128 {
        let journal = home.open().await;
        for client in 0..8u128 {
            let journal = journal.clone();
            tasks.push(tokio::spawn(async move {
                for number in 0..10 {
                    let request = request(server << 64 | client << 32 | number);
                    let mut hold = hold(request.clone());
                    // New names from all sides at once.
                    hold.account = format!("acme/team-{number}").as_str().into();
                    hold.end_user = Some(format!("user-{}", 10 - number));
                    journal.hold(hold).await.unwrap();
                    journal.settle(settlement(request, used(10, 0, 5))).await.unwrap();
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let journal = home.attach().await;
    let integrity = journal.check_integrity().await.unwrap();
    assert_eq!((integrity.requests, integrity.open_holds), (240, 0));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_silent_server_loses_its_holds_and_finds_them_ended_when_it_wakes() {
    let Some(home) = Home::new() else { return };
    let (sleeper, other) =
        (home.open_with(patient_for(3_000)).await, home.open_with(patient_for(3_000)).await);
    sleeper.hold(hold(request(1))).await.unwrap();
    other.hold(hold(request(2))).await.unwrap();
    assert!(other.beat(at(5_000)).await.unwrap().is_empty(), "nobody is silent yet");
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    let lost = other.beat(at(5_400)).await.unwrap();
    assert_eq!(lost.iter().map(|held| held.hold.request.clone()).collect::<Vec<_>>(), [request(1)]);

    let grow = ledger::Grow { request: request(1), estimate: used(100, 0, 500), at: at(6_000) };
    let grown = sleeper.grow(grow).await.unwrap();
    assert!(matches!(grown, GrowOutcome::Ended(..)), "it must stop its stream: {grown:?}");
    let late = sleeper.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert!(late.repeated);
    // It goes on under a new number.
    sleeper.hold(hold(request(3))).await.unwrap();
    assert_eq!(sleeper.own_open_holds().await.unwrap().len(), 1);
    assert!(sleeper.beat(at(6_001)).await.unwrap().is_empty());
    assert_sound(&other).await;
}

#[tokio::test]
async fn a_price_set_by_one_server_counts_in_the_others_from_the_next_hold_on() {
    let Some(home) = Home::new() else { return };
    let (one, two) = (home.open().await, home.open().await);
    two.hold(hold(request(1))).await.unwrap();
    let change = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
    one.set_prices(vec![change]).await.unwrap();
    let HoldOutcome::Opened(held, _) = two.hold(hold(request(2))).await.unwrap() else {
        panic!("a new hold opens")
    };
    assert!(held.price.is_some());
}
