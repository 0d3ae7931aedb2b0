//! How shall a stand-in behave: how fast, and how badly?

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Set by [`super::Standin::behave`] or `PUT /__behaviour`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    pub time_to_first_token_ms: u64,
    /// As fast as possible without it.
    pub tokens_per_second: Option<f64>,
    /// 0.2 makes each pause up to 20 % shorter or longer.
    pub jitter: f64,
    /// Draws the jitter and the fractions.
    pub seed: u64,
    pub cache: CacheRules,
    /// Longer prompts are refused.
    pub context_tokens: u64,
    /// All that match a request happen to it, later ones winning where two say different things.
    pub ugly: Vec<Rule>,
}

/// When a prompt's beginning is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheRules {
    pub min_tokens: u64,
    pub block_tokens: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    pub when: When,
    /// Only requests whose path contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(rename = "do")]
    pub ugly: Ugly,
}

/// Which requests, numbered from 1 since the behaviour was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    Always,
    First(u64),
    Nth(Vec<u64>),
    Every(u64),
    Fraction(f64),
}

/// The ugly menu.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ugly {
    /// 429, and how it says when to come back.
    RateLimited {
        retry: RetryForm,
        seconds: f64,
    },
    ServerError {
        status: u16,
        body: ServerErrorBody,
    },
    /// Anthropic's 529; elsewhere the provider's own 503.
    Overloaded,
    /// The status is 200, and an error follows this many events.
    ErrorAfter {
        events: usize,
    },
    /// Silence before this event (0: before the head), for so long.
    Stall {
        before_event: usize,
        milliseconds: u64,
    },
    /// The connection ends after this many bytes of the whole response, head included.
    Reset {
        at_byte: usize,
        #[serde(default)]
        how: ResetHow,
    },
    /// A clean end without the terminal event, after this many events or where the finish would be.
    EndEarly {
        #[serde(default)]
        after_events: Option<usize>,
    },
    /// The terminal event comes, but nothing said how the answer ended.
    DoneWithoutFinish,
    Usage {
        how: UsageQuirk,
    },
    /// A line that is no JSON, before this event.
    MalformedLine {
        before_event: usize,
    },
    /// Every write has so many bytes.
    TinyWrites {
        bytes: usize,
    },
    /// Two writes, parted at this byte of the response.
    Cut {
        at_byte: usize,
    },
    CarriageReturns,
    /// Comment lines and, where the provider has them, pings between events.
    Comments,
    /// All events in one write.
    Packed,
    /// So many bytes, then a pause.
    SlowDrip {
        bytes: usize,
        milliseconds: u64,
    },
    ContentType {
        value: String,
    },
    /// If the client accepts it.
    Gzip,
    ToolIndex {
        how: ToolIndex,
    },
    ReasoningField {
        field: ReasoningField,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryForm {
    /// `retry-after: 2`
    Seconds,
    /// `retry-after: Sat, 21 Nov 2026 15:00:00 GMT`
    HttpDate,
    /// `retry-after-ms: 1500`
    Milliseconds,
    /// `x-ratelimit-reset-requests: 1.5s`, `anthropic-ratelimit-requests-reset: 2026-…Z`
    ResetHeaders,
    /// In words, or in the provider's details, only.
    BodyOnly,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerErrorBody {
    Json,
    Html,
    /// JSON that ends in the middle.
    Partial,
    Empty,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetHow {
    /// RST, as a dying machine's network stack sends.
    #[default]
    Reset,
    /// FIN in the middle, as a dying process's sends.
    Close,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageQuirk {
    #[default]
    AsDocumented,
    Missing,
    Twice,
    /// In the chunk that ends the choice, as some compatible servers do.
    WithChoices,
    Zeros,
    /// Cache totals in the last event differ from those in the first.
    ChangedLate,
}

/// How calls are numbered in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolIndex {
    #[default]
    AsDocumented,
    /// Every call is number 0; only its id is new.
    Duplicated,
    Missing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningField {
    /// Chat Completions at OpenAI do not show reasoning.
    #[default]
    AsDocumented,
    ReasoningContent,
    Reasoning,
}

/// What happens to one request.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub uglies: Vec<Ugly>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            time_to_first_token_ms: 0,
            tokens_per_second: None,
            jitter: 0.0,
            seed: 0,
            cache: CacheRules::default(),
            context_tokens: 1_000_000,
            ugly: Vec::new(),
        }
    }
}

impl Default for CacheRules {
    fn default() -> Self {
        Self { min_tokens: 1024, block_tokens: 128 }
    }
}

impl Behaviour {
    pub fn plan(&self, number: u64, path: &str) -> Plan {
        let matches = |(place, rule): &(usize, &Rule)| {
            rule.path.as_ref().is_none_or(|part| path.contains(&**part))
                && rule.when.holds(number, self.seed ^ (*place as u64) << 32)
        };
        Plan {
            uglies: self.ugly.iter().enumerate().filter(matches).map(|(_, rule)| rule.ugly.clone()).collect(),
        }
    }
}

impl When {
    fn holds(&self, number: u64, seed: u64) -> bool {
        match self {
            Self::Always => true,
            Self::First(count) => number <= *count,
            Self::Nth(numbers) => numbers.contains(&number),
            Self::Every(step) => *step > 0 && number.is_multiple_of(*step),
            Self::Fraction(fraction) => draw(seed, number) < *fraction,
        }
    }
}

impl Plan {
    /// Returns the last of those that `pick` takes.
    pub fn find<T>(&self, pick: impl Fn(&Ugly) -> Option<T>) -> Option<T> {
        self.uglies.iter().rev().find_map(pick)
    }

    pub fn has(&self, ugly: &Ugly) -> bool {
        self.uglies.contains(ugly)
    }

    pub fn usage(&self) -> UsageQuirk {
        let pick = |ugly: &Ugly| if let Ugly::Usage { how } = ugly { Some(*how) } else { None };
        self.find(pick).unwrap_or_default()
    }

    pub fn tool_index(&self) -> ToolIndex {
        let pick = |ugly: &Ugly| if let Ugly::ToolIndex { how } = ugly { Some(*how) } else { None };
        self.find(pick).unwrap_or_default()
    }

    pub fn reasoning_field(&self) -> ReasoningField {
        let pick = |ugly: &Ugly| if let Ugly::ReasoningField { field } = ugly { Some(*field) } else { None };
        self.find(pick).unwrap_or_default()
    }
}

/// Returns a number in 0..1 that the seed and the request's number decide.
pub fn draw(seed: u64, number: u64) -> f64 {
    SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number).random()
}
