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
    has_disk: bool,
}

const DISK_MOMENT: Duration = Duration::from_micros(100);
const DISK_TURN: Duration = Duration::from_millis(1);
/// Longer than anything here takes on however busy a machine.
const DISK_PATIENCE: Duration = Duration::from_secs(20);
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
        let has_disk = config.disk.is_some();
        let time = clock.clone();
        let draft = draft.map(|draft| {
            let pace = Pace::Virtual(clock.clone());
            Box::new(Toy::new(ToySettings { pace, ..draft })) as Box<dyn Forward>
        });
        let clock_of_core = Box::new(move || time.now());
        let core = EngineCore::with_draft(Box::new(Toy::new(toy)), draft, config, clock_of_core)
            .expect("the scenario's settings are sound");
        Self { core, clock, rows_computed, watch: Watch::default(), has_disk }
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
        if self.has_disk {
            // A step takes no real time, and the disk's thread needs some.
            std::thread::sleep(DISK_MOMENT);
        }
        if self.core.waits_for_disk() {
            // The disk is as real as its thread. While only it is at work, virtual time passes as if it took this long.
            self.core.wait_for_disk(DISK_TURN);
            self.clock.pass(DISK_TURN);
        }
    }

    /// Lets the engine rest until its disk has nothing more to do, as an idle engine's thread would.
    pub fn rest(&mut self) {
        assert!(self.core.is_idle(), "only an idle engine rests");
        let start = std::time::Instant::now();
        while self.core.tidy() {
            self.core.wait_for_disk(DISK_TURN);
            self.core.check_integrity();
            assert!(start.elapsed() < DISK_PATIENCE, "the disk never rests: {:?}", self.status().disk);
        }
        self.core.check_integrity();
    }

    /// Lets time pass in which nobody asks for anything.
    pub fn sleep(&mut self, time: Duration) {
        self.clock.pass(time);
    }

    /// Ends the engine as its thread would: what a next one shall find is on disk.
    pub fn close(mut self) {
        self.core.close_disk(DISK_PATIENCE);
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
