//! Several servers under one limit: nothing beyond it, and nothing refused that others only keep.

use std::time::Duration;

use ledger::{Action, Amount, Hold, HoldOutcome, Journal, JournalOptions, NewLimit, TEND_PERIOD};

use super::support::*;

fn limit(measure: &str, amount: i64) -> NewLimit {
    NewLimit {
        name: None,
        scope: "local".parse().unwrap(),
        measure: measure.parse().unwrap(),
        amount: Amount(amount),
        window: "total".parse().unwrap(),
        action: Action::Refuse,
        thresholds: vec![100],
        at: at(0),
    }
}

fn tended(journal: &Journal) -> tokio::task::JoinHandle<()> {
    let journal = journal.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TEND_PERIOD).await;
            // A test that is over has closed it.
            if journal.tend(at(10)).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_three_servers_gets_the_whole_limit_and_nothing_beyond_it() {
    let Some(home) = Home::new() else { return };
    const CAP: i64 = 200;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(home.open().await);
    }
    servers[0].set_limit(limit("requests", CAP)).await.unwrap();
    let tending: Vec<_> = servers.iter().map(tended).collect();
    let mut clients = Vec::new();
    for client in 0..48u128 {
        let journal = servers[client as usize % 3].clone();
        clients.push(tokio::spawn(async move {
            let mut opened = 0;
            for number in 0..8 {
                let id = request(client << 32 | number);
                match journal.hold(hold(id.clone())).await.unwrap() {
                    HoldOutcome::Opened(..) => {
                        journal.settle(settlement(id, used(1, 0, 1))).await.unwrap();
                        opened += 1;
                    }
                    HoldOutcome::Refused(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            opened
        }));
    }
    let mut opened = 0;
    for client in clients {
        opened += client.await.unwrap();
    }
    assert_eq!(opened, CAP, "384 asked: no request too many, and none refused while others only kept grants");
    let standings = servers[1].standings(None, at(20)).await.unwrap();
    assert_eq!((standings[0].spent, standings[0].held), (Amount(CAP), Amount(0)));
    tokio::time::sleep(TEND_PERIOD * 3).await;
    let alerts: usize = {
        let mut alerts = 0;
        for server in &servers {
            alerts += server.take_alerts(at(20), 10).await.unwrap().len();
        }
        alerts
    };
    assert_eq!(alerts, 1, "one for all servers");
    tending.iter().for_each(|task| task.abort());
    assert_sound(&servers[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_keeps_is_had_by_another_that_needs_it() {
    let Some(home) = Home::new() else { return };
    let (one, two) = (home.open().await, home.open().await);
    one.set_limit(limit("tokens", 1_000)).await.unwrap();
    let _tending = [tended(&one), tended(&two)];
    // It is granted more than it asked for, and keeps it.
    assert!(matches!(one.hold(hold(request(1))).await.unwrap(), HoldOutcome::Opened(..)));
    let all = Hold { estimate: used(850, 0, 0), ..hold(request(2)) };
    assert!(
        matches!(two.hold(all).await.unwrap(), HoldOutcome::Opened(..)),
        "150 + 850 fit to the last token"
    );
    let began = std::time::Instant::now();
    let outcome = one.hold(hold(request(3))).await.unwrap();
    assert!(matches!(outcome, HoldOutcome::Refused(_)));
    assert!(began.elapsed() < Duration::from_millis(300), "nobody keeps anything: refused at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_servers_grant_is_had_by_the_others_and_its_holds_stay_spent() {
    let Some(home) = Home::new() else { return };
    let options = JournalOptions { silence_max: Duration::from_millis(300), ..JournalOptions::default() };
    let (dead, alive) = (home.open_with(options.clone()).await, home.open_with(options).await);
    alive.set_limit(limit("tokens", 1_000)).await.unwrap();
    assert!(matches!(dead.hold(hold(request(1))).await.unwrap(), HoldOutcome::Opened(..)));
    alive.beat(at(5)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(alive.beat(at(6)).await.unwrap().len(), 1, "its hold is lost, and booked as held");
    alive.tend(at(7)).await.unwrap();
    let rest = Hold { estimate: used(850, 0, 0), ..hold(request(2)) };
    assert!(matches!(alive.hold(rest).await.unwrap(), HoldOutcome::Opened(..)));
    // It wakes, goes on under a new number, and has nothing of what it once was granted.
    assert!(matches!(
        dead.hold(Hold { estimate: used(1, 0, 0), ..hold(request(3)) }).await.unwrap(),
        HoldOutcome::Refused(_)
    ));
    let standings = alive.standings(None, at(8)).await.unwrap();
    assert_eq!((standings[0].spent, standings[0].held), (Amount(150), Amount(850)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_need_many_limits_at_once_never_wait_for_each_other_in_a_circle() {
    let Some(home) = Home::new() else { return };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(home.open().await);
    }
    for account in ["a", "a/b", "c", "c/d"] {
        let scope = account.parse().unwrap();
        servers[0].set_limit(NewLimit { scope, ..limit("tokens", 20_000) }).await.unwrap();
    }
    let _tending: Vec<_> = servers.iter().map(tended).collect();
    let mut clients = Vec::new();
    for client in 0..24u128 {
        let journal = servers[client as usize % 3].clone();
        clients.push(tokio::spawn(async move {
            for number in 0..15u128 {
                let account = ["a/b", "c/d", "a", "c"][(client + number) as usize % 4];
                let id = request(client << 32 | number);
                let hold = Hold { account: account.into(), ..hold(id.clone()) };
                if let HoldOutcome::Opened(..) = journal.hold(hold).await.unwrap() {
                    journal.settle(settlement(id, used(60, 0, 40))).await.unwrap();
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    for standing in servers[0].standings(None, at(20)).await.unwrap() {
        assert!(standing.spent.0 <= 20_000 && standing.held.0 == 0, "{standing:?}");
    }
    assert_sound(&servers[0]).await;
}
