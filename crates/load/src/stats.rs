//! What a set of samples says: percentiles, rates and goodput.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::client::Sample;

/// Limits that a request must meet to count as good; a limit that is not stated is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Slo {
    pub ttft_ms: Option<f64>,
    pub tpot_ms: Option<f64>,
    pub e2e_ms: Option<f64>,
}

impl Slo {
    pub fn is_stated(&self) -> bool {
        self.ttft_ms.is_some() || self.tpot_ms.is_some() || self.e2e_ms.is_some()
    }

    fn is_met_by(&self, sample: &Sample) -> bool {
        let within = |limit: Option<f64>, value: Option<Duration>| {
            limit.is_none_or(|limit| value.is_some_and(|value| milliseconds(value) <= limit))
        };
        // One token has no time per further token, so it cannot break that limit.
        let tpot = sample.time_per_output_token().or((sample.output_tokens <= 1).then_some(Duration::ZERO));
        sample.error.is_none()
            && within(self.ttft_ms, sample.first_token)
            && within(self.tpot_ms, tpot)
            && within(self.e2e_ms, Some(sample.end_to_end))
    }
}

/// Milliseconds at the places people compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// Returns the value below which `percent` of the sorted values lie, interpolated linearly between ranks.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let rank = percent / 100.0 * (sorted.len() - 1) as f64;
    let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64)
}

impl Percentiles {
    fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent| percentile(&sorted, percent);
        Some(Self {
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            max: at(100.0),
        })
    }
}

/// What one run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub label: String,
    pub model: String,
    pub seconds: f64,
    pub requests: usize,
    pub failed: usize,
    /// How often each error was seen.
    pub errors: BTreeMap<String, usize>,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    pub requests_per_second: f64,
    pub output_tokens_per_second: f64,
    pub total_tokens_per_second: f64,
    pub slo: Slo,
    /// Requests a second that met every stated limit, and their share of all.
    pub goodput_per_second: Option<f64>,
    pub good_share: Option<f64>,
    pub ttft_ms: Option<Percentiles>,
    pub tpot_ms: Option<Percentiles>,
    /// Gaps between chunks: what a reader sees as stutter.
    pub gap_ms: Option<Percentiles>,
    pub e2e_ms: Option<Percentiles>,
    pub samples: Vec<Sample>,
}

impl Summary {
    pub fn of(label: String, model: &str, samples: Vec<Sample>, elapsed: Duration, slo: Slo) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let good: Vec<&Sample> = samples.iter().filter(|sample| sample.error.is_none()).collect();
        let sum = |field: fn(&Sample) -> u64| samples.iter().map(field).sum::<u64>();
        let (input, output) = (sum(|s| s.input_tokens), sum(|s| s.output_tokens));
        let times = |time: &dyn Fn(&Sample) -> Option<Duration>| {
            let values: Vec<f64> = good.iter().filter_map(|sample| time(sample)).map(milliseconds).collect();
            Percentiles::of(&values)
        };
        let gaps: Vec<f64> = good.iter().flat_map(|sample| &sample.gaps).copied().map(milliseconds).collect();
        let met = samples.iter().filter(|sample| slo.is_met_by(sample)).count();
        let mut errors = BTreeMap::new();
        for error in samples.iter().filter_map(|sample| sample.error.clone()) {
            *errors.entry(error).or_insert(0) += 1;
        }
        Self {
            label,
            model: model.to_owned(),
            seconds,
            requests: samples.len(),
            failed: samples.len() - good.len(),
            errors,
            input_tokens: input,
            cached_tokens: sum(|s| s.cached_tokens),
            output_tokens: output,
            requests_per_second: good.len() as f64 / seconds,
            output_tokens_per_second: output as f64 / seconds,
            total_tokens_per_second: (input + output) as f64 / seconds,
            slo,
            goodput_per_second: slo.is_stated().then(|| met as f64 / seconds),
            good_share: slo.is_stated().then(|| met as f64 / samples.len().max(1) as f64),
            ttft_ms: times(&|sample| sample.first_token),
            tpot_ms: times(&Sample::time_per_output_token),
            gap_ms: Percentiles::of(&gaps),
            e2e_ms: times(&|sample| Some(sample.end_to_end)),
            samples,
        }
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(first_ms: u64, end_ms: u64, output: u64, error: Option<&str>) -> Sample {
        Sample {
            first_token: Some(Duration::from_millis(first_ms)),
            end_to_end: Duration::from_millis(end_ms),
            output_tokens: output,
            error: error.map(str::to_owned),
            ..Sample::default()
        }
    }

    #[test]
    fn percentiles_interpolate_between_ranks() {
        let sorted: Vec<f64> = (1..=5).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50.0), 3.0);
        assert_eq!(percentile(&sorted, 90.0), 4.6);
        assert_eq!(percentile(&sorted, 100.0), 5.0);
        assert!(percentile(&[], 50.0).is_nan());
    }

    #[test]
    fn time_per_output_token_leaves_the_first_one_out() {
        assert_eq!(sample(100, 1_100, 11, None).time_per_output_token(), Some(Duration::from_millis(100)));
        assert_eq!(sample(100, 1_100, 1, None).time_per_output_token(), None);
    }

    #[test]
    fn goodput_counts_only_requests_within_every_limit() {
        let samples = vec![
            sample(100, 1_100, 11, None),               // good
            sample(900, 1_900, 11, None),               // first token too late
            sample(100, 5_100, 11, None),               // too slow after it
            sample(100, 1_100, 11, Some("status 500")), // failed
            sample(100, 100, 1, None),                  // one token: good
        ];
        let slo = Slo { ttft_ms: Some(500.0), tpot_ms: Some(200.0), e2e_ms: None };
        let summary = Summary::of("x".into(), "m", samples, Duration::from_secs(2), slo);
        assert_eq!(summary.goodput_per_second, Some(1.0));
        assert_eq!(summary.good_share, Some(0.4));
        assert_eq!((summary.requests, summary.failed), (5, 1));
        assert_eq!(summary.requests_per_second, 2.0);
    }
}
