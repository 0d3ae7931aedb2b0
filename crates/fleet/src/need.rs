//! What does one request need of whoever answers it?

use std::sync::Arc;
use std::time::Duration;

use domain::{Money, ServiceTier};
use serde::{Deserialize, Serialize};

use crate::{Capabilities, DataClass, Jurisdiction, Tier, UnitId};

#[derive(Clone, Debug, Default)]
pub struct Need {
    pub capabilities: Capabilities,
    /// The whole prompt.
    pub input_tokens: u64,
    /// The beginning of the prompt up to its last cache mark; all of it where the provider caches unasked. Only this much is
    /// charged as written to a cache.
    pub marked_tokens: u64,
    /// What the answer will likely have; costs are computed with it.
    pub output_tokens: u64,
    /// What the answer may have, where the client said so; limits are checked with it.
    pub output_tokens_max: Option<u64>,
    pub quality_min: Option<u8>,
    pub slo: Option<Slo>,
    /// Every rule that binds this request; a unit must satisfy all of them.
    pub residency: Vec<Residency>,
    pub data_class: Option<DataClass>,
    /// Allowed tiers; `None` is all.
    pub tiers: Option<Vec<Tier>>,
    pub service_tier: ServiceTier,
    pub order: Order,
    /// The most that this request may cost; `None` where no budget binds it.
    pub budget: Option<Money>,
    /// Whether a unit without a price may answer, after all that have one.
    pub allow_unpriced: bool,
    /// Units that have failed this request already.
    pub tried: Vec<UnitId>,
}

/// How fast an answer should come, and how sure that should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    pub ttft: Option<Duration>,
    /// Between tokens, averaged over the answer.
    pub per_token: Option<Duration>,
    /// From 0 to 1, of each of the two.
    pub probability: f64,
}

/// A rule that binds a request: all its processing stays within these jurisdictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    pub name: Arc<str>,
    pub jurisdictions: Vec<Jurisdiction>,
}

impl Residency {
    /// Returns whether *everywhere* that the unit may process is within the rule: a unit in `eu` and `us` may choose `us`.
    pub fn admits(&self, jurisdictions: &[Jurisdiction]) -> bool {
        !jurisdictions.is_empty() && jurisdictions.iter().all(|place| self.jurisdictions.contains(place))
    }
}

/// Which of the units that will do comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The merit order: the cheapest that meets the SLO.
    #[default]
    Cost,
    /// The fastest that meets the SLO.
    Latency,
    /// As the candidates are listed.
    Listed,
}
