//! What are service tiers called in OpenAI's words?

use domain::ServiceTier;

/// `auto` leaves it to the project's setting, and says nothing; so do words for contracts that have no price of their own.
pub(super) fn read(name: &str) -> Option<ServiceTier> {
    match name {
        "default" | "standard" | "on_demand" => Some(ServiceTier::Standard),
        "flex" => Some(ServiceTier::Flex),
        "priority" | "fast" => Some(ServiceTier::Priority),
        "batch" => Some(ServiceTier::Batch),
        _ => None,
    }
}

pub(super) fn word(tier: ServiceTier) -> &'static str {
    match tier {
        ServiceTier::Standard => "default",
        tier => tier.name(),
    }
}
