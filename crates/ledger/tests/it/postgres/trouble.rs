//! A server that is gone, slow, strange or newer: what callers see, and that the writer recovers by itself.

use std::time::{Duration, Instant};

use ledger::{Journal, JournalOptions, LedgerError};
use sqlx::Executor;

use super::support::*;

#[tokio::test]
async fn connections_that_are_cut_are_made_again() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    home.cut().await;
    // The first call may meet the cut; nothing that failed is booked in part.
    let mut tries = 0;
    while let Err(error) = journal.hold(hold(request(2))).await {
        assert!(error.is_retryable(), "{error}");
        tries += 1;
        assert!(tries < 5, "{error}");
    }
    journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_server_that_is_slow_fails_calls_within_the_limit_and_takes_them_again_after() {
    let Some(home) = Home::new() else { return };
    let options = JournalOptions { call_wait_max: Duration::from_millis(400), ..JournalOptions::default() };
    let journal = home.open_with(options).await;
    journal.hold(hold(request(1))).await.unwrap();
    let mut stranger = home.stranger().await;
    stranger.execute("BEGIN; LOCK TABLE entry IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let began = Instant::now();
    let error = journal.hold(hold(request(2))).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { doing: "holding", .. }), "{error}");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    stranger.execute("ROLLBACK").await.unwrap();
    journal.hold(hold(request(2))).await.unwrap();
    journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_said_and_recovered_from() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    let database = home.url().rsplit('/').next().unwrap().to_owned();
    home.meddle(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await.unwrap();
    home.cut().await;
    let mut said = String::new();
    for number in 2..5 {
        if let Err(error) = journal.hold(hold(request(number))).await {
            assert!(error.is_retryable(), "{error}");
            said = error.to_string();
        }
    }
    assert!(said.contains("read-only"), "{said}");
    let elsewhere = format!("ALTER DATABASE {database} RESET default_transaction_read_only");
    Home::new().unwrap().meddle(&elsewhere).await.unwrap();
    home.cut().await;
    while journal.hold(hold(request(9))).await.is_err() {}
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_newer_schema_and_a_strangers_database_are_refused() {
    let Some(home) = Home::new() else { return };
    home.open().await.close().await;
    home.meddle("UPDATE baseload_ledger SET schema = 99").await.unwrap();
    let error = Journal::attach_url(&home.url()).await.unwrap_err();
    assert!(matches!(error, LedgerError::NewerSchema { found: 99, .. }), "{error}");

    let Some(other) = Home::new() else { return };
    other.meddle("CREATE TABLE recipes (name text)").await.unwrap();
    let error = Journal::attach_url(&other.url()).await.unwrap_err().to_string();
    assert!(error.contains("a database of another program"), "{error}");
}

#[tokio::test]
async fn a_url_that_leads_nowhere_is_refused_without_saying_its_password() {
    let options = JournalOptions { call_wait_max: Duration::from_secs(1), ..JournalOptions::default() };
    for url in [
        "postgres://someone:open-sesame@127.0.0.1:1/ledger",
        "mysql://someone:open-sesame@127.0.0.1/ledger",
        "postgres://someone:open-sesame@127.0.0.1:x/ledger",
        "sqlite:",
    ] {
        let error = Journal::open_url(url, options.clone()).await.unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("sesame"), "{text}");
        }
    }
}

#[tokio::test]
async fn many_servers_that_start_at_once_make_one_schema() {
    let Some(home) = Home::new() else { return };
    let opening = (0..6).map(|_| {
        let url = home.url();
        tokio::spawn(async move { Journal::open_url(&url, JournalOptions::default()).await })
    });
    for server in opening.collect::<Vec<_>>() {
        server.await.unwrap().unwrap();
    }
}
