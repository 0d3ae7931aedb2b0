//! A ledger of the first release, written by its own SQL, opens as one of today's.

use domain::Money;
use ledger::{Dimension, How, LossReason, UsageQuery};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::support::*;

/// What the first release left: one settled request with a price, one released, one lost, one open, one without a price.
const BOOKED: &str = "
    INSERT INTO account (id, name) VALUES (3, 'local');
    INSERT INTO model VALUES (1, 'tiny'), (2, 'free');
    INSERT INTO price VALUES (1, 1, 0, 1000000, 100000, NULL, NULL, 4000000);
    INSERT INTO hold VALUES (1, x'00000000000000000000000000000001', 3, 1, 1, 1000), (2, 'named', 3, 1, 1, 1000),
        (3, x'00000000000000000000000000000003', 3, 1, 1, 1000), (4, x'00000000000000000000000000000004', 3, 1, 1, 3600000),
        (5, x'00000000000000000000000000000005', 3, 2, NULL, 1000);
    INSERT INTO entry VALUES
        (1, 0, 3, 1, 100, 0, 0, 0, 50, 300000000), (1, 1, 1, 2, 100, 0, 0, 0, 20, 180000000), (1, 2, 1, 3, 0, 0, 0, 0, 30, 120000000),
        (2, 0, 3, 1, 100, 0, 0, 0, 50, 300000000), (2, 1, 1, 3, 100, 0, 0, 0, 50, 300000000),
        (3, 0, 3, 1, 100, 0, 0, 0, 50, 300000000), (3, 1, 1, 3, 100, 0, 0, 0, 50, 300000000),
        (4, 0, 3, 1, 100, 0, 0, 0, 50, 300000000),
        (5, 0, 3, 1, 100, 0, 0, 0, 50, 0), (5, 1, 1, 2, 10, 0, 0, 0, 5, 0), (5, 2, 1, 3, 90, 0, 0, 0, 45, 0);
    INSERT INTO ending VALUES
        (1, 2000, 1, 1, 1, 100, 0, 0, 0, 20, 3, 180000000), (2, 2000, 2, 1, NULL, 0, 0, 0, 0, 0, 0, 0),
        (3, 2000, 3, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (5, 2000, 1, 1, 1, 10, 0, 0, 0, 5, 0, NULL);
    INSERT INTO open_hold VALUES (4);
    INSERT INTO api_key VALUES ('key-1', x'00', 'laptop', 3, 5, NULL);
";

#[tokio::test]
async fn a_ledger_of_the_first_release_opens_and_goes_on() {
    let Some(home) = Home::new() else { return };
    write_first_release(&home).await;
    let journal = home.open().await;
    assert_sound(&journal).await;

    let settled = journal.requests(&[request(1)]).await.unwrap().remove(0);
    assert_eq!(settled.ending.as_ref().unwrap().cost, Some(Money::from_pico(180_000_000)));
    assert_eq!(settled.held.price.unwrap().sheet, sheet());
    let lost = journal.requests(&[request(3)]).await.unwrap().remove(0).ending.unwrap();
    assert_eq!(lost.how, How::Lost { reason: LossReason::ProcessLost, estimate: None });

    let by_model = UsageQuery { by: vec![Dimension::Model], ..UsageQuery::default() };
    let rows = journal.usage(&by_model).await.unwrap();
    let [free, tiny] = &rows[..] else { panic!("{rows:?}") };
    let (free, tiny) = (&free.sums, &tiny.sums);
    assert_eq!((free.requests, free.unpriced.requests, free.unpriced.usage), (1, 1, used(10, 0, 5)));
    assert_eq!((tiny.requests, tiny.open_requests, tiny.unknown_requests), (4, 1, 1));
    assert_eq!(tiny.priced.cost.to_string(), "0.00018");

    // What was open belongs to nobody who lives, so the first beat closes it, with what it held.
    let closed = journal.beat(at(9_000)).await.unwrap();
    assert_eq!(closed.len(), 1);
    journal.hold(hold(request(6))).await.unwrap();
    let ended = journal.settle(settlement(request(6), used(100, 900, 10))).await.unwrap();
    assert_eq!(ended.ending.cost.unwrap().to_string(), "0.00023");
    assert_sound(&journal).await;
}

async fn write_first_release(home: &Home) {
    std::fs::create_dir_all(home.path().parent().unwrap()).unwrap();
    let options = SqliteConnectOptions::new().filename(home.path()).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let marks = format!("PRAGMA application_id = {}; PRAGMA user_version = 1;", 0x4261_7365);
    for text in [include_str!("../../../src/journal/sqlite/1.sql"), BOOKED, &marks] {
        sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}
