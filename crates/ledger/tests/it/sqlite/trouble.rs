//! A store that is locked, full, strange or newer: what callers see, and that the writer recovers by itself.

use std::time::Duration;

use ledger::{Journal, JournalOptions, LedgerError};
use sqlx::{Connection, Executor};

use super::support::*;

#[tokio::test]
async fn a_second_server_on_the_same_ledger_is_refused_by_name() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let error = Journal::open(&home.path()).await.unwrap_err();
    let LedgerError::InUse { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, format!("process {}", std::process::id()));
    journal.close().await;
    Journal::open(&home.path()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_journal_gives_up_its_lock() {
    let Some(home) = Home::new() else { return };
    drop(home.open().await);
    // The writer notices at its next turn.
    for _ in 0..500 {
        match Journal::open(&home.path()).await {
            Ok(_) => return,
            Err(LedgerError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the lock was never given up");
}

#[tokio::test]
async fn a_tool_attached_beside_the_server_reads_but_may_not_book() {
    let Some(home) = Home::new() else { return };
    let server = home.open().await;
    server.hold(hold(request(1))).await.unwrap();
    let tool = home.attach().await;
    assert_eq!(tool.open_holds().await.unwrap().len(), 1);
    let error =
        tool.expire_holds(vec![request(1)], ledger::LossReason::ProcessLost, at(3_000)).await.unwrap_err();
    assert_eq!(error, LedgerError::Attached { doing: "expiring holds" });
    let error = tool.settle(settlement(request(1), used(1, 0, 1))).await.unwrap_err();
    assert_eq!(error, LedgerError::Attached { doing: "settling" });
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_numbers_and_left_alone() {
    let Some(home) = Home::new() else { return };
    home.open().await.close().await;
    home.stranger().await.execute("PRAGMA user_version = 99").await.unwrap();
    for result in [Journal::open(&home.path()).await, Journal::attach(&home.path()).await] {
        let error = result.unwrap_err();
        assert!(matches!(error, LedgerError::NewerSchema { found: 99, known: 3, .. }), "{error}");
    }
    let version: i64 =
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut home.stranger().await).await.unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn files_that_are_no_ledger_are_refused_with_their_path() {
    let Some(home) = Home::new() else { return };
    let path = home.path();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "this is a letter, and quite long enough to be looked at as a header ".repeat(20))
        .unwrap();
    let letter = Journal::open(&path).await.unwrap_err().to_string();
    assert!(letter.contains(path.to_str().unwrap()) && letter.contains("not a database"), "{letter}");

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let folder = Journal::open(&path).await.unwrap_err();
    assert!(matches!(folder, LedgerError::Open { .. }), "{folder}");

    let under_a_file = home.path().parent().unwrap().join("file");
    std::fs::write(&under_a_file, "").unwrap();
    let error = Journal::open(&under_a_file.join("ledger.sqlite")).await.unwrap_err().to_string();
    assert!(error.contains("cannot make the folder"), "{error}");

    let other = home.path().parent().unwrap().join("other.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&other).create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute("CREATE TABLE recipes (name TEXT)").await.unwrap();
    connection.close().await.unwrap();
    let error = Journal::open(&other).await.unwrap_err().to_string();
    assert!(error.contains("a database of another program"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_named_books_nothing_and_recovers_when_there_is_space() {
    let Some(home) = Home::new() else { return };
    home.open().await.close().await;
    let mut stranger = home.stranger().await;
    stranger.execute("CREATE TABLE filler (bytes BLOB)").await.unwrap();
    stranger.execute("INSERT INTO filler VALUES (zeroblob(400000))").await.unwrap();
    let options = JournalOptions { size_bytes_max: Some(480_000), ..JournalOptions::default() };
    let journal = home.open_with(options).await;

    let mut booked = 0;
    let full = loop {
        match journal.hold(hold(request(booked))).await {
            Ok(_) => booked += 1,
            Err(error) => break error,
        }
        assert!(booked < 100_000, "the disk never filled");
    };
    assert_eq!(full, LedgerError::DiskFull { ledger: home.path().display().to_string() });
    assert!(full.is_retryable());
    let integrity = journal.check_integrity().await.unwrap();
    assert_eq!(u128::from(integrity.requests), booked, "a refused hold is not booked");
    assert_sound(&journal).await;

    stranger.execute("DROP TABLE filler").await.unwrap();
    journal.hold(hold(request(booked))).await.unwrap();
    journal.settle(settlement(request(0), used(1, 0, 1))).await.unwrap();
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_store_that_somebody_else_locks_fails_within_the_limit_and_works_again_after() {
    let Some(home) = Home::new() else { return };
    let options = JournalOptions { call_wait_max: Duration::from_millis(400), ..JournalOptions::default() };
    let journal = home.open_with(options).await;
    journal.hold(hold(request(1))).await.unwrap();
    let mut stranger = home.stranger().await;
    stranger.execute("BEGIN IMMEDIATE").await.unwrap();

    let error = journal.hold(hold(request(2))).await.unwrap_err();
    let LedgerError::Unavailable { doing: "holding", why } = &error else { panic!("{error}") };
    assert!(why.contains("locked"), "{why}");
    // Reads go on meanwhile.
    assert_eq!(journal.open_holds().await.unwrap().len(), 1);

    stranger.execute("ROLLBACK").await.unwrap();
    journal.hold(hold(request(2))).await.unwrap();
    journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_settlement_whose_answer_came_too_late_is_booked_all_the_same() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    let mut stranger = home.stranger().await;
    stranger.execute("BEGIN IMMEDIATE").await.unwrap();
    let settling = journal.settle(settlement(request(1), used(1, 0, 1)));
    tokio::time::timeout(Duration::from_millis(100), settling).await.expect_err("its caller gives up");
    stranger.execute("ROLLBACK").await.unwrap();
    journal.close().await;

    let journal = home.open().await;
    let again = journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert!(again.repeated, "repeating it is answered with what was booked");
}

#[tokio::test]
async fn a_hold_that_nobody_waits_for_any_more_is_not_booked() {
    let Some(home) = Home::new() else { return };
    let options = JournalOptions { call_wait_max: Duration::from_millis(600), ..JournalOptions::default() };
    let journal = home.open_with(options).await;
    let mut stranger = home.stranger().await;
    stranger.execute("BEGIN IMMEDIATE").await.unwrap();
    // The first keeps the writer busy at the lock; the second waits behind it and gives up.
    let first = tokio::spawn({
        let journal = journal.clone();
        async move { journal.hold(hold(request(1))).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = tokio::time::timeout(Duration::from_millis(50), journal.hold(hold(request(2)))).await;
    assert!(second.is_err(), "it had to wait");
    assert!(first.await.unwrap().is_err());
    stranger.execute("ROLLBACK").await.unwrap();
    journal.hold(hold(request(3))).await.unwrap();
    let open = journal.open_holds().await.unwrap();
    assert_eq!(open.iter().map(|held| held.hold.request.clone()).collect::<Vec<_>>(), [request(3)]);
}
