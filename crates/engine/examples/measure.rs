//! How fast is this engine, driven as the server drives it? The side of `bench/engine/run` that is ours.
//!
//! `cargo run --release -p engine --example measure -- FOLDER bf16 2` loads a model and then answers questions: one JSON object a
//! line on standard input, one on standard output. Times include all that a server's step does: plan, compute, draw.
//!
//! ```text
//! {"do": "prefill", "prompt": [1, 2]}                  {"seconds": 0.1}
//! {"do": "decode", "prompts": [[1, 2]], "steps": 8}    {"seconds": 0.1, "tokens": 8}
//! {"do": "scores", "prompt": [1, 2]}                   {"logprobs": [-11.7]}
//! {"do": "probe"}                                      {"read_bytes_per_second": 4e10, "multiply_per_second": 4e12}
//! ```

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use domain::{
    Priority, RequestId, Sampling, Tenant, TokenId, TokenLogprob, Tokens, Work, WorkEnd, WorkEvent, WorkKey,
};
use engine::{EngineConfig, EngineCore, KvBudget, Speculate};
use kernels::Pool;
use model::{LoadOptions, Model, Precision};
use serde_json::{Value, json};

/// One stream of 4,096 tokens stays while 32 of 256 and a prompt of 2,048 come and go.
const CACHE_TOKENS: usize = 16_384;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, precision, threads] = &arguments[..] else {
        panic!("give a model, a precision and a number of threads");
    };
    let threads: usize = threads.parse().expect("the third argument is a number of threads");
    let mut bench = Bench::start(Path::new(folder), parse_precision(precision), threads);
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line.expect("lines are text")).expect("lines are JSON");
        say(&bench.answer(&question));
    }
}

fn parse_precision(word: &str) -> Precision {
    match word {
        "bf16" => Precision::Bf16,
        "int8" => Precision::Int8,
        "int4" => Precision::Int4,
        _ => panic!("{word} is no precision that can be measured: bf16, int8, int4"),
    }
}

fn say(answer: &Value) {
    println!("{answer}");
    std::io::stdout().flush().expect("somebody listens");
}

struct Bench {
    core: EngineCore,
    precision: Precision,
    threads: usize,
    asked: u64,
}

impl Bench {
    /// Loads the model and says what it takes.
    fn start(folder: &Path, precision: Precision, threads: usize) -> Self {
        let start = Instant::now();
        let checkpoint = model::weights::open(folder).expect("the model can be read");
        let options = LoadOptions { precision: Some(precision), threads, ..LoadOptions::default() };
        let model = Model::load(&checkpoint, &options, &mut |_| {}).expect("the model can be loaded");
        let seconds = start.elapsed().as_secs_f64();
        let report = model.report();
        let head_parameters = (model.config().vocabulary * model.config().hidden) as u64;
        // A step looks up a few rows of an embedding that is not the output projection, and does not read it.
        let unread = if model.config().tied_embeddings { 0 } else { head_parameters };
        let read_bytes = report.resident_bytes * (report.parameters - unread) / report.parameters;
        let paths: Vec<Value> = report.paths.iter().map(|(what, path)| json!([what, path])).collect();
        say(&json!({
            "load_seconds": seconds, "parameters": report.parameters, "head_parameters": head_parameters,
            "resident_bytes": report.resident_bytes, "read_bytes": read_bytes,
            "file_bytes": checkpoint.file_bytes, "experts": model.config().experts.as_ref().map_or(0, |it| it.count), "kv_bytes_per_token": report.kv_bytes_per_token,
            "paths": paths, "machine": kernels::describe(),
        }));
        let config = EngineConfig {
            kv: KvBudget::Blocks(CACHE_TOKENS / kernels::BLOCK_TOKENS),
            // A long prompt that only sets the scene of a decode is computed once; prompts whose time counts are new ones.
            prefix_cache: true,
            // No stream waits for its next token while prompts are computed: all start at nearly the same length.
            step_target: Duration::from_secs(3600),
            // Random weights repeat themselves, which would flatter us: one row a token, as the peers compute it.
            speculate: Speculate::Off,
            ..EngineConfig::default()
        };
        let clock = Box::new(move || start.elapsed());
        let core = EngineCore::new(Box::new(model), config, clock).expect("the settings are sound");
        Self { core, precision, threads, asked: 0 }
    }

