//! Who made an answer, and where? What a repeated answer must still be able to say of the first.

use domain::{ModelName, Provider, Region, ServiceTier};
use serde::{Deserialize, Serialize};

/// Everything that residency rules, prices and headers ask of an answer's origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// The supply unit: `model@provider`.
    pub unit: String,
    pub provider: Provider,
    /// The model whose price it cost, which is the name that requests for it are booked under.
    pub model: ModelName,
    pub service_tier: ServiceTier,
    pub region: Option<Region>,
    /// Where the unit processes; empty is unknown, which no residency rule admits.
    pub jurisdictions: Vec<String>,
}
