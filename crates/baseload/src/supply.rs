//! What does a configuration put behind the door: providers with their secrets, units, routes and rules?

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use domain::{ModelName, ServiceTier};
use ledger::Provider;

use crate::config::kinds::{AuthForm, Capability, ProviderKind};
use crate::config::{
    Config, HeaderValue, PlaceTier, ProviderSetting, ResidencySetting, RouteSetting, Secret, SecretSource, Unit,
};

/// Everything that can be replaced while requests run.
#[derive(Clone, Debug)]
pub struct Supply {
    pub providers: Vec<ProviderSupply>,
    /// Those at providers; the engine's own are made where they are loaded.
    pub units: Vec<UnitSupply>,
    pub routes: Vec<RouteSetting>,
    pub residency: Vec<ResidencySetting>,
}

/// One provider, ready to be asked.
#[derive(Clone, Debug)]
pub struct ProviderSupply {
    pub name: String,
    pub kind: ProviderKind,
    pub vendor: Provider,
    pub base_url: String,
    pub proof: Proof,
    pub headers: Vec<(String, Secret)>,
    pub api_version: Option<String>,
    pub tier: PlaceTier,
    pub jurisdictions: Vec<String>,
    pub data_classes: Option<Vec<String>>,
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Option<Duration>,
    pub first_byte_timeout: Option<Duration>,
    pub stall_timeout: Option<Duration>,
    pub max_concurrent: Option<usize>,
}

/// How a provider is told who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    Nothing,
    Bearer(Secret),
    Header { name: &'static str, value: Secret },
    Signed { region: String, access_key: Secret, secret_key: Secret, session_token: Option<Secret> },
    GoogleToken { project: String, location: String, token: Secret },
    GoogleAccount { project: String, location: String, account: Secret },
}

/// One model at a provider.
#[derive(Clone, Debug)]
pub struct UnitSupply {
    pub name: ModelName,
    pub aliases: Vec<ModelName>,
    pub provider: String,
    /// What the provider calls it.
    pub id: String,
    pub classes: Vec<String>,
    pub quality: Option<u8>,
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub capabilities: Vec<Capability>,
    pub service_tiers: Vec<ServiceTier>,
}

impl Supply {
    /// Reads every secret; one that is missing is told by its provider and place.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        let providers = config.providers.iter().map(ProviderSupply::of).collect::<anyhow::Result<Vec<_>>>()?;
        let units = config.units().filter_map(|unit| UnitSupply::of(&unit)).collect();
        Ok(Self { providers, units, routes: config.routes.clone(), residency: config.residency.clone() })
    }
}

impl ProviderSupply {
    fn of(setting: &ProviderSetting) -> anyhow::Result<Self> {
        let headers = setting.headers.iter().map(|(name, value)| {
            let value = match value {
                HeaderValue::Plain(text) => Secret::new(text.as_str()),
                HeaderValue::Secret(source) => read(setting, &format!("headers.{name}"), source)?,
            };
            Ok((name.to_ascii_lowercase(), value))
        });
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        Ok(Self {
            name: setting.name.clone(),
            kind: setting.kind,
            vendor: setting.vendor(),
            base_url: setting.address().expect("a configuration that was checked has every address"),
            proof: Proof::of(setting)?,
            headers: headers.collect::<anyhow::Result<Vec<_>>>()?,
            api_version: setting.api_version.clone(),
            tier: setting.tier,
            jurisdictions: setting.jurisdictions.clone(),
            data_classes: setting.data_classes.clone(),
            ca_file: setting.ca_file.clone(),
            connect_timeout: setting.connect_timeout_ms.map(Duration::from_millis),
            first_byte_timeout: seconds(setting.first_byte_timeout_seconds),
            stall_timeout: seconds(setting.stall_timeout_seconds),
            max_concurrent: setting.max_concurrent,
        })
    }
}

impl Proof {
    fn of(setting: &ProviderSetting) -> anyhow::Result<Self> {
        let secret = |name: &str, source: &Option<SecretSource>| {
            source.as_ref().map(|source| read(setting, name, source)).transpose()
        };
        let needed = |name: &str, source: &Option<SecretSource>| {
            secret(name, source)?.with_context(|| format!("provider {}: {name} is not set", setting.name))
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Ok(match setting.kind.facts().auth {
            AuthForm::Bearer => secret("key", &setting.key)?.map_or(Self::Nothing, Self::Bearer),
            AuthForm::Header(name) => {
                secret("key", &setting.key)?.map_or(Self::Nothing, |value| Self::Header { name, value })
            }
            AuthForm::Signed => Self::Signed {
                region: text(&setting.region),
                access_key: needed("access_key", &setting.access_key)?,
                secret_key: needed("secret_key", &setting.secret_key)?,
                session_token: secret("session_token", &setting.session_token)?,
            },
            AuthForm::Google => {
                let (project, location) = (text(&setting.project), text(&setting.location));
                match secret("token", &setting.token)? {
                    Some(token) => Self::GoogleToken { project, location, token },
                    None => {
                        let account = needed("service_account", &setting.service_account)?;
                        Self::GoogleAccount { project, location, account }
                    }
                }
            }
        })
    }
}

impl UnitSupply {
    fn of(unit: &Unit<'_>) -> Option<Self> {
        let provider = unit.provider?;
        let name = unit.name();
        Some(Self {
            aliases: unit.model.aliases.clone(),
            provider: provider.name.clone(),
            id: unit.model.id.clone().unwrap_or_else(|| name.to_string()),
            classes: unit.model.classes.clone(),
            quality: unit.model.quality.and_then(|quality| u8::try_from(quality).ok()),
            context_tokens: unit.model.context_tokens.map(|tokens| tokens as u64),
            max_output_tokens: unit.model.max_output_tokens.map(u64::from),
            capabilities: unit.capabilities(),
            service_tiers: unit.service_tiers(),
            name,
        })
    }
}

fn read(provider: &ProviderSetting, setting: &str, source: &SecretSource) -> anyhow::Result<Secret> {
    source.read().with_context(|| format!("the {setting} of the provider {} cannot be had", provider.name))
}