    fn answer(&mut self, question: &Value) -> Value {
        match question["do"].as_str() {
            Some("prefill") => self.prefill(&tokens_of(&question["prompt"])),
            Some("decode") => {
                let prompts = question["prompts"].as_array().expect("prompts are an array");
                let prompts: Vec<Vec<TokenId>> = prompts.iter().map(tokens_of).collect();
                self.decode(&prompts, question["steps"].as_u64().expect("steps are a number") as usize)
            }
            Some("scores") => self.scores(&tokens_of(&question["prompt"])),
            Some("probe") => {
                let pool = Pool::new(self.threads);
                json!({
                    "read_bytes_per_second": kernels::read_bandwidth(&pool),
                    "multiply_per_second": kernels::multiply_peak(&pool, self.precision),
                })
            }
            _ => panic!("{question} asks for nothing that is known here"),
        }
    }

    /// From a prompt to its first token.
    fn prefill(&mut self, prompt: &[TokenId]) -> Value {
        let start = Instant::now();
        self.submit(prompt, 1, false);
        while !self.core.is_idle() {
            self.core.step();
            check_ends(self.core.take_events().into_iter().map(|event| event.event));
        }
        json!({"seconds": start.elapsed().as_secs_f64()})
    }

    /// So many steps of all streams together, once each has its first token.
    fn decode(&mut self, prompts: &[Vec<TokenId>], steps: usize) -> Value {
        // One more for the first token and one for the first step, which is not measured.
        prompts.iter().for_each(|prompt| self.submit(prompt, steps as u32 + prompts.len() as u32 + 2, false));
        let mut begun = vec![false; prompts.len()];
        let first = self.asked - prompts.len() as u64;
        while !begun.iter().all(|begun| *begun) {
            self.core.step();
            for event in self.core.take_events() {
                if let WorkEvent::Produced(_) = event.event {
                    begun[(u64::from(event.key.choice) - first) as usize] = true;
                }
            }
        }
        self.core.step();
        self.core.take_events();
        let start = Instant::now();
        let mut tokens = 0;
        for _ in 0..steps {
            self.core.step();
            let events = self.core.take_events();
            tokens += events.iter().filter(|event| matches!(event.event, WorkEvent::Produced(_))).count();
        }
        let seconds = start.elapsed().as_secs_f64();
        self.core.cancel_all();
        self.core.take_events();
        json!({"seconds": seconds, "tokens": tokens})
    }

    /// How likely each token of a text is after those before it.
    fn scores(&mut self, prompt: &[TokenId]) -> Value {
        self.submit(prompt, 0, true);
        let mut scores: Vec<Option<TokenLogprob>> = Vec::new();
        while !self.core.is_idle() {
            self.core.step();
            for event in self.core.take_events() {
                if let WorkEvent::PromptLogprobs(found) = event.event {
                    scores = found;
                }
            }
        }
        let logprobs: Vec<f32> = scores.iter().flatten().map(|score| score.logprob).collect();
        json!({"logprobs": logprobs})
    }

    fn submit(&mut self, prompt: &[TokenId], max_output_tokens: u32, prompt_logprobs: bool) {
        self.core.submit(Work {
            key: WorkKey { request: RequestId::new("measure"), choice: self.asked as u32 },
            tenant: Tenant::new("measure"),
            priority: Priority::Standard,
            prompt: Tokens::new(prompt).expect("a prompt has tokens"),
            max_output_tokens,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            stop_tokens: [].into(),
            logprobs: prompt_logprobs.then_some(0),
            prompt_logprobs,
        });
        self.asked += 1;
    }
}

fn tokens_of(value: &Value) -> Vec<TokenId> {
    let tokens = value.as_array().expect("a prompt is an array").iter();
    tokens.map(|token| token.as_u64().expect("tokens are numbers") as TokenId).collect()
}

/// A work that failed has no time.
fn check_ends(events: impl Iterator<Item = WorkEvent>) {
    for event in events {
        if let WorkEvent::Ended { end, .. } = event {
            assert_eq!(end, WorkEnd::Length, "the work did not end well");
        }
    }
}
