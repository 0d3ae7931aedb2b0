//! What does a configuration put behind the door: providers with their secrets, units, routes and rules?
//!
//! Here the words of the file become those of the gateway and the router. Everything that can fail fails here, so that a
//! supply is put in force whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dialect::aws::Converse;
use dialect::aws::sign::Credentials;
use dialect::google::Gemini;
use dialect::google::token::ServiceAccount;
use dialect::openai::Manner;
use dialect::openai::chat::ChatUpstream;
use dialect::openai::completion::CompletionUpstream;
use dialect::openai::responses::ResponsesUpstream;
use dialect::{Upstream, anthropic};
use domain::Provider;
use fleet::{
    Caching, Capabilities, Capability as Can, DataClass, Jurisdiction, ModelClass, Order, Residency, Slo,
    Tier, Unit as Facts,
};
use gateway::{
    Auth, CacheRule, CacheShare, GoogleAccount, HttpProvider, HttpSettings, OnCancel, Paths, ResidencyRule,
    RouteRules, ServedModel, Supply, SupplyRoute, SupplyUnit, Timeouts, UnitKind,
};
use ledger::Region;

use crate::config::kinds::{AuthForm, Capability, ProviderKind};
use crate::config::{
    Config, HeaderValue, OrderSetting, PlaceTier, ProviderSetting, ResidencySetting, RouteSetting, Secret,
    SecretSource, ShareSetting, Unit,
};
use crate::now;

/// Returns all that can answer: the engines that were loaded, and what providers have. Every secret is read; one that is missing is
/// told by its provider and place.
pub fn of(config: &Config, engines: &[Arc<ServedModel>]) -> anyhow::Result<Supply> {
    let providers = config.providers.iter().map(provider).collect::<anyhow::Result<Vec<_>>>()?;
    let units = config.units().filter_map(|unit| {
        let asked = providers.iter().find(|provider| provider.name.as_str() == unit.provider_name())?;
        Some(Arc::new(remote_unit(&unit, asked.clone())))
    });
    let local = engines.iter().map(|model| Arc::new(local_unit(config, model.clone())));
    Ok(Supply {
        units: local.chain(units).collect(),
        routes: config.routes.iter().map(route).collect(),
        residency: config.residency.iter().map(residency_rule).collect(),
    })
}

fn provider(setting: &ProviderSetting) -> anyhow::Result<Arc<HttpProvider>> {
    let usual = Timeouts::default();
    let seconds = |seconds: Option<u64>, usual: Duration| seconds.map_or(usual, Duration::from_secs);
    let base_url = setting.address().expect("a configuration that was checked has every address");
    let ca_file = setting.ca_file.as_ref();
    let extra_roots = ca_file
        .map(|path| {
            std::fs::read(path)
                .with_context(|| format!("reading {} for the provider {}", path.display(), setting.name))
        })
        .transpose()?;
    let settings = HttpSettings {
        name: Provider::new(setting.name.as_str()),
        vendor: setting.vendor(),
        base_url: if is_azures_newer_surface(setting) { azures_newer(&base_url) } else { base_url },
        dialects: dialects(setting),
        paths: match &setting.api_version {
            Some(api_version) => Paths::Azure { api_version: api_version.clone() },
            None => Paths::Plain,
        },
        auth: auth(setting)?,
        headers: headers(setting)?,
        extra_roots,
        timeouts: Timeouts {
            connect: setting.connect_timeout_ms.map_or(usual.connect, Duration::from_millis),
            first: seconds(setting.first_byte_timeout_seconds, usual.first),
            stall: seconds(setting.stall_timeout_seconds, usual.stall),
            ..usual
        },
        on_cancel: OnCancel::default(),
    };
    let provider = HttpProvider::new(settings).with_context(|| format!("the provider {}", setting.name))?;
    Ok(Arc::new(provider))
}

/// Azure has two surfaces: with a version the older one, with a folder for each deployment; without one the newer.
fn is_azures_newer_surface(setting: &ProviderSetting) -> bool {
    setting.kind == ProviderKind::Azure && setting.api_version.is_none()
}

fn azures_newer(base_url: &str) -> String {
    let root = base_url.strip_suffix("/v1").unwrap_or(base_url);
    let root = root.strip_suffix("/openai").unwrap_or(root);
    format!("{root}/openai/v1")
}

