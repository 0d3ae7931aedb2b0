//! What may clients ask for instead of a model, and where may whose data go? `[[route]]`, `[[residency]]`, `[cache]`,
//! `[responses]`.

use domain::{Account, ModelName};
use ledger::ServiceTier;
use serde::Deserialize;

use super::providers::{PlaceTier, check_words};
use super::read::{At, Mistakes};
use super::secret::SecretSource;

/// A public name that says what it needs; the cheapest unit that meets it answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSetting {
    pub name: ModelName,
    #[serde(default)]
    pub models: Vec<ModelName>,
    #[serde(default)]
    pub classes: Vec<String>,
    #[serde(default)]
    pub quality_min: Option<i64>,
    /// Milliseconds to the first token, and tokens a second after it, that shall be met with `probability`.
    #[serde(default)]
    pub ttft_ms: Option<u64>,
    #[serde(default)]
    pub tokens_per_second: Option<f64>,
    #[serde(default)]
    pub probability: Option<f64>,
    #[serde(default)]
    pub jurisdictions: Option<Vec<String>>,
    #[serde(default)]
    pub data_class: Option<String>,
    #[serde(default)]
    pub tiers: Option<Vec<PlaceTier>>,
    #[serde(default)]
    pub service_tier: Option<ServiceTier>,
    #[serde(default)]
    pub order: OrderSetting,
    /// Units that are tried before a request fails.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// When a second unit is asked because the first has not begun.
    #[serde(default)]
    pub hedge_after_ms: Option<u64>,
    #[serde(default)]
    pub cache: Option<RouteCacheSetting>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderSetting {
    /// The cheapest for this request.
    #[default]
    Cost,
    /// The one that begins first.
    Latency,
    /// As `models` lists them.
    Listed,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteCacheSetting {
    pub ttl_seconds: u64,
    #[serde(default)]
    pub share: ShareSetting,
}

/// Who may be given an answer that was made for somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareSetting {
    /// The same account alone.
    #[default]
    Account,
    /// All accounts of the same organisation.
    Organisation,
}

/// Where the data of some accounts, or of some classes, may be processed: on top of what a route says, and bypassed by nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidencySetting {
    pub name: String,
    /// These and all below them; without it, everybody.
    #[serde(default)]
    pub accounts: Option<Vec<Account>>,
    /// Data of these classes; without it, all.
    #[serde(default)]
    pub data_classes: Option<Vec<String>>,
    pub jurisdictions: Vec<String>,
}

/// Answers that are kept to be given again; a route says for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    pub memory_mib: u64,
    /// Shared among servers.
    pub redis: Option<RedisSetting>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSetting {
    /// `redis://USER:PASSWORD@HOST:PORT`; it holds a password, so it is a secret.
    pub url: SecretSource,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { memory_mib: 64, redis: None }
    }
}

/// How long `/v1/responses` remembers what was said.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponsesSettings {
    pub keep_days: u32,
    pub max_mib: u64,
}

impl Default for ResponsesSettings {
    fn default() -> Self {
        Self { keep_days: 30, max_mib: 1024 }
    }
}

/// Units that one request may try: each costs time that the client waits.
const ATTEMPTS_MAX: u32 = 10;
/// A cached answer that is older than a year helps nobody.
const TTL_SECONDS_MAX: u64 = 366 * 86_400;

impl RouteSetting {
    /// Checks what can be said of it alone.
    pub fn check(&self, at: &At, mistakes: &mut Mistakes) {
        let name = self.name.as_str();
        if name.is_empty() || name.len() > 200 || name.contains(char::is_whitespace) {
            mistakes.add(at.key("name"), "a route's name has 1 to 200 bytes and no blanks");
        }
        if self.models.is_empty() && self.classes.is_empty() {
            mistakes.add(at.clone(), format!("route {name:?} needs models or classes: which may answer it"));
        }
        if self.order == OrderSetting::Listed && self.models.is_empty() {
            mistakes.add(at.key("order"), "the order \"listed\" needs models: they are the list");
        }
        if self.quality_min.is_some_and(|quality| !(0..=100).contains(&quality)) {
            mistakes.add(at.key("quality_min"), "quality_min is a number from 0 to 100");
        }
        if self.ttft_ms == Some(0) {
            mistakes.add(at.key("ttft_ms"), "ttft_ms must be at least 1");
        }
        if self.tokens_per_second.is_some_and(|rate| rate <= 0.0 || !rate.is_finite()) {
            mistakes.add(at.key("tokens_per_second"), "tokens_per_second must be above 0");
        }
        if self.probability.is_some_and(|probability| !(0.5..1.0).contains(&probability)) {
            mistakes.add(at.key("probability"), "probability is from 0.5 to below 1, such as 0.95");
        }
        if self.probability.is_some() && self.ttft_ms.is_none() && self.tokens_per_second.is_none() {
            let what = "probability says how surely ttft_ms or tokens_per_second is met; give one of them";
            mistakes.add(at.key("probability"), what);
        }
        if self.attempts.is_some_and(|attempts| !(1..=ATTEMPTS_MAX).contains(&attempts)) {
            mistakes.add(at.key("attempts"), format!("attempts is from 1 to {ATTEMPTS_MAX}"));
        }
        if self.hedge_after_ms == Some(0) {
            mistakes.add(at.key("hedge_after_ms"), "hedge_after_ms must be at least 1");
        }
        if self.cache.is_some_and(|cache| !(1..=TTL_SECONDS_MAX).contains(&cache.ttl_seconds)) {
            mistakes.add(at.key("cache").key("ttl_seconds"), format!("ttl_seconds is from 1 to {TTL_SECONDS_MAX}"));
        }
        for (setting, is_empty) in [
            ("jurisdictions", self.jurisdictions.as_ref().is_some_and(Vec::is_empty)),
            ("tiers", self.tiers.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if is_empty {
                mistakes.add(at.key(setting), format!("nothing is left; leave {setting} out for all of them"));
            }
        }
        let jurisdictions = self.jurisdictions.as_deref().unwrap_or_default();
        check_words(jurisdictions, "a jurisdiction", &at.key("jurisdictions"), mistakes);
        check_words(self.data_class.as_slice(), "a data class", &at.key("data_class"), mistakes);
    }
}

impl ResidencySetting {
    pub fn check(&self, at: &At, mistakes: &mut Mistakes) {
        if self.jurisdictions.is_empty() {
            mistakes.add(at.key("jurisdictions"), "a residency rule needs the jurisdictions that it admits");
        }
        check_words(&self.jurisdictions, "a jurisdiction", &at.key("jurisdictions"), mistakes);
        let classes = self.data_classes.as_deref().unwrap_or_default();
        check_words(classes, "a data class", &at.key("data_classes"), mistakes);
        for (setting, is_empty) in [
            ("accounts", self.accounts.as_ref().is_some_and(Vec::is_empty)),
            ("data_classes", self.data_classes.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if is_empty {
                mistakes.add(at.key(setting), format!("it would hold for nobody; leave {setting} out to hold for all"));
            }
        }
    }
}

impl OrderSetting {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Latency => "latency",
            Self::Listed => "listed",
        }
    }
}
