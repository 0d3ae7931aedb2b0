//! Under which circumstances was a request served, as far as its price depends on them?

use std::fmt;
use std::sync::Arc;

use domain::ModelName;
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

/// How urgently a provider serves, under the names that its invoices use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    #[default]
    Standard,
    /// Within a day, for less.
    Batch,
    /// When there is room, for less.
    Flex,
    /// Before others, for more; some call it fast.
    Priority,
}

impl ServiceTier {
    pub const ALL: [ServiceTier; 4] = [Self::Standard, Self::Batch, Self::Flex, Self::Priority];

    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
        }
    }
}

impl fmt::Display for ServiceTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service tier is standard, batch, flex or priority; got {0:?}")]
pub struct UnknownTier(String);

impl std::str::FromStr for ServiceTier {
    type Err = UnknownTier;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|tier| tier.name() == name);
        found.ok_or_else(|| UnknownTier(name.to_owned()))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

name! {
    /// Who produced the tokens: `local` for our own engine, else the vendor's name in the catalogue, such as `openai`.
    Provider
}
name! {
    /// Where a request was processed, as its provider writes it: `eu`, `us-east-1`.
    Region
}

impl Provider {
    pub const LOCAL: &'static str = "local";

    pub fn local() -> Self {
        Self::new(Self::LOCAL)
    }
    pub fn is_local(&self) -> bool {
        self.as_str() == Self::LOCAL
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
