//! How does an engine of our own share itself among requests?
//!
//! One card: prompts are computed one after the other, answers all at once, as long as keys and values fit. The numbers are
//! those of Qwen3-8B FP8 on one H100 with vLLM, fitted by hand to the measured curves of silybench-data (2026-09-24, CC BY 4.0):
//! a prompt of 8,192 tokens alone takes 206 ms; between tokens pass 4.6 ms for one answer, 10 ms for 128 and 27 ms for 472.

use std::collections::VecDeque;

/// Prompt tokens a second.
const PREFILL_PER_SECOND: f64 = 36_000.0;
/// Between a request's coming and its prompt's first row.
const OVERHEAD_MS: f64 = 10.0;
/// Keys and values of 8 billion parameters beside their weights in 80 GB: 147 KB a token.
const KV_TOKENS_MAX: u64 = 440_000;
const RUNNING_MAX: u64 = 512;
/// How long the share of time that prompts took is remembered.
const BUSY_MEMORY_US: f64 = 1_000_000.0;

/// One attempt of one request.
pub type Key = (usize, u32);

#[derive(Clone, Copy, Debug)]
struct Job {
    key: Key,
    input_tokens: u64,
    /// What it will need of the cache in the end.
    kv_tokens: u64,
}

#[derive(Debug, Default)]
pub struct Engine {
    waiting: VecDeque<Job>,
    prefilling: Option<Job>,
    decoding: Vec<Job>,
    kv_tokens: u64,
    /// The share of the last second that prompts took.
    busy: f64,
    busy_as_of_us: u64,
}

impl Engine {
    pub fn running(&self) -> u64 {
        self.decoding.len() as u64 + u64::from(self.prefilling.is_some())
    }
    pub fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub fn submit(&mut self, key: Key, input_tokens: u64, output_tokens: u64) {
        self.waiting.push_back(Job { key, input_tokens, kv_tokens: input_tokens + output_tokens });
    }

    /// Begins with the next prompt if it may; returns whose first token comes when.
    pub fn advance(&mut self, now_us: u64) -> Option<(Key, u64)> {
        let next = *self.waiting.front()?;
        let fits = self.kv_tokens + next.kv_tokens <= KV_TOKENS_MAX && self.running() < RUNNING_MAX;
        if self.prefilling.is_some() || !fits {
            return None;
        }
        self.waiting.pop_front();
        self.kv_tokens += next.kv_tokens;
        self.prefilling = Some(next);
        let took_us = OVERHEAD_MS * 1e3 + next.input_tokens as f64 / PREFILL_PER_SECOND * 1e6;
        self.be_busy(now_us, took_us);
        Some((next.key, now_us + took_us as u64))
    }

    /// Notes the first token; returns the time to each of the others, or nothing if the engine has died meanwhile.
    pub fn first_token(&mut self, key: Key) -> Option<f64> {
        let job = self.prefilling.take_if(|job| job.key == key)?;
        self.decoding.push(job);
        let alone_ms = 4.6 + 0.03 * self.decoding.len() as f64 + 0.02 * self.kv_tokens as f64 / 1000.0;
        Some(alone_ms * 1e3 / (1.0 - self.busy.min(0.8)))
    }

    /// Takes a request out, wherever it is. Returns whether it was there.
    pub fn remove(&mut self, key: Key) -> bool {
        if let Some(place) = self.waiting.iter().position(|job| job.key == key) {
            self.waiting.remove(place);
            return true;
        }
        let job = match self.prefilling.take_if(|job| job.key == key) {
            Some(job) => Some(job),
            None => {
                let place = self.decoding.iter().position(|job| job.key == key);
                place.map(|place| self.decoding.swap_remove(place))
            }
        };
        self.kv_tokens -= job.map_or(0, |job| job.kv_tokens);
        job.is_some()
    }

    /// Dies; returns whom it was serving.
    pub fn die(&mut self) -> Vec<Key> {
        let died = std::mem::take(self);
        let jobs = died.waiting.into_iter().chain(died.prefilling).chain(died.decoding);
        jobs.map(|job| job.key).collect()
    }

    fn be_busy(&mut self, now_us: u64, took_us: f64) {
        let age = now_us.saturating_sub(self.busy_as_of_us) as f64 / BUSY_MEMORY_US;
        self.busy = self.busy * (-age).exp() + (took_us / BUSY_MEMORY_US).min(1.0);
        self.busy_as_of_us = now_us;
    }
}
