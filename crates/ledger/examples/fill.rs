//! Fills a ledger with requests of the past months, through the book itself, so that reports can be timed on it.
//!
//! `cargo run --release -p ledger --example fill -- URL [REQUESTS [DAYS]]`: three entries for each request, 40 teams of 5
//! organisations, 12 models, spread evenly over the days.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use domain::{ModelName, Price, RequestId, Usage, UsageEnd, UsageSource};
use ledger::{Hold, Journal, JournalOptions, LedgerError, PriceChange, Settlement, Sheet, Timestamp};

/// As many calls as two batches hold: while one is written, the next one fills.
const CLIENTS: u64 = 512;
const DAY_MS: u64 = 86_400_000;

#[tokio::main]
async fn main() -> Result<(), LedgerError> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the first argument is the ledger's URL");
    let requests: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3_400_000);
    let days: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    let journal = Journal::open_url(&url, JournalOptions::default()).await?;
    let sheet = |cents: u64| {
        let price = |tenths: u64| Price::from_pico_per_token(cents * tenths * 1_000);
        Sheet::per_token(price(10), price(1), price(40))
    };
    let change =
        |number| PriceChange { model: model(number), sheet: sheet(number + 1), valid_from: Timestamp::MIN };
    // One model stays without a price.
    journal.set_prices((0..11).map(change).collect()).await?;

    let (next, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let end = Timestamp::from(SystemTime::now()).millis();
    let begin = end - (days * DAY_MS) as i64;
    let step_ms = (days * DAY_MS) as f64 / requests as f64;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (journal, next) = (journal.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return Ok::<(), LedgerError>(());
                    }
                    let at = Timestamp::from_millis(begin + (number as f64 * step_ms) as i64);
                    book(&journal, number, at).await?;
                    if number % 500_000 == 499_999 {
                        println!("{} requests after {:.0?}", number + 1, began.elapsed());
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client ran to its end")?;
    }
    println!("{requests} requests in {:.0?}", began.elapsed());
    journal.close().await;
    Ok(())
}

async fn book(journal: &Journal, number: u64, at: Timestamp) -> Result<(), LedgerError> {
    // The same numbers each time, scattered.
    let chance = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17;
    let request =
        RequestId::from_random(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let account = format!("org-{}/team-{}/app", chance % 5, chance % 40);
    let estimate = Usage { input_uncached: 1_500 + chance % 700, output: 400, ..Usage::default() };
    journal
        .hold(Hold::new(request.clone(), account.as_str().into(), model(chance % 12), estimate, at))
        .await?;
    let usage =
        Usage { input_uncached: 300, cache_read: chance % 1_200, output: 50 + chance % 300, ..estimate };
    let (end, source) = (UsageEnd::Complete, UsageSource::Measured);
    journal.settle(Settlement { request, usage, end, source, at }).await?;
    Ok(())
}

fn model(number: u64) -> ModelName {
    ModelName::new(format!("model-{number}"))
}
