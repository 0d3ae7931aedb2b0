//! How many requests a second can be held and settled durably, how long does each call take, and how much disk do they use?
//!
//! `cargo run --release -p ledger --example speed [-- FOLDER [SECONDS]]`: the folder decides which disk is measured.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use domain::{RequestId, Usage, UsageEnd, UsageSource};
use ledger::{Hold, Journal, LedgerError, PriceChange, Settlement, Sheet, Timestamp, UsageQuery};

#[tokio::main]
async fn main() -> Result<(), LedgerError> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    println!("clients  requests/s   hold p50   hold p99  settle p50  settle p99  bytes/request");
    for clients in [1, 64] {
        let path = folder.join(format!("baseload-speed-{}-{clients}", std::process::id()));
        measure(&path, clients, Duration::from_secs(seconds)).await?;
        let _ = std::fs::remove_dir_all(&path);
    }
    Ok(())
}

async fn measure(folder: &Path, clients: u64, duration: Duration) -> Result<(), LedgerError> {
    let file = folder.join("ledger.sqlite");
    let journal = Journal::open(&file).await?;
    let price = |pico| domain::Price::from_pico_per_token(pico);
    let sheet = Sheet::per_token(price(250_000), price(25_000), price(1_000_000));
    journal
        .set_prices(vec![PriceChange { model: "bench".into(), sheet, valid_from: Timestamp::MIN }])
        .await?;

    let begin = Instant::now();
    let tasks: Vec<_> =
        (0..clients).map(|client| tokio::spawn(book(journal.clone(), client, begin + duration))).collect();
    let (mut holds, mut settles) = (Vec::new(), Vec::new());
    for task in tasks {
        let (held, settled) = task.await.expect("a client ran to its end")?;
        holds.extend(held);
        settles.extend(settled);
    }
    let elapsed = begin.elapsed();

    // A number counts only if the book that it made balances.
    let integrity = journal.check_integrity().await?;
    assert!(integrity.is_sound(), "{:?}", integrity.faults);
    assert_eq!(integrity.requests, holds.len() as u64);
    let report = Instant::now();
    journal.usage(&UsageQuery { by: vec![ledger::Dimension::Account], ..UsageQuery::default() }).await?;
    let report = report.elapsed();
    journal.close().await;
    let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());

    let count = holds.len();
    println!(
        "{clients:>7}  {:>10.0}  {:>9.2?}  {:>9.2?}  {:>10.2?}  {:>10.2?}  {:>13}   usage over {count}: {report:.1?}",
        count as f64 / elapsed.as_secs_f64(),
        percentile(&mut holds, 50),
        percentile(&mut holds, 99),
        percentile(&mut settles, 50),
        percentile(&mut settles, 99),
        bytes / count.max(1) as u64,
    );
    Ok(())
}

/// One client: hold, settle, and again, until the time is up.
async fn book(
    journal: Journal,
    client: u64,
    until: Instant,
) -> Result<(Vec<Duration>, Vec<Duration>), LedgerError> {
    let (mut holds, mut settles) = (Vec::new(), Vec::new());
    let mut number = 0;
    while Instant::now() < until {
        // Scattered like real ids, so that the index works as hard as it will.
        let scattered =
            (u128::from(client) << 64 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let request = RequestId::from_random(scattered);
        let at = Timestamp::from(SystemTime::now());
        let estimate = Usage { input_uncached: 1_500, output: 400, ..Usage::default() };
        let hold =
            Hold::new(request.clone(), "local".into(), "bench".into(), estimate, at);
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

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