/// What a provider is asked in, the one that is preferred first. A new dialect has its line here.
fn dialects(setting: &ProviderSetting) -> Vec<Arc<dyn Upstream>> {
    let openai = || Manner::default();
    match setting.kind {
        ProviderKind::Openai | ProviderKind::Azure => vec![
            Arc::new(ChatUpstream { manner: openai() }),
            Arc::new(ResponsesUpstream { manner: openai() }),
        ],
        ProviderKind::OpenaiCompatible | ProviderKind::Baseload => vec![
            Arc::new(ChatUpstream { manner: Manner::compatible() }),
            Arc::new(CompletionUpstream { manner: Manner::compatible() }),
        ],
        ProviderKind::Anthropic => vec![Arc::new(anthropic::Messages)],
        ProviderKind::Gemini => vec![Arc::new(Gemini::studio())],
        ProviderKind::Vertex => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            vec![Arc::new(Gemini::vertex(&text(&setting.project), &text(&setting.location)))]
        }
        ProviderKind::Bedrock => vec![Arc::new(Converse)],
    }
}

fn auth(setting: &ProviderSetting) -> anyhow::Result<Auth> {
    let secret = |name: &str, source: &Option<SecretSource>| {
        source.as_ref().map(|source| read(setting, name, source)).transpose()
    };
    let needed = |name: &str, source: &Option<SecretSource>| {
        secret(name, source)?.with_context(|| format!("provider {}: {name} is not set", setting.name))
    };
    Ok(match setting.kind.facts().auth {
        AuthForm::Bearer => {
            secret("key", &setting.key)?.map_or(Auth::None, |key| Auth::Bearer(carried(&key)))
        }
        AuthForm::Header(name) => {
            let header = http::HeaderName::from_static(name);
            secret("key", &setting.key)?.map_or(Auth::None, |key| Auth::Header(header, carried(&key)))
        }
        AuthForm::Signed => Auth::Aws {
            credentials: Credentials {
                access_key: needed("access_key", &setting.access_key)?.reveal().to_owned(),
                secret_key: needed("secret_key", &setting.secret_key)?.reveal().to_owned(),
                session_token: secret("session_token", &setting.session_token)?
                    .map(|token| token.reveal().to_owned()),
            },
            region: setting.region.clone().unwrap_or_default(),
        },
        AuthForm::Google => match secret("token", &setting.token)? {
            Some(token) => Auth::Bearer(carried(&token)),
            None => {
                let json = needed("service_account", &setting.service_account)?;
                let account = ServiceAccount::read(json.reveal().as_bytes())
                    .with_context(|| format!("the service_account of the provider {}", setting.name))?;
                Auth::Google(Box::new(GoogleAccount::new(account)))
            }
        },
    })
}

fn carried(secret: &Secret) -> gateway::Secret {
    gateway::Secret::new(secret.reveal())
}

fn headers(setting: &ProviderSetting) -> anyhow::Result<Vec<(String, String)>> {
    let header = |(name, value): (&String, &HeaderValue)| {
        let value = match value {
            HeaderValue::Plain(text) => text.clone(),
            HeaderValue::Secret(source) => {
                read(setting, &format!("headers.{name}"), source)?.reveal().to_owned()
            }
        };
        Ok((name.to_ascii_lowercase(), value))
    };
    setting.headers.iter().map(header).collect()
}

fn read(provider: &ProviderSetting, setting: &str, source: &SecretSource) -> anyhow::Result<Secret> {
    source.read().with_context(|| format!("the {setting} of the provider {} cannot be had", provider.name))
}

fn remote_unit(unit: &Unit<'_>, provider: Arc<HttpProvider>) -> SupplyUnit {
    let setting = unit.provider.expect("only units of providers are asked elsewhere");
    let mut facts = Facts::new(unit.name(), provider.name.clone());
    tell(unit, &mut facts);
    facts.capabilities =
        unit.capabilities().into_iter().map(can).chain(native(setting.kind)).collect::<Capabilities>();
    facts.service_tiers = unit.service_tiers();
    facts.concurrency_max = setting.max_concurrent.and_then(|count| u32::try_from(count).ok());
    facts.caching = match setting.kind {
        ProviderKind::Anthropic | ProviderKind::Bedrock => Caching::Charged,
        ProviderKind::Openai | ProviderKind::Azure | ProviderKind::Gemini | ProviderKind::Vertex => {
            Caching::Free
        }
        ProviderKind::OpenaiCompatible | ProviderKind::Baseload => Caching::Free,
    };
    let id = unit.model.id.clone().unwrap_or_else(|| unit.name().to_string());
    SupplyUnit {
        facts,
        aliases: unit.model.aliases.clone(),
        region: setting.region.as_deref().map(Region::from),
        kind: UnitKind::Remote { model: id, provider },
        created: created(),
        live: Arc::default(),
    }
}

