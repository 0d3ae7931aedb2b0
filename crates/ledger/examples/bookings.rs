//! How many requests a second can be held and settled durably, how long does each call take, and how much disk do they use?
//!
//! `cargo run --release -p ledger --example bookings -- URL [SECONDS [CLIENTS …]]`, where the URL is `sqlite:FILE` or
//! `postgres://…/DATABASE`, new and empty: the disk that it lies on is what is measured.

use std::time::{Duration, Instant, SystemTime};

use domain::{RequestId, Usage, UsageEnd, UsageSource};
use ledger::{Hold, Journal, JournalOptions, LedgerError, PriceChange, Settlement, Sheet, Timestamp};
use sqlx::{Connection, PgConnection};

#[tokio::main]
async fn main() -> Result<(), LedgerError> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the first argument is the ledger's URL");
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut clients: Vec<u64> = arguments.filter_map(|text| text.parse().ok()).collect();
    if clients.is_empty() {
        clients = vec![1, 64, 256];
    }
    let journal = Journal::open_url(&url, JournalOptions::default()).await?;
    let price = |pico| domain::Price::from_pico_per_token(pico);
    let sheet = Sheet::per_token(price(250_000), price(25_000), price(1_000_000));
    journal
        .set_prices(vec![PriceChange { model: "bench".into(), sheet, valid_from: Timestamp::MIN }])
        .await?;
    println!("clients  requests/s   hold p50   hold p99  settle p50  settle p99  bytes/request");
    for (run, clients) in (0..).zip(clients) {
        measure(&journal, &url, run, clients, Duration::from_secs(seconds)).await?;
    }
    // A number counts only if the book that it made balances.
    let began = Instant::now();
    let integrity = journal.check_integrity().await?;
    assert!(integrity.is_sound(), "{:?}", integrity.faults);
    println!(
        "checked {} requests, {} entries in {:.1?}: the ledger balances",
        integrity.requests,
        integrity.entries,
        began.elapsed()
    );
    journal.close().await;
    Ok(())
}

async fn measure(
    journal: &Journal,
    url: &str,
    run: u128,
    clients: u64,
    duration: Duration,
) -> Result<(), LedgerError> {
    let bytes_before = bytes(url).await;
    let begin = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            tokio::spawn(book(journal.clone(), run << 96 | u128::from(client) << 64, begin + duration))
        })
        .collect();
    let (mut holds, mut settles) = (Vec::new(), Vec::new());
    for task in tasks {
        let (held, settled) = task.await.expect("a client ran to its end")?;
        holds.extend(held);
        settles.extend(settled);
    }
    let elapsed = begin.elapsed();
    let count = holds.len();
    println!(
        "{clients:>7}  {:>10.0}  {:>9.2?}  {:>9.2?}  {:>10.2?}  {:>10.2?}  {:>13}",
        count as f64 / elapsed.as_secs_f64(),
        percentile(&mut holds, 50),
        percentile(&mut holds, 99),
        percentile(&mut settles, 50),
        percentile(&mut settles, 99),
        bytes(url).await.saturating_sub(bytes_before) / count.max(1) as u64,
    );
    Ok(())
}

/// One client: hold, settle, and again, until the time is up.
async fn book(
    journal: Journal,
    first: u128,
    until: Instant,
) -> Result<(Vec<Duration>, Vec<Duration>), LedgerError> {
    let (mut holds, mut settles) = (Vec::new(), Vec::new());
    let mut number = first;
    while Instant::now() < until {
        // Scattered like real ids, so that the index works as hard as it will.
        let request = RequestId::from_random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let at = Timestamp::from(SystemTime::now());
        let estimate = Usage { input_uncached: 1_500, output: 400, ..Usage::default() };
        let hold = Hold::new(request.clone(), "acme/research/chatbot".into(), "bench".into(), estimate, at);
        let begin = Instant::now();
        journal.hold(hold).await?;
        holds.push(begin.elapsed());
        let usage = Usage { input_uncached: 300, cache_read: 1_200, output: 250, ..Usage::default() };
        let (end, source) = (UsageEnd::Complete, UsageSource::Measured);
        let begin = Instant::now();
        journal.settle(Settlement { request, usage, end, source, at }).await?;
        settles.push(begin.elapsed());
        number += 1;
    }
    Ok((holds, settles))
}

/// What the ledger takes on disk, without the log that is written over again.
async fn bytes(url: &str) -> u64 {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("the file opens");
        let pages: i64 =
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut connection).await.expect("it says");
        return pages.unsigned_abs() * 4_096;
    }
    let mut connection = PgConnection::connect(url).await.expect("the server answers");
    let size = "SELECT pg_database_size(current_database())";
    let bytes: i64 = sqlx::query_scalar(size).fetch_one(&mut connection).await.expect("it says");
    bytes.unsigned_abs()
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
