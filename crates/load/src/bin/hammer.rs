//! How fast is a gateway that must answer rightly? One job as JSON on standard input, what was measured as JSON on standard output.
//!
//! An *open* load comes at a constant rate, however slow the answers, and times count from the instant a request was due. A
//! *closed* load asks again when it was answered. A *held* load opens streams and says `held` once each has its first token.

use std::collections::BTreeMap;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use load::drill::Order;
use load::drill::pool::{Asking, Pool};
use load::drill::tally::{Outcome, Tally};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    model: String,
    #[serde(default)]
    stream: bool,
    prompt_bytes: usize,
    tokens: u32,
    #[serde(default)]
    first_us: u64,
    #[serde(default)]
    pace_us: u64,
    load: Load,
    seconds: f64,
    /// What is due before this is not measured.
    #[serde(default)]
    warm_seconds: f64,
    timeout_seconds: f64,
    /// The first request's id; each has its own.
    first_id: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Load {
    Open { per_second: f64, under_way_max: usize },
    Closed { connections: usize },
    Held { connections: usize, per_second: f64 },
}

fn main() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let job: Job = serde_json::from_str(&text).context("the job on standard input")?;
    let asking = Asking::new(&job.url, &job.headers, &job.model, job.stream, job.prompt_bytes)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let warm = Duration::from_secs_f64(job.warm_seconds);
    let span = Duration::from_secs_f64(job.seconds);
    let tally = LocalSet::new().block_on(&runtime, run(Rc::new(job), Rc::new(asking)));
    println!("{}", serde_json::to_string(&tally.measured(warm, span))?);
    Ok(())
}

async fn run(job: Rc<Job>, asking: Rc<Asking>) -> Tally {
    let all = Duration::from_secs_f64(job.warm_seconds + job.seconds);
    match job.load {
        Load::Open { per_second, under_way_max } => {
            let count = (per_second * all.as_secs_f64()) as u64;
            open_loop(job, asking, per_second, count, under_way_max, || {}).await
        }
        Load::Closed { connections } => closed_loop(job, asking, connections, all).await,
        Load::Held { connections, per_second } => {
            let mut waiting = connections;
            let (told, mut first_tokens) = mpsc::channel(connections.max(1));
            tokio::task::spawn_local(async move {
                while waiting > 0 && first_tokens.recv().await.is_some() {
                    waiting -= 1;
                }
                println!("{}", if waiting == 0 { "held" } else { "not held" });
            });
            let tell = move || {
                // A place was kept for each stream.
                let _ = told.try_send(());
            };
            open_loop(job, asking, per_second, connections as u64, connections, tell).await
        }
    }
}

/// Sends `count` requests, each at its own instant.
async fn open_loop(
    job: Rc<Job>,
    asking: Rc<Asking>,
    per_second: f64,
    count: u64,
    under_way_max: usize,
    on_first: impl Fn() + Clone + 'static,
) -> Tally {
    let pool = Rc::new(Pool::new(under_way_max));
    let (start, mut due) = (Instant::now(), mpsc::channel(64 << 10));
    let ticking = std::thread::spawn(move || tick(start, per_second, count, due.0));
    let mut requests = JoinSet::new();
    while let Some(index) = due.1.recv().await {
        let (job, asking, pool, on_first) = (job.clone(), asking.clone(), pool.clone(), on_first.clone());
        requests.spawn_local(async move {
            let at = instant(start, per_second, index);
            ask(&job, &asking, &pool, index, start, at, on_first).await
        });
    }
    // Whoever waits for first tokens must learn that no more can come.
    drop(on_first);
    let outcomes = requests.join_all().await;
    ticking.join().expect("the ticking thread only sleeps and sends");
    Tally { outcomes }
}

/// Sleeps outside the runtime, whose timer knows only whole milliseconds.
fn tick(start: Instant, per_second: f64, count: u64, due: mpsc::Sender<u64>) {
    for index in 0..count {
        let wait = instant(start, per_second, index).saturating_duration_since(Instant::now());
        // Shorter sleeps would wake this thread more often than they space the load.
        if wait > Duration::from_micros(50) {
            std::thread::sleep(wait);
        }
        if due.blocking_send(index).is_err() {
            return;
        }
    }
}

fn instant(start: Instant, per_second: f64, index: u64) -> Instant {
    start + Duration::from_secs_f64(index as f64 / per_second)
}

async fn closed_loop(job: Rc<Job>, asking: Rc<Asking>, connections: usize, all: Duration) -> Tally {
    let pool = Rc::new(Pool::new(connections));
    let (start, next) = (Instant::now(), Rc::new(std::cell::Cell::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (job, asking, pool, next) = (job.clone(), asking.clone(), pool.clone(), next.clone());
        clients.spawn_local(async move {
            let mut outcomes = Vec::new();
            while start.elapsed() < all {
                let index = next.replace(next.get() + 1);
                let outcome = ask(&job, &asking, &pool, index, start, Instant::now(), || {}).await;
                if outcome.wrong.is_some() {
                    // A server that refuses at once must not be asked in a tight loop.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcomes.push(outcome);
            }
            outcomes
        });
    }
    Tally { outcomes: clients.join_all().await.into_iter().flatten().collect() }
}

async fn ask(
    job: &Job,
    asking: &Asking,
    pool: &Pool,
    index: u64,
    start: Instant,
    at: Instant,
    on_first: impl Fn(),
) -> Outcome {
    let order =
        Order { id: job.first_id + index, tokens: job.tokens, first_us: job.first_us, pace_us: job.pace_us };
    let limit = Duration::from_secs_f64(job.timeout_seconds);
    let due = at - start;
    match tokio::time::timeout(limit, pool.ask(asking, &order, at, on_first)).await {
        Ok(Ok((first, end))) => Outcome { due, first, end, wrong: None },
        Ok(Err(wrong)) => Outcome { due, first: limit, end: limit, wrong: Some(wrong.to_string()) },
        Err(_) => Outcome {
            due,
            first: limit,
            end: limit,
            wrong: Some(format!("no end within {} s", job.timeout_seconds)),
        },
    }
}
