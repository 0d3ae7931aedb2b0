//! How does an engine of our own share itself among requests?
//!
//! One card: prompts are computed one after the other, answers all at once, as long as keys and values fit. The numbers are
//! those of Qwen3-8B FP8 on one H100 with vLLM, fitted to nine measured points of silybench-data (2026-09-24, CC BY 4.0),
//! which the test below repeats: the mean error of the time between tokens is below a tenth.

use std::collections::VecDeque;

/// Prompt tokens a second.
const PREFILL_PER_SECOND: f64 = 40_000.0;
/// Of each prompt.
const OVERHEAD_MS: f64 = 0.5;
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
        let alone_ms = 4.55 + 0.015 * self.decoding.len() as f64 + 0.03 * self.kv_tokens as f64 / 1000.0;
        Some(alone_ms * 1e3 * (1.0 + 0.3 * self.busy.min(1.0)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    /// Returns the median milliseconds between tokens of so many clients, each asking again when it is answered.
    fn closed_loop(clients: usize, input_tokens: u64, output_tokens: u64) -> f64 {
        let (mut engine, mut events, mut paces) = (Engine::default(), BinaryHeap::new(), Vec::new());
        (0..clients).for_each(|client| engine.submit((client, 0), input_tokens, output_tokens));
        let mut now_us = 0;
        while paces.len() < 20 * clients {
            if let Some((key, at_us)) = engine.advance(now_us) {
                events.push(Reverse((at_us, true, key)));
            }
            let Some(Reverse((at_us, is_first, key))) = events.pop() else { break };
            now_us = at_us;
            if is_first {
                let pace_us = engine.first_token(key).expect("it lives");
                paces.push(pace_us / 1e3);
                let rest_us = pace_us * (output_tokens - 1) as f64;
                events.push(Reverse((now_us + rest_us as u64, false, key)));
            } else {
                engine.remove(key);
                engine.submit((key.0, key.1 + 1), input_tokens, output_tokens);
            }
        }
        let settled = &mut paces[5 * clients..];
        settled.sort_by(f64::total_cmp);
        settled[settled.len() / 2]
    }

    #[test]
    fn it_is_about_as_fast_as_the_card_was_measured() {
        let mut errors = Vec::new();
        // Clients, prompt and answer in tokens, measured median milliseconds between tokens.
        for (clients, input, output, measured) in [
            (1, 128, 128, 4.618),
            (64, 128, 128, 5.917),
            (256, 128, 128, 10.873),
            (128, 128, 1024, 10.159),
            (472, 128, 1024, 27.414),
            (16, 2048, 2048, 7.217),
            (48, 2048, 2048, 12.252),
            (4, 8192, 512, 6.425),
            (10, 8192, 512, 9.506),
        ] {
            let simulated = closed_loop(clients, input, output);
            println!("{clients} × {input}/{output}: {simulated:.1} ms, measured {measured:.1}");
            errors.push((simulated / measured - 1.0).abs());
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!(mean < 0.10, "mean error {mean:.2}: {errors:.2?}");
    }
}
