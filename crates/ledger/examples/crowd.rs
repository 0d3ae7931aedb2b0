//! How much is spent beyond a limit, and how often is somebody refused while there is room, when processes share it?
//!
//! `cargo run --release -p ledger --example crowd -- postgres://…/DATABASE [PROCESSES [CLIENTS]]`, on an empty database. Each process
//! is a real one. Clients stream without an engine: they hold a little, grow the hold before they deliver more than is held,
//! and settle; again and again, until they are refused while nobody streams any more.
//!
//! With `CROWD=strangers` every client is a user whom nobody has seen, with a limit of one answer and a half, and asks once, from every
//! process at the same moment.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use domain::{RequestId, Usage, UsageEnd, UsageSource};
use ledger::{
    Action, Amount, Grow, GrowOutcome, Hold, HoldOutcome, Journal, JournalOptions, NewLimit, PriceChange,
    Settlement, Sheet, TEND_PERIOD, Timestamp,
};

/// 0.30 USD, as in the crowd's definition: 1 USD a million in, 10 out.
const CAP_PICO: i64 = 300_000_000_000;
const INPUT: u64 = 20;
const ANSWER: u64 = 200;
/// 0.0015 USD for each stranger, whose answers are half as long: three of them cost 0.0036.
const STRANGERS_CAP_PICO: i64 = 1_500_000_000;
/// Tokens that are held at first, and by which a hold grows.
const STEP: u64 = 32;
const PIECE: u64 = 4;
const PAUSE: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = arguments.first().expect("the first argument is the ledger's URL").clone();
    let number = |index: usize, default: u64| {
        arguments.get(index).map_or(default, |text| text.parse().expect("a number"))
    };
    match std::env::var("CROWD_PROCESS") {
        Ok(process) => stream(url, process.parse().expect("a number"), number(1, 1)).await,
        Err(_) => direct(url, number(1, 3), number(2, 64)).await,
    }
}

async fn direct(url: String, processes: u64, clients: u64) {
    let journal = Journal::open_url(&url, JournalOptions::default()).await.expect("the ledger opens");
    let pico = domain::Price::from_pico_per_token;
    let sheet = Sheet::per_token(pico(1_000_000), pico(1_000_000), pico(10_000_000));
    journal
        .set_prices(vec![PriceChange { model: "bench".into(), sheet, valid_from: Timestamp::MIN }])
        .await
        .expect("a price");
    let limit = NewLimit {
        name: None,
        scope: if are_strangers() { "each end_user of crowd" } else { "crowd" }.parse().expect("a scope"),
        measure: "money".parse().expect("a measure"),
        amount: Amount(cap()),
        window: "total".parse().expect("a window"),
        action: Action::Refuse,
        thresholds: Vec::new(),
        at: now(),
    };
    journal.set_limit(limit).await.expect("a limit");
    let began = Instant::now();
    let children: Vec<_> = (0..processes)
        .map(|process| {
            let mine = clients / processes + u64::from(process < clients % processes);
            Command::new(std::env::current_exe().expect("its own path"))
                .args([&url, &mine.to_string()])
                .env("CROWD_PROCESS", process.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process starts")
        })
        .collect();
    let (mut whole, mut cut, mut refused, mut falsely, mut delivered) = (0, 0, 0, 0, 0);
    for child in children {
        let output =
            tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().expect("it ends");
        assert!(output.status.success());
        let counts: Vec<i64> = String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        whole += counts[0];
        cut += counts[1];
        refused += counts[2];
        falsely += counts[3];
        delivered += counts[4];
    }
    let standings = journal.standings(None, now()).await.expect("they can be read");
    let integrity = journal.check_integrity().await.expect("it can be checked");
    assert!(integrity.is_sound() && integrity.open_holds == 0, "{integrity:?}");
    println!(
        "{processes} processes, {clients} clients, {:.1?}: {whole} answers whole, {cut} cut by the limit, {refused} refused",
        began.elapsed()
    );
    let sum = |of: &dyn Fn(i64) -> i64| standings.iter().map(|standing| of(standing.spent.0)).sum::<i64>();
    println!(
        "{} budget(s) of {} picodollars: spent {}, overshoot {}, stated bound 0, left {}, nothing got by {}",
        standings.len(),
        cap(),
        sum(&|spent| spent),
        sum(&|spent| (spent - cap()).max(0)),
        sum(&|spent| (cap() - spent).max(0)),
        standings.iter().filter(|standing| standing.spent.0 == 0).count(),
    );
    println!("refused while the book had room for the first step at its refusal: {falsely}");
    println!("delivered tokens {delivered}, the ledger balances over {} requests", integrity.requests);
    journal.close().await;
}

async fn stream(url: String, process: u64, clients: u64) {
    let journal = Journal::open_url(&url, JournalOptions::default()).await.expect("the ledger opens");
    let tending = tokio::spawn(tend(journal.clone()));
    if are_strangers() {
        // At the same moment in every process: at the next even second.
        let wait = 2_000 - now().millis() % 2_000;
        tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())).await;
    }
    // When somebody last got anything; all processes end soon after the last one did.
    let last = Arc::new(AtomicI64::new(now().millis()));
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            tokio::spawn(ask_until_all_is_gone(journal.clone(), process << 32 | client, last.clone()))
        })
        .collect();
    let mut sums = [0i64; 5];
    for task in tasks {
        let counts = task.await.expect("a client ends");
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    tending.abort();
    journal.close().await;
    println!("{}", sums.map(|sum| sum.to_string()).join(" "));
}

