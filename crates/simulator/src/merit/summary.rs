//! How did a whole hour go?

use domain::Money;

use super::policy::{Policy, slo};
use super::replay::{Fate, Scenario};

#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub policy: Policy,
    pub requests: usize,
    /// Answered in full, with the first token and the pace that were asked for.
    pub met: usize,
    pub unanswered: usize,
    /// For tokens alone.
    pub tokens_cost: Money,
    /// And the rent of the machines that the policy uses.
    pub cost: Money,
    pub ttft_p50_ms: f64,
    pub ttft_p99_ms: f64,
    pub retried: usize,
    /// Answers by unit.
    pub answered_by: Vec<usize>,
}

impl Summary {
    pub fn of(scenario: &Scenario, policy: &Policy, fates: &[Fate]) -> Self {
        let limit = slo();
        let (ttft_max, per_token_max) = (limit.ttft.expect("stated"), limit.per_token.expect("stated"));
        let is_met = |fate: &&Fate| {
            fate.answered_by.is_some()
                && fate.ttft_us.is_some_and(|us| u128::from(us) <= ttft_max.as_micros())
                && fate.per_token_us.is_some_and(|us| u128::from(us) <= per_token_max.as_micros())
        };
        let mut ttfts: Vec<_> = fates.iter().filter_map(|fate| fate.ttft_us).collect();
        ttfts.sort_unstable();
        let quantile = |share: f64| {
            let last = ttfts.len().saturating_sub(1);
            ttfts.get((last as f64 * share).round() as usize).map_or(f64::NAN, |&us| us as f64 / 1e3)
        };
        let tokens_cost = fates.iter().map(|fate| fate.cost).sum();
        let used = scenario.supplies.iter().enumerate().filter(|(unit, _)| policy.uses(*unit));
        let rent_milli: u64 = used.map(|(_, supply)| supply.rent_milli_usd).sum();
        let mut answered_by = vec![0; scenario.supplies.len()];
        for unit in fates.iter().filter_map(|fate| fate.answered_by) {
            answered_by[unit] += 1;
        }
        Self {
            policy: policy.clone(),
            requests: fates.len(),
            met: fates.iter().filter(is_met).count(),
            unanswered: fates.iter().filter(|fate| fate.answered_by.is_none()).count(),
            tokens_cost,
            cost: tokens_cost + Money::from_pico(i128::from(rent_milli) * 1_000_000_000),
            ttft_p50_ms: quantile(0.5),
            ttft_p99_ms: quantile(0.99),
            retried: fates.iter().filter(|fate| fate.attempts > 1).count(),
            answered_by,
        }
    }

    pub fn attainment(&self) -> f64 {
        self.met as f64 / self.requests.max(1) as f64
    }
}

/// Returns the cheapest of those that attain so much.
pub fn cheapest(summaries: &[Summary], attainment: f64) -> Option<&Summary> {
    summaries.iter().filter(|summary| summary.attainment() >= attainment).min_by_key(|summary| summary.cost)
}

/// Returns those that nobody beats in both cost and attainment, the cheapest first.
pub fn front(summaries: &[Summary]) -> Vec<&Summary> {
    let mut sorted: Vec<_> = summaries.iter().collect();
    sorted.sort_by(|left, right| left.cost.cmp(&right.cost).then(right.met.cmp(&left.met)));
    let mut front: Vec<&Summary> = Vec::new();
    for summary in sorted {
        if front.last().is_none_or(|last| summary.met > last.met) {
            front.push(summary);
        }
    }
    front
}
