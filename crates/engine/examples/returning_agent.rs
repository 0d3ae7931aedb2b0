//! How soon does an agent that returns get its first token: by computing its prompt again, or from disk?
//!
//! `cargo run --release -p engine --example returning_agent -- MODEL [PROMPT_TOKENS] [ROUNDS] [FOLDER]`
//!
//! Two agents share memory for one of them, so that each finds its prompt gone when it returns. Runs with and without a disk
//! alternate, and the answers are compared. Reads come from the page cache, and then once more from the disk itself, where
//! this process may empty the page cache (as root); what was done is printed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{Priority, RequestId, Sampling, Tenant, TokenId, Tokens, Work, WorkEvent, WorkKey};
use engine::{DiskConfig, DiskPlace, EngineConfig, EngineCore, KvBudget};
use model::{LoadOptions, Model, Precision, weights};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().expect("a folder with a model");
    let mut number = |usual: usize| arguments.next().map_or(usual, |text| text.parse().expect("a number"));
    let (prompt_tokens, rounds) = (number(1536), number(7));
    let folder = arguments.next().unwrap_or_else(|| "target/kv".to_owned());
    let mut without = Agents::new(&model, prompt_tokens, None);
    let mut with = Agents::new(&model, prompt_tokens, Some(DiskPlace::Nameless(folder.into())));
    let (mut computed, mut cached, mut read) = (Vec::new(), Vec::new(), Vec::new());
    // In the first visits everything is new.
    (0..2).for_each(|_| assert_eq!(without.visit().1, with.visit().1));
    let mut is_emptied = true;
    for _ in 0..rounds {
        let (plain, from_cache) = (without.visit(), with.visit());
        assert_eq!(plain.1, from_cache.1, "the answer does not depend on the disk");
        is_emptied &= empty_page_cache();
        let (plain_again, from_disk) = (without.visit(), with.visit());
        assert_eq!(plain_again.1, from_disk.1, "the answer does not depend on the disk");
        computed.extend([plain.0, plain_again.0]);
        cached.push(from_cache.0);
        read.push(from_disk.0);
    }
    println!("{prompt_tokens} tokens, {rounds} rounds; time to the first token, median (least to most):");
    let base = show("computed again", &mut computed, None);
    show("page cache", &mut cached, Some(base));
    show(if is_emptied { "disk" } else { "not emptied" }, &mut read, Some(base));
    println!("{:?}", with.core.status().disk);
}

/// Linux drops clean pages when root asks.
fn empty_page_cache() -> bool {
    let script = "sync && echo 1 > /proc/sys/vm/drop_caches";
    Command::new("sh").args(["-c", script]).status().is_ok_and(|status| status.success())
}

fn show(what: &str, times: &mut [Duration], base: Option<f64>) -> f64 {
    times.sort();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    let (least, middle, most) = (ms(0), ms(times.len() / 2), ms(times.len() - 1));
    let ratio = base.map_or(String::new(), |base| format!(", {:.1} times as soon", base / middle));
    println!("  {what:15} {middle:9.1} ms ({least:.1} to {most:.1}){ratio}");
    middle
}

struct Agents {
    core: EngineCore,
    prompts: [Vec<TokenId>; 2],
    visits: usize,
}

impl Agents {
    fn new(model: &str, prompt_tokens: usize, place: Option<DiskPlace>) -> Self {
        let checkpoint = weights::open(Path::new(model)).expect("the model can be opened");
        let options = LoadOptions { precision: Some(Precision::Int8), ..LoadOptions::default() };
        let model = Model::load(&checkpoint, &options, &mut |_| {}).expect("the model loads");
        let vocabulary = model.config().vocabulary as u32;
        let start = Instant::now();
        let disk = place.map(|place| DiskConfig { bytes: 2 << 30, place, identity: [0; 32] });
        let kv = KvBudget::Blocks(prompt_tokens.div_ceil(32) + 2);
        let config = EngineConfig { kv, disk, ..EngineConfig::default() };
        let core =
            EngineCore::new(Box::new(model), config, Box::new(move || start.elapsed())).expect("it starts");
        let prompt = |agent: u32| {
            (0..prompt_tokens as u32).map(|i| (i * 7919 + agent * 104_729 + 11) % vocabulary).collect()
        };
        Self { core, prompts: [prompt(1), prompt(2)], visits: 0 }
    }

    /// The agent that was away longer comes; returns the time to its first token, and the token.
    fn visit(&mut self) -> (Duration, TokenId) {
        self.visits += 1;
        let start = Instant::now();
        self.core.submit(Work {
            key: WorkKey { request: RequestId::from(format!("r{}", self.visits).as_str()), choice: 0 },
            tenant: Tenant::from("a"),
            priority: Priority::Standard,
            prompt: Tokens::new(self.prompts[self.visits % 2].clone()).expect("it has tokens"),
            max_output_tokens: 1,
            sampling: Sampling::greedy(),
            stop_tokens: Arc::new([]),
            logprobs: None,
            prompt_logprobs: false,
        });
        let mut first = None;
        while !self.core.is_idle() {
            self.core.step();
            for event in self.core.take_events() {
                if let WorkEvent::Produced(tokens) = event.event {
                    first = Some((start.elapsed(), tokens[0].token));
                }
            }
            if self.core.waits_for_disk() {
                self.core.wait_for_disk(Duration::from_millis(1));
            }
        }
        // Between two visits there are minutes: cold blocks go down.
        while self.core.tidy() {
            self.core.wait_for_disk(Duration::from_millis(1));
        }
        first.expect("a token was drawn")
    }
}
