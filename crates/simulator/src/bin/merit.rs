//! Replays a recorded hour under every policy, and writes the table and the picture.
//!
//! `cargo run -p simulator --bin merit -- CODE.csv CONV.csv OUT` writes `OUT.md` and `OUT.svg`; the traces are
//! AzureLLMInferenceTrace_code.csv and _conv.csv of the Azure Public Dataset (CC BY 4.0).

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use simulator::merit::audit::Audit;
use simulator::merit::report::{self, Kind};
use simulator::merit::summary::cheapest;
use simulator::merit::units::{six, spells};
use simulator::merit::workload::{self, Request, crowd};
use simulator::merit::{Policy, Scenario, Summary, policy, replay};

const COPIES: u64 = 4;
const EU_PERCENT: usize = 30;
const SEED: u64 = 20_261_121;
/// Of our own engine, for rivals that cannot tell when it is full.
const LIMITS: [Option<u32>; 7] = [None, Some(8), Some(16), Some(24), Some(32), Some(40), Some(48)];

fn main() -> Result<(), String> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [code, conv, out] = &arguments[..] else {
        return Err("usage: merit CODE.csv CONV.csv OUT".to_owned());
    };
    let mut trace = workload::read(Path::new(code), workload::Kind::Code)?;
    trace.extend(workload::read(Path::new(conv), workload::Kind::Chat)?);
    let scenario = day(&trace, COPIES, SEED);
    let names = report::names(&scenario);

    let merit: Vec<_> =
        [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99].map(|probability| Policy::Merit { probability }).into();
    let merit = all(&scenario, &merit);
    let chains = all(&scenario, &policy::chains(names.len(), &LIMITS));
    let robins = all(&scenario, &policy::round_robins(&scenario.supplies, &[None, Some(16), Some(32)]));
    let kinds = [
        Kind { name: "merit order", colour: "#0a7d3c", runs: &merit },
        Kind { name: "static chain", colour: "#2b6cb0", runs: &chains },
        Kind { name: "round-robin", colour: "#d9822b", runs: &robins },
    ];

    // The default of the merit order, and what its rivals pay to attain as much, or else their best.
    let ours = merit.iter().find(|run| run.policy == Policy::Merit { probability: 0.95 }).expect("it ran");
    let rival = |runs: &'_ [Summary]| {
        let best = || runs.iter().max_by_key(|run| (run.met, std::cmp::Reverse(run.cost))).expect("some ran");
        cheapest(runs, ours.attainment()).unwrap_or_else(best).clone()
    };
    let (chain, robin) = (rival(&chains), rival(&robins));
    let everyone = Policy::RoundRobin { units: (0..names.len()).collect(), own_limit: None };
    let plain = robins.iter().find(|run| run.policy == everyone).expect("it ran");
    let by_price = Policy::Static { chain: (0..names.len()).collect(), own_limit: None };
    let plain_chain = chains.iter().find(|run| run.policy == by_price).expect("it ran");

    let mut text = format!(
        "## Workload\n\n{} requests: both traces, {COPIES} times over each other, {EU_PERCENT} % bound to the `eu`. Settings tried: {} \
         of the merit order, {} static chains, {} round-robins.\n\n## Units\n\n{}\n## Cheapest setting at equal attainment\n\n{}\n## Runs\n\n{}",
        scenario.requests.len(),
        merit.len(),
        chains.len(),
        robins.len(),
        report::units_table(&scenario.supplies),
        report::levels_table(&kinds, &names),
        report::runs_table(&[ours, &chain, &robin, plain_chain, plain], &names),
    );
    text += "\n## Jurisdiction, from the log of decisions alone\n\n";
    for run in [ours, &chain, &robin] {
        let audit = audited(&scenario, &run.policy).map_err(|error| error.to_string())?;
        text += &format!(
            "- {}: {} decisions, {} of bound requests; {} went outside, {} units outside were in line.\n",
            run.policy.name(&names),
            audit.decisions,
            audit.bound,
            audit.outside,
            audit.outside_in_line
        );
    }
    text += "\n## The same settings on other days\n\nNothing is tuned again: other spells of slowness, and half, as many and half more requests.\n\n";
    for (copies, seed) in [(COPIES / 2, SEED + 1), (COPIES, SEED + 2), (COPIES * 3 / 2, SEED + 3)] {
        let other = day(&trace, copies, seed);
        let policies = [ours, &chain, &robin, plain].map(|run| run.policy.clone());
        let runs = all(&other, &policies);
        let table = report::runs_table(&runs.iter().collect::<Vec<_>>(), &names);
        text += &format!("{} requests:\n\n{table}\n", other.requests.len());
    }
    let title = format!("{} requests, six units: cost against missed SLOs", scenario.requests.len());
    write(out, "md", &text)?;
    write(out, "svg", &report::picture(&kinds, &title))?;
    println!("{text}");
    Ok(())
}

fn day(trace: &[Request], copies: u64, seed: u64) -> Scenario {
    let requests = crowd(trace, copies, EU_PERCENT, seed);
    Scenario { supplies: six(), spells: spells(seed, 6), requests, seed }
}

/// Replays under each policy, on two threads.
fn all(scenario: &Scenario, policies: &[Policy]) -> Vec<Summary> {
    let (next, done) = (Mutex::new(0..policies.len()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(number) = next.lock().expect("no thread panicked").next() else { return };
                    let fates = replay(scenario, &policies[number], &mut |_| {});
                    let summary = Summary::of(scenario, &policies[number], &fates);
                    done.lock().expect("no thread panicked").push((number, summary));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panicked");
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, summary)| summary).collect()
}

/// Writes the whole log of decisions to a file, and reads the proof from there.
fn audited(scenario: &Scenario, policy: &Policy) -> std::io::Result<Audit> {
    let path: PathBuf = std::env::temp_dir().join(format!("merit-decisions-{}.jsonl", std::process::id()));
    let mut log = BufWriter::new(File::create(&path)?);
    let mut wrong = None;
    replay(scenario, policy, &mut |logged| {
        let line = serde_json::to_string(logged).expect("a decision can be written");
        wrong = wrong.take().or(writeln!(log, "{line}").err());
    });
    log.flush()?;
    let mut audit = Audit::default();
    for line in BufReader::new(File::open(&path)?).lines() {
        audit.line(&line?, &scenario.requests).map_err(std::io::Error::other)?;
    }
    std::fs::remove_file(&path)?;
    wrong.map_or(Ok(audit), Err)
}

fn write(out: &str, ending: &str, text: &str) -> Result<(), String> {
    let path = format!("{out}.{ending}");
    std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))
}
