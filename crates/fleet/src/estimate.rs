//! How long will it take, judged by how long it took lately?
//!
//! `expected = a + b · thousand tokens + c · load + d · thousand tokens ahead`, learnt by least squares of the *relative* error, and
//! beside it a histogram of measured over expected. So a slow minute, a long prompt and a full queue each move a prediction, and its spread is
//! the unit's own: P(time ≤ limit) = P(ratio ≤ limit / expected).

use std::time::Duration;

/// What was measured counts half after so long: minutes, as providers have good and bad ones. What a unit did an hour ago
/// counts for nothing, so a unit that was bad is tried again without any rule that says so.
pub const HALF_LIFE: Duration = Duration::from_secs(60);

/// What is believed of a unit before it was measured: this many answers within any limit. Two make an unknown unit
/// worth trying and are outvoted by the first bad minute.
const OPTIMISM: f64 = 2.0;

const FEATURES: usize = 4;
/// Sweeps of coordinate descent for each measurement; it starts from the last solution, which is close.
const SWEEPS: usize = 8;
/// What weighs as much as the prior: this much of one measurement.
const PRIOR_WEIGHT: f64 = 0.05;
/// One measurement is believed by the fit to be at most so far from what was expected; the histogram keeps all of it.
const SURPRISE_MAX: f64 = 8.0;

/// What a duration depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Size {
    /// Prompt tokens to be computed, for a TTFT; tokens of context, for the time between tokens.
    pub tokens: u64,
    /// Requests there at the same time.
    pub load: u64,
    /// Prompt tokens of those that still await their first token: what an engine that takes one prompt after the other does
    /// before this one. A unit that does all at once is learnt not to care.
    pub ahead_tokens: u64,
}

impl Size {
    fn features(self) -> [f64; FEATURES] {
        [1.0, self.tokens as f64 / 1000.0, self.load as f64, self.ahead_tokens as f64 / 1000.0]
    }
}

/// What is believed before anything is known, in seconds for each feature, and how far the truth may well be from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prior {
    cost: [f64; FEATURES],
    spread: [f64; FEATURES],
}

impl Prior {
    /// Half a second and 50 ms for a thousand tokens: what hosted models of late 2026 do on a good day.
    pub const TTFT: Prior = Prior { cost: [0.5, 0.05, 0.005, 0.0], spread: [0.5, 0.05, 0.05, 0.05] };
    /// 50 tokens a second.
    pub const PER_TOKEN: Prior =
        Prior { cost: [0.02, 0.0002, 0.0002, 0.0], spread: [0.02, 0.001, 0.001, 0.001] };
}

#[derive(Clone, Debug)]
pub(crate) struct Estimate {
    prior: Prior,
    cost: [f64; FEATURES],
    information: [[f64; FEATURES]; FEATURES],
    moment: [f64; FEATURES],
    ratios: Histogram,
    as_of_us: u64,
}

impl Estimate {
    pub fn new(prior: Prior) -> Self {
        let none = [0.0; FEATURES];
        let (information, ratios) = ([none; FEATURES], Histogram::default());
        Self { prior, cost: prior.cost, information, moment: none, ratios, as_of_us: 0 }
    }

    /// Returns how many measurements the present ones weigh as.
    pub fn weight(&self, now_us: u64) -> f64 {
        self.ratios.total * faded(self.as_of_us, now_us)
    }

    pub fn expected(&self, size: Size) -> f64 {
        dot(&self.cost, &size.features()).max(1e-6)
    }

    /// Returns the time that a share of all stays within: 0.5 is the median.
    pub fn quantile(&self, share: f64, size: Size) -> f64 {
        self.expected(size) * self.ratios.quantile(share)
    }

    /// Returns the probability that a time stays within the limit, when `late` others are known to be past it by now.
    pub fn probability(&self, limit: Duration, size: Size, late: u64, now_us: u64) -> f64 {
        let fade = faded(self.as_of_us, now_us);
        let within = self.ratios.within(limit.as_secs_f64() / self.expected(size)) * fade;
        let all = self.ratios.total * fade + late as f64;
        (OPTIMISM + within) / (OPTIMISM + all)
    }

    pub fn measured(&mut self, seconds: f64, size: Size, now_us: u64) {
        let fade = self.fade(now_us);
        let features = size.features();
        let expected = dot(&self.cost, &features).max(1e-6);
        let seconds = seconds.max(1e-6);
        // The first measurements may differ from the prior by any factor.
        let believed = if self.ratios.total < 3.0 {
            seconds
        } else {
            seconds.clamp(expected / SURPRISE_MAX, expected * SURPRISE_MAX)
        };
        let weight = (believed * expected).recip();
        for row in 0..FEATURES {
            self.moment[row] += weight * features[row] * believed;
            for column in 0..FEATURES {
                self.information[row][column] += weight * features[row] * features[column];
            }
        }
        self.solve();
        // Against what is expected *now*: the first ratios of a unit that is unlike the prior would say nothing of its spread.
        self.ratios.add(seconds / self.expected(size), fade);
    }

