//! What happens when the real engine runs the toy, one step at a time?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{EngineStatus, Priority, RequestId, Sampling, Tenant, TokenId, Tokens, Work, WorkKey};
use engine::{EngineConfig, EngineCore, KvBudget};
use model::Forward;

use crate::toy::{Pace, Toy, ToySettings, VirtualClock};
use crate::watch::{Answer, Watch};

/// An engine's core over a toy model, on virtual time.
pub struct World {
    core: EngineCore,
    clock: VirtualClock,
    rows_computed: Arc<AtomicU64>,
    watch: Watch,
}

/// More steps than any scenario needs: beyond it, the engine goes round in circles.
const STEPS_MAX: usize = 200_000;

impl World {
    pub fn new(toy: ToySettings, config: EngineConfig) -> Self {
        Self::with_draft(toy, None, config)
    }

    /// The same, with a second toy that drafts.
    pub fn with_draft(mut toy: ToySettings, draft: Option<ToySettings>, config: EngineConfig) -> Self {
        let clock = VirtualClock::default();
        toy.pace = Pace::Virtual(clock.clone());
        let rows_computed = toy.rows_computed.clone();
        let time = clock.clone();
        let draft = draft.map(|draft| {
            let pace = Pace::Virtual(clock.clone());
            Box::new(Toy::new(ToySettings { pace, ..draft })) as Box<dyn Forward>
        });
        let clock_of_core = Box::new(move || time.now());
        let core = EngineCore::with_draft(Box::new(Toy::new(toy)), draft, config, clock_of_core)
            .expect("the scenario's settings are sound");
        Self { core, clock, rows_computed, watch: Watch::default() }
    }

    pub fn submit(&mut self, work: Work) {
        self.core.submit(work);
    }

    pub fn cancel(&mut self, key: &WorkKey) {
        self.core.cancel(key);
    }

    pub fn step(&mut self) {
        self.core.step();
        let events = self.core.take_events();
        self.watch.note(events, self.clock.now());
        self.core.check_integrity();
    }

    /// Steps until nothing is left to do, and checks that all blocks are home.
    pub fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.core.is_idle() {
                self.core.check_integrity();
                assert_eq!(self.status().blocks_in_use, 0, "blocks are missing at the end");
                return;
            }
            self.step();
        }
        panic!("nothing comes to an end: {:?}", self.status());
    }

    pub fn answer(&self, key: &WorkKey) -> &Answer {
        self.watch.answer(key)
    }
    pub fn heard_of(&self, key: &WorkKey) -> Option<&Answer> {
        self.watch.heard_of(key)
    }
    pub fn has_ended(&self, key: &WorkKey) -> bool {
        self.watch.has_ended(key)
    }
    pub fn is_idle(&self) -> bool {
        self.core.is_idle()
    }
    pub fn status(&self) -> EngineStatus {
        self.core.status()
    }
    pub fn now(&self) -> Duration {
        self.clock.now()
    }
    pub fn rows_computed(&self) -> u64 {
        self.rows_computed.load(Ordering::Relaxed)
    }
}

/// Returns a work with everything neutral: greedy, eight tokens, tenant `a`.
pub fn work(name: &str, prompt: Vec<TokenId>) -> Work {
    Work {
        key: key(name),
        tenant: Tenant::from("a"),
        priority: Priority::Standard,
        prompt: Tokens::new(prompt).expect("a prompt has tokens"),
        max_output_tokens: 8,
        sampling: Sampling::greedy(),
        stop_tokens: Arc::new([]),
        logprobs: None,
        prompt_logprobs: false,
    }
}

pub fn key(name: &str) -> WorkKey {
    WorkKey { request: RequestId::from(name), choice: 0 }
}

/// Returns settings with so many blocks, and everything else as shipped but for chance.
pub fn config(blocks: usize) -> EngineConfig {
    EngineConfig { kv: KvBudget::Blocks(blocks), entropy: 1, ..EngineConfig::default() }
}

/// Returns what a work is answered when it has the engine to itself.
pub fn answer_alone(toy: &ToySettings, work: &Work) -> Answer {
    let toy = ToySettings { faults: Vec::new(), rows_computed: Arc::default(), ..toy.clone() };
    let blocks = toy.context_tokens.div_ceil(toy.block_tokens);
    let mut world = World::new(toy, EngineConfig { prefix_cache: false, ..config(blocks) });
    world.submit(work.clone());
    world.run();
    world.answer(&work.key).clone()
}
