//! What did a drill measure: counts, errors by name and percentiles?

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::stats::percentile;

/// How one request went; times count from the instant it was *due*, so a generator or a gateway that falls behind cannot hide it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub due: Duration,
    pub first: Duration,
    pub end: Duration,
    pub wrong: Option<String>,
}

#[derive(Debug, Default)]
pub struct Tally {
    pub outcomes: Vec<Outcome>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Milliseconds {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// All requests, warm-up included: what processor time is divided by.
    pub asked: usize,
    /// Of those, how many were answered rightly.
    pub answered: usize,
    /// Requests within the measured time, and how many of them went wrong.
    pub measured: usize,
    pub wrong: usize,
    pub errors: BTreeMap<String, usize>,
    pub seconds: f64,
    /// Right answers a second, by the instant they ended.
    pub per_second: f64,
    pub first_ms: Option<Milliseconds>,
    pub end_ms: Option<Milliseconds>,
}

impl Tally {
    /// Sums up what was due from `warm` on, within `span`.
    pub fn measured(&self, warm: Duration, span: Duration) -> Measured {
        let within: Vec<&Outcome> = self.outcomes.iter().filter(|outcome| outcome.due >= warm).collect();
        let right: Vec<&&Outcome> = within.iter().filter(|outcome| outcome.wrong.is_none()).collect();
        let mut errors = BTreeMap::new();
        for name in self.outcomes.iter().filter_map(|outcome| outcome.wrong.clone()) {
            *errors.entry(name).or_insert(0) += 1;
        }
        let window = warm..warm + span;
        let ended = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.wrong.is_none() && window.contains(&(outcome.due + outcome.end)));
        Measured {
            asked: self.outcomes.len(),
            answered: self.outcomes.iter().filter(|outcome| outcome.wrong.is_none()).count(),
            measured: within.len(),
            wrong: within.len() - right.len(),
            errors,
            seconds: span.as_secs_f64(),
            per_second: ended.count() as f64 / span.as_secs_f64(),
            first_ms: Milliseconds::of(right.iter().map(|outcome| outcome.first)),
            end_ms: Milliseconds::of(right.iter().map(|outcome| outcome.end)),
        }
    }
}

impl Milliseconds {
    fn of(times: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        let at = |percent| percentile(&sorted, percent);
        (!sorted.is_empty()).then(|| Self {
            mean,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: at(100.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_answers_have_no_time_and_warm_up_no_place() {
        let ms = Duration::from_millis;
        let outcome = |due, end, wrong: Option<&str>| Outcome {
            due: ms(due),
            first: ms(1),
            end: ms(end),
            wrong: wrong.map(str::to_owned),
        };
        let outcomes = vec![
            outcome(0, 900, None),
            outcome(1_000, 10, None),
            outcome(1_500, 20, None),
            outcome(1_600, 1, Some("status 500")),
        ];
        let measured = Tally { outcomes }.measured(ms(1_000), ms(1_000));
        assert_eq!((measured.asked, measured.answered, measured.measured, measured.wrong), (4, 3, 3, 1));
        assert_eq!(measured.per_second, 2.0);
        assert_eq!(measured.end_ms.unwrap().max, 20.0);
    }
}
