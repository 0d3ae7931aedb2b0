//! With batch-invariant numerics, the real model says the same tokens, from the same bits, whatever else runs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{EngineStatus, Priority, Sampling, TokenId, Work};
use engine::{DiskConfig, DiskPlace, EngineConfig, EngineCore};
use model::{LoadOptions, Model, Numerics, Precision, weights};
use simulator::disk::FakeDisk;
use simulator::random::Random;
use simulator::watch::Watch;
use simulator::world::{config, key, work};

const WORKS: usize = 32;

fn load(precision: Precision) -> Box<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/main");
    let checkpoint = weights::open(&folder).expect("the demo model is there");
    let options = LoadOptions {
        precision: Some(precision),
        numerics: Numerics::BatchInvariant,
        threads: 2,
        ..LoadOptions::default()
    };
    Box::new(Model::load(&checkpoint, &options, &mut |_| {}).expect("it loads"))
}

/// Prompts of 3 to 150 tokens, many with the same beginning, some greedy and some drawn.
fn crowd() -> Vec<Work> {
    let mut random = Random::new(4);
    let mut tokens =
        |count: usize| -> Vec<TokenId> { (0..count).map(|_| random.between(10, 4000) as TokenId).collect() };
    let beginning = tokens(100);
    (0..WORKS)
        .map(|number| {
            let mut prompt = if number % 3 == 0 { Vec::new() } else { beginning.clone() };
            prompt.extend(tokens(3 + number * 13 % 48));
            let drawn = Sampling { seed: Some(number as u64), top_p: 0.95, ..Sampling::default() };
            Work {
                sampling: if number % 2 == 0 { Sampling::greedy() } else { drawn },
                max_output_tokens: 12,
                logprobs: Some(2),
                ..work(&format!("w{number}"), prompt)
            }
        })
        .collect()
}

/// What was said: each token, and the bits of its log-probability.
type Said = Vec<(TokenId, u32)>;

struct Run {
    core: EngineCore,
    watch: Watch,
}

impl Run {
    fn of(precision: Precision, config: EngineConfig) -> Self {
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed());
        let core = EngineCore::new(load(precision), config, clock).expect("the settings are sound");
        let mut run = Self { core, watch: Watch::default() };
        run.rest();
        run
    }

    /// Asks for these, so many steps apart, and returns what each was answered.
    fn ask(&mut self, round: &str, order: &[usize], steps_apart: usize) -> Vec<Said> {
        let works = crowd();
        let named = |index: usize| key(&format!("w{index} {round}"));
        for &index in order {
            // Later ones of a higher class take the blocks of earlier ones.
            let priority =
                if round == "classes" && index % 2 == 1 { Priority::High } else { Priority::Batch };
            self.core.submit(Work { key: named(index), priority, ..works[index].clone() });
            (0..steps_apart).for_each(|_| self.step());
        }
        while !self.core.is_idle() {
            self.step();
        }
        self.rest();
        let mut said = vec![Said::new(); WORKS];
        for &index in order {
            let answer = self.watch.answer(&named(index));
            let bits = answer.logprobs.iter().map(|logprob| logprob.logprob.to_bits());
            said[index] = answer.tokens.iter().copied().zip(bits).collect();
            assert_eq!(said[index].len(), 12, "w{index}: {:?}", answer.end);
        }
        said
    }

    fn step(&mut self) {
        self.core.step();
        self.watch.note(self.core.take_events(), Duration::ZERO);
        self.core.check_integrity();
        if self.core.waits_for_disk() {
            self.core.wait_for_disk(Duration::from_millis(1));
        }
    }

    fn rest(&mut self) {
        while self.core.tidy() {
            self.core.wait_for_disk(Duration::from_millis(1));
        }
    }

    fn status(&self) -> EngineStatus {
        self.core.status()
    }
}

fn in_order() -> Vec<usize> {
    (0..WORKS).collect()
}

fn one_at_a_time() -> EngineConfig {
    EngineConfig { max_running: 1, prefix_cache: false, ..config(200) }
}

fn holds_for(precision: Precision) {
    let alone = Run::of(precision, one_at_a_time()).ask("", &in_order(), 0);

    let together =
        Run::of(precision, EngineConfig { prefix_cache: false, ..config(400) }).ask("", &in_order(), 0);
    assert_eq!(together, alone, "32 at once");

    for seed in 0..2 {
        let mut order = in_order();
        Random::new(seed).shuffle(&mut order);
        let shuffled = Run::of(precision, config(400)).ask("", &order, 1);
        assert_eq!(shuffled, alone, "order of seed {seed}");
    }

    for chunk in [1, 7, 64] {
        let chunks = EngineConfig { chunk_tokens_min: chunk, chunk_tokens_max: chunk, ..config(400) };
        assert_eq!(Run::of(precision, chunks).ask("", &in_order(), 0), alone, "chunks of {chunk}");
    }

    let mut hits = Run::of(precision, config(400));
    hits.ask("first", &in_order(), 0);
    let before = hits.status().prefix_hits;
    assert_eq!(hits.ask("again", &in_order(), 0), alone, "found in the prefix cache");
    assert!(hits.status().prefix_hits > before + 1000, "{} tokens", hits.status().prefix_hits - before);

    let mut tight = Run::of(precision, config(24));
    assert_eq!(tight.ask("classes", &in_order(), 1), alone, "preempted and resumed");
    assert!(tight.status().preemptions > 0, "nobody was preempted");

    // One at a time in six blocks, so that each finds what it left on disk and not in memory.
    let place = DiskPlace::Given(Arc::new(FakeDisk::default()));
    let disk = Some(DiskConfig { bytes: 256 << 20, place, identity: [0; 32] });
    let mut tiers = Run::of(precision, EngineConfig { disk, max_running: 1, ..config(8) });
    for round in ["first", "again"] {
        let mut said = vec![Said::new(); WORKS];
        for (index, said) in said.iter_mut().enumerate() {
            *said = tiers.ask(round, &[index], 0).swap_remove(index);
        }
        assert_eq!(said, alone, "with a disk, {round}");
    }
    let status = tiers.status().disk;
    assert!(status.hit_tokens > 300 && status.damaged + status.errors == 0, "{status:?}");
}

#[test]
fn the_same_bits_in_bf16() {
    holds_for(Precision::Bf16);
}

#[test]
fn the_same_bits_in_int8() {
    holds_for(Precision::Int8);
}
