//! Why may a unit not answer this request?

use std::sync::Arc;

use domain::{Money, ServiceTier};
use serde::{Deserialize, Serialize};

use crate::{Capabilities, DataClass, Fault, Jurisdiction, Tier};

/// The first filter that a unit did not pass, with the numbers that decided. Times are since the process began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    #[error("rule {rule:?} allows {}; it processes in {}", list(.allowed), list_or(.processes_in, "unknown places"))]
    Residency { rule: Arc<str>, allowed: Vec<Jurisdiction>, processes_in: Vec<Jurisdiction> },
    #[error("data of class {class} may not go there; {} may", list_or(.allowed, "nothing"))]
    DataClass { class: DataClass, allowed: Vec<DataClass> },
    #[error("its tier is {tier}; allowed are {}", list_or(.allowed, "none"))]
    Tier { tier: Tier, allowed: Vec<Tier> },
    #[error("this key may not use it")]
    KeyScope,
    #[error("it lacks {missing}")]
    Capability { missing: Capabilities },
    #[error(
        "{input_tokens} tokens of prompt and {output_tokens} of answer exceed its context of {context_tokens}"
    )]
    Context { input_tokens: u64, output_tokens: u64, context_tokens: u64 },
    #[error("an answer may have {wanted} tokens; its limit is {limit}")]
    OutputLimit { wanted: u64, limit: u64 },
    #[error("its quality is {}; at least {min} is asked for", .quality.map_or("unknown".to_owned(), |quality| quality.to_string()))]
    Quality { quality: Option<u8>, min: u8 },
    #[error("it does not serve at {wanted}")]
    ServiceTier { wanted: ServiceTier },
    #[error("it has failed this request already")]
    Tried,
    #[error("it failed ({last}, {failures} times in a row); it rests for {} ms more", wait_ms(.now_us, .until_us))]
    BreakerOpen { last: Fault, failures: u32, until_us: u64, now_us: u64 },
    #[error("it may be back; one request is finding out")]
    Probing,
    #[error("it asked for a pause; {} ms are left", wait_ms(.now_us, .until_us))]
    Resting { until_us: u64, now_us: u64 },
    #[error("its quota is used up; it renews in {} ms", wait_ms(.now_us, .until_us))]
    QuotaUsed { until_us: u64, now_us: u64 },
    #[error("{in_flight} requests are in flight; its limit is {limit}")]
    ConcurrencyLimit { in_flight: u32, limit: u32 },
    #[error("it has no price for this request")]
    Unpriced,
    #[error("the request would cost {cost} USD; {left} USD are left")]
    Budget { cost: Money, left: Money },
}

impl Reason {
    /// Returns when this reason passes by itself, if it does.
    pub fn until_us(&self) -> Option<u64> {
        match self {
            Self::BreakerOpen { until_us, .. }
            | Self::Resting { until_us, .. }
            | Self::QuotaUsed { until_us, .. } => Some(*until_us),
            _ => None,
        }
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    list_or(items, "nothing")
}
fn list_or<T: ToString>(items: &[T], none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
fn wait_ms(now_us: &u64, until_us: &u64) -> u64 {
    until_us.saturating_sub(*now_us).div_ceil(1000)
}
