//! Who was chosen, and why not the others?

use domain::Money;
use serde::{Deserialize, Serialize};

use crate::{Jurisdiction, Order, Reason, Residency, UnitId};

/// Every candidate is in exactly one of the two lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Since the process began.
    pub at_us: u64,
    pub order: Order,
    /// The rules that bound the request: with where each choice processes, the decision alone proves that it kept them.
    pub residency: Vec<Residency>,
    /// The first is tried first.
    pub choices: Vec<Choice>,
    pub rejected: Vec<Rejected>,
}

/// A unit that may answer, with what was expected of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub unit: UnitId,
    /// Its place in the list of candidates.
    pub candidate: usize,
    pub processes_in: Vec<Jurisdiction>,
    /// Of this request; `None` where the unit has no price and may answer all the same.
    pub cost: Option<Money>,
    pub ttft_us: u64,
    /// What one TTFT in twenty is expected to exceed: when to send a second one.
    pub ttft_p95_us: u64,
    pub per_token_us: u64,
    /// That the SLO is met; 1 where there is none.
    pub probability: f64,
    pub meets_slo: bool,
    pub warm_tokens: u64,
    /// Requests that it serves or that wait there.
    pub load: u64,
    pub standing: Standing,
}

/// How far a unit's own record carries what is expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Measured lately.
    Proven,
    /// Hardly measured, and believed to be good until it is: a few at a time go there to find out.
    Unproven,
    /// It has failed and is back; its share grows with each answer.
    Recovering,
    /// The one request that finds out whether it is back.
    Probe,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    pub unit: UnitId,
    pub candidate: usize,
    pub reason: Reason,
}

impl Decision {
    pub fn first(&self) -> Option<&Choice> {
        self.choices.first()
    }
    /// Returns when the earliest of those that rest or pause may be asked again, if that is all that keeps anybody back.
    pub fn retry_at_us(&self) -> Option<u64> {
        self.rejected.iter().filter_map(|rejected| rejected.reason.until_us()).min()
    }
}
