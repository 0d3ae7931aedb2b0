//! What a request consumed, in disjoint dimensions, and how its metering ended.

use serde::{Deserialize, Serialize};

/// Counts that never overlap, except `reasoning`, which is a part of `output` and only informs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_uncached: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub output: u64,
    pub reasoning: u64,
    /// Machine time in microseconds, for prices per second; 0 where nobody measures it.
    #[serde(default)]
    pub compute_us: u64,
}

impl Usage {
    /// Returns all input tokens, cached or not: what OpenAI calls `prompt_tokens`.
    pub fn input(&self) -> u64 {
        self.input_uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h
    }
    pub fn total(&self) -> u64 {
        self.input() + self.output
    }
}

/// How the count of a request's usage came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageEnd {
    /// The answer ended by itself: a stop token, a stop string or the length asked for.
    Complete,
    /// The answer was cut by us: a timeout, a drain, a budget.
    Truncated,
    /// The client left; the rest was still produced and counted.
    CancelledDrained,
    /// The client left; work stopped and what was produced is counted.
    CancelledAborted,
    /// The work failed after consuming tokens.
    ErrorBilled,
    /// Nobody can say any more: the process died with the hold open.
    Unknown,
}

/// Who counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    Measured,
    Provider,
    Estimated,
}
