//! Does a stream still move?

use std::time::Duration;

use crate::breaker::micros;

/// Parts of the window that are counted apart: the judgement is late by at most an eighth of it.
const PARTS: u64 = 8;

/// One stream's pace over a sliding window: 100 bytes.
#[derive(Clone, Debug)]
pub struct Pace {
    window_us: u64,
    floor_per_second: f64,
    counts: [u64; PARTS as usize],
    /// The part that is counted now, since the clock's beginning.
    part: u64,
    began_us: u64,
    last_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Moves,
    /// Over a whole window, fewer tokens than the floor.
    Crawls {
        tokens_per_second: f64,
    },
    /// Over a whole window, nothing.
    Stands {
        since: Duration,
    },
}

impl Pace {
    /// Starts at the first token. No verdict but [`Verdict::Moves`] is given before a whole window has passed.
    pub fn new(floor_per_second: f64, window: Duration, now: Duration) -> Self {
        let (window_us, now_us) = (micros(window).max(PARTS), micros(now));
        let part = now_us / (window_us / PARTS);
        Self { window_us, floor_per_second, counts: [0; 8], part, began_us: now_us, last_us: now_us }
    }

    pub fn tokens(&mut self, count: u64, now: Duration) {
        self.turn(micros(now));
        self.counts[(self.part % PARTS) as usize] += count;
        if count > 0 {
            self.last_us = self.last_us.max(micros(now));
        }
    }

    pub fn verdict(&mut self, now: Duration) -> Verdict {
        let now_us = micros(now);
        self.turn(now_us);
        if now_us.saturating_sub(self.last_us) >= self.window_us {
            return Verdict::Stands { since: Duration::from_micros(now_us - self.last_us) };
        }
        if now_us.saturating_sub(self.began_us) < self.window_us {
            return Verdict::Moves;
        }
        // The parts cover the whole ones before now and the one that has begun.
        let part_us = self.window_us / PARTS;
        let covered_us = (PARTS - 1) * part_us + now_us % part_us;
        let tokens_per_second = self.counts.iter().sum::<u64>() as f64 * 1e6 / covered_us as f64;
        if tokens_per_second < self.floor_per_second {
            Verdict::Crawls { tokens_per_second }
        } else {
            Verdict::Moves
        }
    }

    fn turn(&mut self, now_us: u64) {
        let part = now_us / (self.window_us / PARTS);
        let passed = part.saturating_sub(self.part);
        for step in 1..=passed.min(PARTS) {
            self.counts[((self.part + step) % PARTS) as usize] = 0;
        }
        self.part = self.part.max(part);
    }
}
