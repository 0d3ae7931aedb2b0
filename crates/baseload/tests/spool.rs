//! With `when_unavailable = "spool"`: are clients served while Postgres is dead or slow, and is each request booked exactly once
//! afterwards?

mod support;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/slow_link.rs"]
mod slow_link;

use std::path::Path;
use std::time::{Duration, Instant};

use ledger::Journal;
use postgres::Postgres;
use serde_json::json;
use slow_link::SlowLink;
use support::Server;

const SIGKILL: i32 = 9;
const BOOKED_WITHIN: Duration = Duration::from_secs(60);

fn serve(data: &Path, url: &str) -> Server {
    let config = data.join("baseload.toml");
    std::fs::write(&config, "[ledger]\nwhen_unavailable = \"spool\"\n").unwrap();
    Server::start(data, &["--config", config.to_str().unwrap(), "--ledger", url])
}

/// Asks, and returns whether the answer says that it is not booked yet.
async fn ask(server: &Server) -> bool {
    let began = Instant::now();
    let response = server.chat(json!({"max_tokens": 2})).send().await.expect("the server answers");
    assert_eq!(response.status(), 200, "after {:?}", began.elapsed());
    let is_spooled = response.headers().get("x-baseload-unbooked").is_some_and(|value| value == "spooled");
    response.bytes().await.expect("the answer is whole");
    println!("served after {:?}, spooled: {is_spooled}", began.elapsed());
    is_spooled
}

/// Waits until the file is empty, and checks that the book has so many requests, all ended, and balances.
async fn assert_booked_once(data: &Path, url: &str, requests: usize) {
    let began = Instant::now();
    while std::fs::metadata(data.join("spool.jsonl")).unwrap().len() > 0 {
        assert!(began.elapsed() < BOOKED_WITHIN, "the spool is not emptied");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("booked {:?} after the store was back", began.elapsed());
    let journal = Journal::attach_url(url).await.unwrap();
    let rows = journal.recent_requests(1_000).await.unwrap();
    assert_eq!(rows.len(), requests);
    assert!(rows.iter().all(|row| row.ending.is_some()), "{rows:?}");
    let integrity = journal.check_integrity().await.unwrap();
    assert!(integrity.is_sound() && integrity.open_holds == 0, "{integrity:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_dead_postgres_requests_are_served_and_booked_once_when_it_is_back() {
    let Some(postgres) = Postgres::start() else { return };
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &postgres.url());
    assert!(!ask(&server).await);
    let long = server.chat(json!({"ignore_eos": true, "max_tokens": 600, "stream": true}));
    let long = long.send().await.expect("the server answers");
    postgres.kill();
    for _ in 0..5 {
        assert!(ask(&server).await, "it says so");
    }
    let heard = long.text().await.expect("the stream is whole");
    assert!(heard.contains("[DONE]"), "its end is in the spool, so it may be told: {heard}");
    postgres.begin();
    assert_booked_once(data.path(), &postgres.url(), 7).await;
    assert!(!ask(&server).await, "limits hold again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_slow_postgres_only_the_first_requests_wait() {
    let Some(postgres) = Postgres::start() else { return };
    let link = SlowLink::to(postgres.port).await;
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &postgres.url_through(link.port));
    assert!(!ask(&server).await);
    link.delay(Duration::from_secs(20));
    let seen = futures_util::future::join_all((0..8).map(|_| ask(&server))).await;
    assert!(seen.into_iter().all(|is_spooled| is_spooled));
    let began = Instant::now();
    assert!(ask(&server).await);
    assert!(began.elapsed() < Duration::from_secs(4), "nobody waits for the ledger any more");
    link.delay(Duration::ZERO);
    assert_booked_once(data.path(), &postgres.url(), 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_has_left_in_its_spool_is_booked_at_the_next_start() {
    let Some(postgres) = Postgres::start() else { return };
    let data = tempfile::tempdir().unwrap();
    let mut server = serve(data.path(), &postgres.url());
    postgres.kill();
    assert!(ask(&server).await);
    assert!(ask(&server).await);
    server.signal(SIGKILL);
    server.wait();
    postgres.begin();
    let _again = serve(data.path(), &postgres.url());
    assert_booked_once(data.path(), &postgres.url(), 2).await;
}
