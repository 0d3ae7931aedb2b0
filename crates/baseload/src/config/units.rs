//! Which supply units does a file name, and which of them can a route use?
//!
//! What is decided here needs nothing but the file: health, load, price of the request and its needs are the router's to know.

use domain::ModelName;
use ledger::{Provider, ServiceTier};

use super::Config;
use super::kinds::Capability;
use super::models::ModelSetting;
use super::providers::{PlaceTier, ProviderSetting};
use super::routes::RouteSetting;

/// One model at one provider, or at our own engine.
#[derive(Clone, Copy)]
pub struct Unit<'a> {
    config: &'a Config,
    pub model: &'a ModelSetting,
    /// `None`: our own engine.
    pub provider: Option<&'a ProviderSetting>,
}

impl Config {
    /// Returns the units in the order of the file. One whose provider is unknown is none.
    pub fn units(&self) -> impl Iterator<Item = Unit<'_>> {
        self.models.iter().filter_map(|model| {
            let provider = match &model.provider {
                Some(named) => Some(self.providers.iter().find(|provider| provider.name == *named)?),
                None => None,
            };
            Some(Unit { config: self, model, provider })
        })
    }
}

impl<'a> Unit<'a> {
    pub fn name(&self) -> ModelName {
        self.model.public_name()
    }

    /// Returns `model@provider`, as headers and decisions call it.
    pub fn title(&self) -> String {
        format!("{}@{}", self.name(), self.provider_name())
    }

    pub fn provider_name(&self) -> &'a str {
        self.provider.map_or(Provider::LOCAL, |provider| provider.name.as_str())
    }

    /// Returns whose price it has.
    pub fn vendor(&self) -> Provider {
        self.provider.map_or_else(Provider::local, ProviderSetting::vendor)
    }

    pub fn tier(&self) -> PlaceTier {
        self.provider.map_or(self.config.engine.tier, |provider| provider.tier)
    }

    /// Returns everywhere that it may process. The region of this machine is what is known of it where nothing else is said.
    pub fn jurisdictions(&self) -> &'a [String] {
        match (self.provider, &self.config.region) {
            (Some(provider), _) => &provider.jurisdictions,
            (None, Some(region)) if self.config.engine.jurisdictions.is_empty() => {
                std::slice::from_ref(region)
            }
            (None, _) => &self.config.engine.jurisdictions,
        }
    }

    pub fn data_classes(&self) -> Option<&'a [String]> {
        let classes =
            self.provider.map_or(&self.config.engine.data_classes, |provider| &provider.data_classes);
        classes.as_deref()
    }

    pub fn capabilities(&self) -> Vec<Capability> {
        self.model.capabilities(self.provider)
    }

    pub fn service_tiers(&self) -> Vec<ServiceTier> {
        match (&self.model.service_tiers, self.provider) {
            (Some(tiers), _) => tiers.clone(),
            (None, Some(_)) => ServiceTier::ALL.to_vec(),
            (None, None) => vec![ServiceTier::Standard],
        }
    }

    /// Whether the route asks for it by name or class.
    pub fn is_named_by(&self, route: &RouteSetting) -> bool {
        route.models.iter().any(|name| self.model.answers_to(name))
            || route.classes.iter().any(|class| self.model.classes.contains(class))
    }

    /// Returns why this route can never use it, though it names it; `None` is that it can.
    pub fn why_not(&self, route: &RouteSetting) -> Option<String> {
        if let Some(wanted) = route.quality_min {
            match self.model.quality {
                None => return Some(format!("its quality is not stated, and {wanted} is wanted")),
                Some(quality) if quality < wanted => {
                    return Some(format!("quality {quality} is below {wanted}"));
                }
                Some(_) => (),
            }
        }
        if let Some(tiers) = route.tiers.as_ref().filter(|tiers| !tiers.contains(&self.tier())) {
            let wanted: Vec<&str> = tiers.iter().map(|tier| tier.name()).collect();
            return Some(format!("it is {}, and {} is wanted", self.tier().name(), wanted.join(" or ")));
        }
        if let Some(wanted) = &route.jurisdictions {
            if self.jurisdictions().is_empty() {
                return Some("nobody has said where it processes".into());
            }
            if let Some(outside) = self.jurisdictions().iter().find(|place| !wanted.contains(place)) {
                return Some(format!("it processes in {outside}, and {} is wanted", wanted.join(" or ")));
            }
        }
        if let (Some(class), Some(admitted)) = (&route.data_class, self.data_classes())
            && !admitted.contains(class)
        {
            return Some(format!("{class} data may not go there"));
        }
        let tier = route.service_tier.filter(|tier| !self.service_tiers().contains(tier))?;
        Some(format!("it has no service tier {tier}"))
    }
}