/// An engine that was loaded, with what the file says of the machine and of the model.
fn local_unit(config: &Config, model: Arc<ServedModel>) -> SupplyUnit {
    let region = config.region.as_deref().map(Region::from);
    let name = model.name.clone();
    let mut unit = SupplyUnit::local(model, region);
    if let Some(written) = config.units().find(|unit| unit.provider.is_none() && unit.name() == name) {
        tell(&written, &mut unit.facts);
        // Its tokens are counted exactly before it is asked.
        unit.facts.context_tokens = None;
    }
    unit.facts.tier = tier(config.engine.tier);
    if !config.engine.jurisdictions.is_empty() {
        unit.facts.jurisdictions = jurisdictions(&config.engine.jurisdictions);
    }
    unit.facts.data_classes = config.engine.data_classes.as_deref().map(data_classes);
    unit
}

/// What the file says of any unit.
fn tell(unit: &Unit<'_>, facts: &mut Facts) {
    facts.tier = tier(unit.tier());
    facts.jurisdictions = jurisdictions(unit.jurisdictions());
    facts.data_classes = unit.data_classes().map(data_classes);
    facts.classes = unit.model.classes.iter().map(|class| ModelClass::new(class.as_str())).collect();
    facts.context_tokens = unit.model.context_tokens.map(|tokens| tokens as u64);
    facts.max_output_tokens = unit.model.max_output_tokens.map(u64::from);
    facts.quality = unit.model.quality.and_then(|quality| u8::try_from(quality).ok());
}

fn route(setting: &RouteSetting) -> SupplyRoute {
    let per_token = setting.tokens_per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let ttft = setting.ttft_ms.map(Duration::from_millis);
    let is_timed = ttft.is_some() || per_token.is_some();
    let usual = RouteRules::default();
    let rules = RouteRules {
        quality_min: setting.quality_min.and_then(|quality| u8::try_from(quality).ok()),
        slo: is_timed.then(|| Slo { ttft, per_token, probability: setting.probability.unwrap_or(0.95) }),
        residency: setting.jurisdictions.as_deref().map(|places| Residency {
            name: format!("route {}", setting.name).into(),
            jurisdictions: jurisdictions(places),
        }),
        data_class: setting.data_class.as_deref().map(DataClass::new),
        tiers: setting.tiers.as_ref().map(|tiers| tiers.iter().copied().map(tier).collect()),
        service_tier: setting.service_tier,
        order: match setting.order {
            OrderSetting::Cost => Order::Cost,
            OrderSetting::Latency => Order::Latency,
            OrderSetting::Listed => Order::Listed,
        },
        attempts: setting.attempts.map_or(usual.attempts, |attempts| attempts as usize),
        hedge_after: setting.hedge_after_ms.map(Duration::from_millis),
        cache: setting.cache.map(|cache| CacheRule {
            time_to_live: Duration::from_secs(cache.ttl_seconds),
            share: match cache.share {
                ShareSetting::Account => CacheShare::Account,
                ShareSetting::Organisation => CacheShare::Organisation,
            },
        }),
    };
    let classes = setting.classes.iter().map(|class| ModelClass::new(class.as_str())).collect();
    SupplyRoute { name: setting.name.clone(), models: setting.models.clone(), classes, rules }
}

fn residency_rule(setting: &ResidencySetting) -> ResidencyRule {
    ResidencyRule {
        rule: Residency {
            name: setting.name.as_str().into(),
            jurisdictions: jurisdictions(&setting.jurisdictions),
        },
        accounts: setting.accounts.clone().unwrap_or_default(),
        data_classes: setting.data_classes.as_deref().map(data_classes).unwrap_or_default(),
    }
}

fn tier(tier: PlaceTier) -> Tier {
    match tier {
        PlaceTier::Edge => Tier::Edge,
        PlaceTier::OnPremises => Tier::OnPremises,
        PlaceTier::Cloud => Tier::Cloud,
    }
}

fn jurisdictions(words: &[String]) -> Vec<Jurisdiction> {
    words.iter().map(|word| Jurisdiction::new(word.as_str())).collect()
}

fn data_classes(words: &[String]) -> Vec<DataClass> {
    words.iter().map(|word| DataClass::new(word.as_str())).collect()
}