async fn tend(journal: Journal) {
    for beat in 0.. {
        tokio::time::sleep(TEND_PERIOD).await;
        let _ = journal.tend(now()).await;
        if beat % 8 == 0 {
            let _ = journal.beat(now()).await;
        }
    }
}

/// Returns answers whole, cut, refused, falsely refused, and tokens delivered.
async fn ask_until_all_is_gone(journal: Journal, client: u64, last: Arc<AtomicI64>) -> [i64; 5] {
    let mut counts = [0; 5];
    for turn in 0.. {
        let request = RequestId::from_random(u128::from(client) << 64 | turn);
        let estimate = |output| Usage { input_uncached: INPUT, output, ..Usage::default() };
        let mut hold = Hold::new(request.clone(), "crowd".into(), "bench".into(), estimate(STEP), now());
        hold.end_user = are_strangers().then(|| format!("user-{}", client as u32));
        match journal.hold(hold).await.expect("the ledger answers") {
            HoldOutcome::Opened(..) => {}
            HoldOutcome::Refused(shortage) => {
                counts[2] += 1;
                counts[3] += i64::from(has_room(&journal, shortage.needed.0).await);
                if are_strangers() || now().millis() - last.load(Ordering::Relaxed) > QUIET.as_millis() as i64
                {
                    return counts;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            other => panic!("{other:?}"),
        }
        let (mut held, mut delivered) = (STEP, 0);
        while delivered < answer() {
            if delivered + PIECE > held {
                let grow = Grow { request: request.clone(), estimate: estimate(held + STEP), at: now() };
                match journal.grow(grow).await.expect("the ledger answers") {
                    GrowOutcome::Grown(..) => held += STEP,
                    _ => break,
                }
            }
            tokio::time::sleep(PAUSE).await;
            delivered += PIECE;
        }
        let usage = estimate(delivered);
        let (end, source) = if delivered < answer() {
            (UsageEnd::Truncated, UsageSource::Measured)
        } else {
            (UsageEnd::Complete, UsageSource::Measured)
        };
        journal
            .settle(Settlement { request, usage, end, source, at: now() })
            .await
            .expect("the ledger answers");
        counts[usize::from(delivered < answer())] += 1;
        counts[4] += delivered as i64;
        last.store(now().millis(), Ordering::Relaxed);
        if are_strangers() {
            break;
        }
    }
    counts
}

/// Whether all that is spent and held, by whomever, leaves room right after a refusal: others may have ended meanwhile, so
/// this counts some refusals that were right.
async fn has_room(journal: &Journal, needed: i64) -> bool {
    let standings = journal.standings(None, now()).await.expect("it can be read");
    !are_strangers() && CAP_PICO - standings[0].spent.0 - standings[0].held.0 >= needed
}

fn are_strangers() -> bool {
    std::env::var("CROWD").is_ok_and(|word| word == "strangers")
}
fn cap() -> i64 {
    if are_strangers() { STRANGERS_CAP_PICO } else { CAP_PICO }
}
fn answer() -> u64 {
    if are_strangers() { ANSWER / 2 } else { ANSWER }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
