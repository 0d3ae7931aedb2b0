//! How urgently is a request served?

use std::fmt;

use serde::{Deserialize, Serialize};

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