/// Tools and fields that only this wire format can express.
fn native(kind: ProviderKind) -> Option<Can> {
    match kind {
        ProviderKind::Openai | ProviderKind::Azure => Some(Can::NativeOpenai),
        ProviderKind::Anthropic => Some(Can::NativeAnthropic),
        ProviderKind::Gemini | ProviderKind::Vertex => Some(Can::NativeGemini),
        ProviderKind::Bedrock => Some(Can::NativeBedrock),
        ProviderKind::OpenaiCompatible | ProviderKind::Baseload => None,
    }
}

fn can(capability: Capability) -> Can {
    match capability {
        Capability::Chat => Can::Chat,
        Capability::Completions => Can::Completions,
        Capability::Tools => Can::Tools,
        Capability::Images => Can::Images,
        Capability::Documents => Can::Documents,
        Capability::Audio => Can::Audio,
        Capability::Structured => Can::Structured,
        Capability::Reasoning => Can::Reasoning,
        Capability::Logprobs => Can::Logprobs,
        Capability::Choices => Can::Choices,
        Capability::Embeddings => Can::Embeddings,
    }
}

/// In seconds since 1970.
fn created() -> u64 {
    now().millis() as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("x"), text).unwrap()
    }

    #[test]
    fn a_file_becomes_units_that_routes_and_rules_can_judge() {
        let supply = of(
            &config(
                "[[provider]]\nname = 'rack'\nkind = 'openai_compatible'\nbase_url = 'http://10.0.0.7:8000'\n\
                 tier = 'on_premises'\njurisdictions = ['eu']\ndata_classes = ['public']\nmax_concurrent = 8\n\
                 [[model]]\nname = 'qwen'\nprovider = 'rack'\nid = 'Qwen/Qwen3-32B'\naliases = ['q']\nclasses = ['drafts']\n\
                 quality = 55\ncapabilities = ['tools']\n\
                 [[model]]\nname = 'embed'\nprovider = 'rack'\ncapabilities = ['embeddings']\n\
                 [[route]]\nname = 'draft'\nclasses = ['drafts']\njurisdictions = ['eu']\nttft_ms = 800\ntokens_per_second = 50.0\n\
                 attempts = 2\ncache = { ttl_seconds = 60, share = 'organisation' }\n\
                 [[residency]]\nname = 'all-eu'\njurisdictions = ['eu']\n",
            ),
            &[],
        )
        .unwrap();
        let unit = &supply.units[0];
        assert_eq!(unit.facts.id.as_str(), "qwen@rack");
        assert_eq!(
            (unit.facts.tier, unit.facts.quality, unit.facts.concurrency_max),
            (Tier::OnPremises, Some(55), Some(8))
        );
        assert_eq!(unit.facts.capabilities.to_string(), "chat, tools");
        assert_eq!(supply.units[1].facts.capabilities.to_string(), "embeddings");
        assert!(unit.answers_to(&"q".into()));
        assert!(matches!(&unit.kind, UnitKind::Remote { model, .. } if model == "Qwen/Qwen3-32B"));
        let (units, rules) = supply.meaning(&"draft".into()).unwrap();
        assert_eq!((units.len(), rules.attempts), (1, 2));
        let slo = rules.slo.unwrap();
        assert_eq!(
            (slo.ttft, slo.per_token),
            (Some(Duration::from_millis(800)), Some(Duration::from_millis(20)))
        );
        assert!(rules.residency.unwrap().admits(&unit.facts.jurisdictions));
        assert_eq!(supply.residency(&"anybody".into(), None).count(), 1);
    }

    #[test]
    fn a_secret_that_is_missing_is_told_by_provider_and_place() {
        let refused = of(
            &config("[[provider]]\nname = 'p'\nkind = 'openai'\nkey = { env = 'BASELOAD_TEST_UNSET' }\n"),
            &[],
        );
        let told = format!("{:#}", refused.err().unwrap());
        assert_eq!(
            told,
            "the key of the provider p cannot be had: the environment variable BASELOAD_TEST_UNSET is not set"
        );
    }

    #[test]
    fn azure_without_a_version_is_its_newer_surface() {
        for url in [
            "https://a.openai.azure.com",
            "https://a.openai.azure.com/openai",
            "https://a.openai.azure.com/openai/v1",
        ] {
            assert_eq!(azures_newer(url), "https://a.openai.azure.com/openai/v1");
        }
    }
}
