//! How a plan of arrivals becomes samples: the two loops, closed and open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

use crate::client::{Endpoint, Sample};
use crate::plan::{Arrivals, Lengths, poisson_gap};
use crate::prompt::PromptMaker;
use crate::stats::{Slo, Summary};

#[derive(Clone, Debug)]
pub struct RunOptions {
    pub arrivals: Arrivals,
    pub requests: usize,
    /// No request is sent after this.
    pub duration: Option<Duration>,
    pub prompt_tokens: Lengths,
    pub output_tokens: Lengths,
    pub shared_prefix_tokens: usize,
    pub warmup: usize,
    pub seed: u64,
    pub slo: Slo,
}

/// One request that will be sent.
struct Planned {
    /// Open loop and trace: when, after the start.
    at: Duration,
    prompt: String,
    output_tokens: usize,
}

/// Runs the plan against the endpoint, with a progress bar on standard error, and returns what was measured.
pub async fn run(endpoint: &Endpoint, options: &RunOptions) -> anyhow::Result<Summary> {
    options.arrivals.check()?;
    let mut random = SmallRng::seed_from_u64(options.seed);
    let maker = PromptMaker::calibrate(endpoint, &mut random).await?;
    warm_up(endpoint, options, &maker, &mut random).await;
    let planned = plan(options, &maker, &mut random);
    let progress = progress_bar(planned.len(), &options.arrivals.label());
    let start = Instant::now();
    let samples = match &options.arrivals {
        Arrivals::Closed { concurrency } => {
            closed_loop(endpoint, planned, *concurrency, options.duration, start, &progress).await
        }
        Arrivals::Open { .. } | Arrivals::Trace(_) => {
            open_loop(endpoint, planned, options.duration, start, &progress).await
        }
    };
    progress.finish_and_clear();
    Ok(Summary::of(options.arrivals.label(), endpoint.model(), samples, start.elapsed(), options.slo))
}

async fn warm_up(endpoint: &Endpoint, options: &RunOptions, maker: &PromptMaker, random: &mut SmallRng) {
    for _ in 0..options.warmup {
        let prompt = maker.make(options.prompt_tokens.most, "", random);
        endpoint.ask(&prompt, options.output_tokens.least).await;
    }
}

/// Draws everything before the clock starts, so that drawing costs no measured time.
fn plan(options: &RunOptions, maker: &PromptMaker, random: &mut SmallRng) -> Vec<Planned> {
    let shared = maker.prefix(options.shared_prefix_tokens, random);
    if let Arrivals::Trace(arrivals) = &options.arrivals {
        let first = arrivals.first().map_or(0.0, |arrival| arrival.arrival_ms);
        let planned = arrivals.iter().map(|arrival| Planned {
            at: Duration::from_secs_f64((arrival.arrival_ms - first) / 1e3),
            prompt: maker.make(arrival.input_tokens, &shared, random),
            output_tokens: arrival.output_tokens,
        });
        return planned.collect();
    }
    let mut at = Duration::ZERO;
    let mut planned = Vec::with_capacity(options.requests);
    for _ in 0..options.requests {
        let prompt = maker.make(options.prompt_tokens.draw(random), &shared, random);
        planned.push(Planned { at, prompt, output_tokens: options.output_tokens.draw(random) });
        if let Arrivals::Open { per_second } = options.arrivals {
            at += poisson_gap(per_second, random);
        }
    }
    planned
}

async fn closed_loop(
    endpoint: &Endpoint,
    planned: Vec<Planned>,
    concurrency: usize,
    duration: Option<Duration>,
    start: Instant,
    progress: &ProgressBar,
) -> Vec<Sample> {
    let (planned, next) = (Arc::new(planned), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..concurrency {
        let (endpoint, planned, next, progress) =
            (endpoint.clone(), planned.clone(), next.clone(), progress.clone());
        clients.spawn(async move {
            let mut samples = Vec::new();
            while let Some(request) = planned.get(next.fetch_add(1, Ordering::Relaxed)) {
                if duration.is_some_and(|duration| start.elapsed() >= duration) {
                    break;
                }
                samples.push(ask(&endpoint, request, start, &progress).await);
            }
            samples
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

async fn open_loop(
    endpoint: &Endpoint,
    planned: Vec<Planned>,
    duration: Option<Duration>,
    start: Instant,
    progress: &ProgressBar,
) -> Vec<Sample> {
    let mut requests = JoinSet::new();
    for request in planned {
        if duration.is_some_and(|duration| request.at >= duration) {
            break;
        }
        tokio::time::sleep_until((start + request.at).into()).await;
        let (endpoint, progress) = (endpoint.clone(), progress.clone());
        requests.spawn(async move { ask(&endpoint, &request, start, &progress).await });
    }
    requests.join_all().await
}

async fn ask(endpoint: &Endpoint, request: &Planned, start: Instant, progress: &ProgressBar) -> Sample {
    let sent = start.elapsed();
    let mut sample = endpoint.ask(&request.prompt, request.output_tokens).await;
    sample.sent = sent;
    progress.inc(1);
    sample
}

fn progress_bar(requests: usize, label: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>12} [{bar:30}] {pos}/{len} requests, {elapsed} (about {eta} left)",
    )
    .expect("the template is well-formed");
    ProgressBar::new(requests as u64).with_style(style.progress_chars("=> ")).with_prefix(label.to_owned())
}