    /// Counts one that never came.
    pub fn failed(&mut self, now_us: u64) {
        let fade = self.fade(now_us);
        self.ratios.add(f64::INFINITY, fade);
    }

    /// Forgets those that never came: the unit is another one since.
    pub fn forgive(&mut self) {
        self.ratios.forget_last();
    }

    fn fade(&mut self, now_us: u64) -> f64 {
        let fade = faded(self.as_of_us, now_us);
        self.as_of_us = self.as_of_us.max(now_us);
        self.moment.iter_mut().for_each(|value| *value *= fade);
        self.information.iter_mut().flatten().for_each(|value| *value *= fade);
        fade
    }

    /// Least squares over what was measured and, a little, the prior; no cost is negative, for no load makes anything faster.
    fn solve(&mut self) {
        for _ in 0..SWEEPS {
            for row in 0..FEATURES {
                let own = PRIOR_WEIGHT / self.prior.spread[row].powi(2);
                let others: f64 = (0..FEATURES)
                    .filter(|&column| column != row)
                    .map(|column| self.information[row][column] * self.cost[column])
                    .sum();
                let numerator = self.moment[row] - others + own * self.prior.cost[row];
                self.cost[row] = (numerator / (self.information[row][row] + own)).max(0.0);
            }
        }
    }
}

/// Counts on a logarithmic scale: 8 bounds to each doubling, from 1/64 to 64 times. What was measured once is asked for by every
/// decision, so the sums that are asked for are kept beside the counts: 98 of each, 1.6 KB.
#[derive(Clone, Debug)]
struct Histogram {
    counts: [f64; BUCKETS],
    /// Of all buckets before each one.
    before: [f64; BUCKETS],
    total: f64,
}

const PER_DOUBLING: f64 = 8.0;
const DOUBLINGS: f64 = 6.0;
const BUCKETS: usize = (2.0 * DOUBLINGS * PER_DOUBLING) as usize + 2;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0.0; BUCKETS], before: [0.0; BUCKETS], total: 0.0 }
    }
}

impl Histogram {
    /// Fades what is there and adds one.
    fn add(&mut self, ratio: f64, fade: f64) {
        self.counts.iter_mut().for_each(|count| *count *= fade);
        self.counts[place(ratio) as usize] += 1.0;
        self.sum();
    }
    fn forget_last(&mut self) {
        self.counts[BUCKETS - 1] = 0.0;
        self.sum();
    }
    fn sum(&mut self) {
        self.total = 0.0;
        for (before, &count) in self.before.iter_mut().zip(&self.counts) {
            *before = self.total;
            self.total += count;
        }
    }
    /// Returns how many were at most so much, counting a bucket in part. What never came is in the last one: no limit is so
    /// generous that it counts.
    fn within(&self, ratio: f64) -> f64 {
        let position = place(ratio).min(BUCKETS as f64 - 1.0 - 1e-6);
        let bucket = position as usize;
        self.before[bucket] + self.counts[bucket] * position.fract()
    }
    /// Before anything was measured, a time is expected to vary by half either way.
    fn quantile(&self, share: f64) -> f64 {
        if self.total < 0.5 {
            return 2f64.powf(2.0 * (share - 0.5));
        }
        let wanted = share * self.total;
        let bucket = self.before.partition_point(|&before| before < wanted).saturating_sub(1);
        ratio_at(bucket as f64 + (wanted - self.before[bucket]) / self.counts[bucket])
    }
}

/// Returns the bucket of a ratio, and as its fraction how far inside.
fn place(ratio: f64) -> f64 {
    let position = (ratio.max(1e-9).log2() + DOUBLINGS) * PER_DOUBLING + 1.0;
    position.clamp(0.0, BUCKETS as f64 - 1e-6)
}
fn ratio_at(position: f64) -> f64 {
    2f64.powf((position - 1.0) / PER_DOUBLING - DOUBLINGS)
}

fn faded(as_of_us: u64, now_us: u64) -> f64 {
    let age = now_us.saturating_sub(as_of_us) as f64 / 1e6;
    (-age / HALF_LIFE.as_secs_f64()).exp2()
}

fn dot(left: &[f64; FEATURES], right: &[f64; FEATURES]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}
