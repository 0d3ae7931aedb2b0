//! Which requests arrive when, and how long their prompts and answers are.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

/// How requests come.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Arrivals {
    /// Closed loop: so many clients, each sending its next request when the last one ended.
    Closed { concurrency: usize },
    /// Open loop: so many requests a second at random instants (Poisson), however slow the answers.
    Open { per_second: f64 },
    /// The instants and lengths of a recorded hour.
    #[serde(skip_serializing)]
    Trace(Vec<Arrival>),
}

/// One line of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Milliseconds after the start.
    pub arrival_ms: f64,
    pub input_tokens: usize,
    pub output_tokens: usize,
}

/// A length, or an inclusive range to draw one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lengths {
    pub least: usize,
    pub most: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("a length is a number such as 128 or a range such as 100-500, at least 1; got {0:?}")]
    Length(String),
    #[error("{path}:{line}: {message}")]
    Trace { path: String, line: usize, message: String },
    #[error("the trace {path} has no arrivals")]
    EmptyTrace { path: String },
    #[error("the rate must be above 0 requests a second; got {0}")]
    Rate(f64),
    #[error("the concurrency must be at least 1")]
    Concurrency,
}

impl FromStr for Lengths {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let wrong = || PlanError::Length(text.to_owned());
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let number = |part: &str| part.trim().parse::<usize>().map_err(|_| wrong());
        let lengths = Lengths { least: number(least)?, most: number(most)? };
        if lengths.least == 0 || lengths.least > lengths.most { Err(wrong()) } else { Ok(lengths) }
    }
}

impl Lengths {
    pub fn draw(&self, random: &mut SmallRng) -> usize {
        random.random_range(self.least..=self.most)
    }
}

impl Arrivals {
    pub fn check(&self) -> Result<(), PlanError> {
        match self {
            Arrivals::Closed { concurrency: 0 } => Err(PlanError::Concurrency),
            Arrivals::Open { per_second } if !(*per_second > 0.0 && per_second.is_finite()) => {
                Err(PlanError::Rate(*per_second))
            }
            _ => Ok(()),
        }
    }

    pub fn label(&self) -> String {
        match self {
            Arrivals::Closed { concurrency: 1 } => "1 client".into(),
            Arrivals::Closed { concurrency } => format!("{concurrency} clients"),
            Arrivals::Open { per_second } => format!("{per_second}/s"),
            Arrivals::Trace(arrivals) => format!("trace of {}", arrivals.len()),
        }
    }
}

/// Returns the waiting time before the next arrival of a Poisson process.
pub fn poisson_gap(per_second: f64, random: &mut SmallRng) -> Duration {
    let uniform: f64 = random.random_range(f64::MIN_POSITIVE..1.0);
    Duration::from_secs_f64(-uniform.ln() / per_second)
}

/// Reads a trace: one JSON object a line, sorted by arrival.
pub fn read_trace(path: &Path) -> Result<Vec<Arrival>, PlanError> {
    let name = path.display().to_string();
    let fail = |line: usize, message: String| PlanError::Trace { path: name.clone(), line, message };
    let text = std::fs::read_to_string(path).map_err(|error| fail(0, error.to_string()))?;
    let mut arrivals = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let arrival: Arrival =
            serde_json::from_str(line).map_err(|error| fail(index + 1, error.to_string()))?;
        if arrival.arrival_ms.is_nan()
            || arrival.arrival_ms < 0.0
            || arrival.input_tokens == 0
            || arrival.output_tokens == 0
        {
            return Err(fail(
                index + 1,
                "arrival_ms must not be negative, and lengths must be at least 1".into(),
            ));
        }
        arrivals.push(arrival);
    }
    if arrivals.is_empty() {
        return Err(PlanError::EmptyTrace { path: name });
    }
    arrivals.sort_by(|a, b| a.arrival_ms.total_cmp(&b.arrival_ms));
    Ok(arrivals)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn lengths_are_numbers_or_ranges() {
        assert_eq!("128".parse::<Lengths>().unwrap(), Lengths { least: 128, most: 128 });
        assert_eq!("10-20".parse::<Lengths>().unwrap(), Lengths { least: 10, most: 20 });
        for wrong in ["0", "", "x", "20-10", "-5", "1-2-3"] {
            assert!(wrong.parse::<Lengths>().is_err(), "{wrong:?} must be refused");
        }
    }

    #[test]
    fn poisson_arrivals_come_at_the_stated_rate() {
        // The mean of n exponential gaps has a standard error of 1/(rate √n): 1 % here, so 5 % is five of them.
        let mut random = SmallRng::seed_from_u64(7);
        let total: f64 = (0..10_000).map(|_| poisson_gap(20.0, &mut random).as_secs_f64()).sum();
        assert!((total / 10_000.0 * 20.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn a_trace_names_the_line_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        std::fs::write(
            &path,
            "{\"arrival_ms\":5,\"input_tokens\":1,\"output_tokens\":1}\n\n{\"arrival\":1}\n",
        )
        .unwrap();
        let error = read_trace(&path).unwrap_err().to_string();
        assert!(error.contains("trace.jsonl:3: unknown field `arrival`"), "{error}");
        std::fs::write(
            &path,
            "{\"arrival_ms\":9,\"input_tokens\":1,\"output_tokens\":2}\n{\"arrival_ms\":1,\"input_tokens\":3,\"output_tokens\":4}",
        )
        .unwrap();
        assert_eq!(read_trace(&path).unwrap()[0].input_tokens, 3);
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_trace(&path), Err(PlanError::EmptyTrace { .. })));
    }
}
