//! `baseload bench`: how an endpoint behaves under load.

use std::time::Duration;

use anyhow::Context;
use load::{Arrivals, Endpoint, Lengths, Report, RunOptions, Slo};
use serde_json::json;

use crate::cli::BenchArgs;

pub async fn bench(args: BenchArgs) -> anyhow::Result<()> {
    let prompt_tokens: Lengths = args.prompt_tokens.parse().context("--prompt-tokens")?;
    let output_tokens: Lengths = args.output_tokens.parse().context("--output-tokens")?;
    anyhow::ensure!(args.timeout > 0.0 && args.timeout.is_finite(), "--timeout must be above 0 seconds");
    let timeout = Duration::from_secs_f64(args.timeout);
    let endpoint =
        Endpoint::open(&args.url, args.key.clone(), args.model.clone(), timeout, !args.natural_end)
            .await
            .with_context(|| format!("{} does not answer; is a server running there?", args.url))?;
    let started_at = jiff::Timestamp::now().to_string();
    let slo = Slo { ttft_ms: args.slo_ttft_ms, tpot_ms: args.slo_tpot_ms, e2e_ms: args.slo_e2e_ms };
    let mut runs = Vec::new();
    for arrivals in arrivals(&args)? {
        let options = RunOptions {
            arrivals,
            requests: args.requests,
            duration: args.duration.map(Duration::try_from_secs_f64).transpose().context("--duration")?,
            prompt_tokens,
            output_tokens,
            shared_prefix_tokens: args.shared_prefix_tokens,
            warmup: args.warmup,
            // Another seed for each run: the same prompts again would be found in the prefix cache.
            seed: args.seed.wrapping_add(runs.len() as u64),
            slo,
        };
        runs.push(load::run(&endpoint, &options).await?);
    }
    print!("{}", load::table(&runs));
    let plan = json!({
        "requests": args.requests,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "shared_prefix_tokens": args.shared_prefix_tokens,
        "warmup": args.warmup,
        "seed": args.seed,
        "exact_length": !args.natural_end,
    });
    let report = Report { url: args.url, started_at, plan, runs };
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.report {
        load::write_report(&report, path)?;
        println!("charts: {}", path.display());
    }
    let (failed, requests) =
        report.runs.iter().fold((0, 0), |(f, r), run| (f + run.failed, r + run.requests));
    anyhow::ensure!(failed == 0, "{failed} of {requests} requests failed; the table names the errors");
    Ok(())
}

fn arrivals(args: &BenchArgs) -> anyhow::Result<Vec<Arrivals>> {
    if let Some(path) = &args.trace {
        return Ok(vec![Arrivals::Trace(load::read_trace(path)?)]);
    }
    if let Some(per_second) = args.rate {
        return Ok(vec![Arrivals::Open { per_second }]);
    }
    Ok(args.concurrency.iter().map(|concurrency| Arrivals::Closed { concurrency: *concurrency }).collect())
}
