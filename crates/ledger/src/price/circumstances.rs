//! Under which circumstances was a request served, as far as its price depends on them?

use domain::ModelName;
pub use domain::{Provider, Region, ServiceTier, UnknownTier};
use serde::{Deserialize, Serialize};

/// What picks the prices that a request pays, beside its model. The context tier is none of it: that follows from the
/// input that was used. The store keeps each distinct value once, so nothing in here may differ from request to request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Circumstances {
    pub provider: Provider,
    pub service_tier: ServiceTier,
    /// Where it was processed, where the buyer chose; `None` is the provider's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// Our own engine, at the standard tier.
impl Default for Circumstances {
    fn default() -> Self {
        Self { provider: Provider::local(), service_tier: ServiceTier::Standard, region: None }
    }
}

impl Circumstances {
    /// Returns the name under which this model's price is kept: our own models under their names, others under
    /// `provider/model`, for two providers rarely ask the same for one model.
    pub fn priced_as(&self, model: &ModelName) -> ModelName {
        if self.provider.is_local() {
            model.clone()
        } else {
            ModelName::new(format!("{}/{model}", self.provider))
        }
    }
}
