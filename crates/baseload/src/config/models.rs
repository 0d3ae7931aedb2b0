//! Which models are there: those that are loaded here, and those that a provider has? `[[model]]`.

use std::collections::BTreeMap;
use std::path::Path;

use domain::ModelName;
use ledger::price::{LongText, PriceText, Quoted, Rate, SurchargeText, TierText};
use ledger::{Region, ServiceTier, Sheet};
use serde::Deserialize;

use super::PrecisionSetting;
use super::kinds::{Capability, EMBEDDED_CAPABILITIES};
use super::providers::ProviderSetting;
use super::read::{At, Mistakes};

/// One `[[model]]` as it is written: with `path` it is loaded here, with `provider` it is asked for there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSetting {
    /// The name that clients write; without it, the name of the folder or file.
    #[serde(default)]
    pub name: Option<ModelName>,
    /// A Hugging Face folder, a `.gguf` file, `bundled:main`, `bundled:small`, or a hub id `organisation/name`.
    #[serde(default)]
    pub path: Option<String>,
    /// The `[[provider]]` that has it.
    #[serde(default)]
    pub provider: Option<String>,
    /// The provider's own name for it; Azure's deployment. Without it, `name`.
    #[serde(default)]
    pub id: Option<String>,
    /// Other names that clients may write.
    #[serde(default)]
    pub aliases: Vec<ModelName>,
    /// What routes may call it: `frontier`, `small`, …
    #[serde(default)]
    pub classes: Vec<String>,
    /// How good it is, 0 to 100, on any one scale that the operator believes in.
    #[serde(default)]
    pub quality: Option<i64>,
    /// Tokens of context to offer; without it, what the model was made for.
    #[serde(default)]
    pub context_tokens: Option<usize>,
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// What it can do; without it, what its kind of provider can carry.
    #[serde(default)]
    pub capabilities: Option<Vec<Capability>>,
    /// What its tokens cost; without it, what the ledger or the catalogue says.
    #[serde(default)]
    pub price: Option<PriceSetting>,
    /// How urgently the provider can be asked to serve it.
    #[serde(default)]
    pub service_tiers: Option<Vec<ServiceTier>>,

    /// How weights are kept in memory; without it, as they are stored.
    #[serde(default)]
    pub precision: Option<PrecisionSetting>,
    /// Memory for keys and values of this model, in MiB; without it, the engine's setting.
    #[serde(default)]
    pub kv_mib: Option<usize>,
    /// A smaller model of the same vocabulary that guesses ahead for it: a path like `path`.
    #[serde(default)]
    pub draft: Option<String>,
}

/// One model to load here.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    pub name: Option<ModelName>,
    pub path: String,
    pub aliases: Vec<ModelName>,
    pub precision: Option<PrecisionSetting>,
    pub context_tokens: Option<usize>,
    pub kv_mib: Option<usize>,
    pub draft: Option<String>,
    pub price: Option<PriceSetting>,
}

/// USD per million tokens, written as strings so that no float ever touches money: `input = "0.25"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSetting {
    pub input: Option<Quoted<domain::Price>>,
    /// Price of prompt tokens found in a cache; without it, the input price.
    pub cached: Option<Quoted<domain::Price>>,
    pub cache_write_5m: Option<Quoted<domain::Price>>,
    pub cache_write_1h: Option<Quoted<domain::Price>>,
    pub output: Option<Quoted<domain::Price>>,
    pub long: Vec<LongText>,
    pub tiers: BTreeMap<ServiceTier, TierText>,
    pub regions: BTreeMap<Region, SurchargeText>,
    /// USD for an hour of machine time, instead of a price for tokens or beside it.
    pub compute_hour: Option<Quoted<Rate>>,
    /// USD for each request that used anything.
    pub request: Option<Quoted<Rate>>,
}

impl PriceSetting {
    pub fn sheet(&self) -> Result<Sheet, String> {
        match (self.input, self.output, self.compute_hour) {
            (Some(_), Some(_), _) => (),
            (None, None, Some(_)) if self.cached.is_none() => (),
            (None, None, None) if self.cached.is_none() => {
                return Err("a price needs `input` and `output`, or `compute_hour`".into());
            }
            _ => return Err("a price for tokens needs both `input` and `output`".into()),
        }
        let Self { input, cache_write_5m, cache_write_1h, output, compute_hour, request, .. } = *self;
        let (long, tiers, regions) = (self.long.clone(), self.tiers.clone(), self.regions.clone());
        let cached = self.cached.or(input);
        let text = PriceText {
            input,
            cached,
            cache_write_5m,
            cache_write_1h,
            output,
            long,
            tiers,
            regions,
            compute_hour,
            request,
            ..PriceText::named("price")
        };
        text.sheet().map_err(|error| error.to_string().trim_start_matches("the price of price: ").to_owned())
    }
}

impl ModelSetting {
    /// Returns what to load, if it is loaded here.
    pub fn embedded(&self) -> Option<ModelConfig> {
        Some(ModelConfig {
            name: self.name.clone(),
            path: self.path.clone()?,
            aliases: self.aliases.clone(),
            precision: self.precision,
            context_tokens: self.context_tokens,
            kv_mib: self.kv_mib,
            draft: self.draft.clone(),
            price: self.price.clone(),
        })
    }

    /// Returns the name that clients write. What has none is called as its folder or file is.
    pub fn public_name(&self) -> ModelName {
        let path = self.path.as_deref().unwrap_or_default();
        self.name.clone().unwrap_or_else(|| ModelName::new(name_of_path(path)))
    }

    pub fn answers_to(&self, name: &ModelName) -> bool {
        self.public_name() == *name || self.aliases.contains(name)
    }

    /// Returns what it can do at its provider, or here.
    pub fn capabilities(&self, provider: Option<&ProviderSetting>) -> Vec<Capability> {
        let usual = provider.map_or(EMBEDDED_CAPABILITIES, |provider| provider.kind.facts().capabilities);
        let mut own = self.capabilities.clone().unwrap_or_else(|| usual.to_vec());
        // What answers nobody with words and only embeds says so; of all others it goes without saying that they chat.
        let says_what = [Capability::Chat, Capability::Completions, Capability::Embeddings];
        if !own.iter().any(|capability| says_what.contains(capability)) {
            own.insert(0, Capability::Chat);
        }
        own
    }

    pub fn check(&self, providers: &[ProviderSetting], at: &At, mistakes: &mut Mistakes) {
        match (&self.path, &self.provider) {
            (Some(_), Some(_)) => mistakes.add(at.key("provider"), "a model has a path or a provider, not both"),
            (None, None) => mistakes.add(
                at.clone(),
                "a model needs a path (to load it here) or a provider (that has it): path = \"bundled:main\", or provider = \
                 \"NAME\" with a [[provider]] of that name",
            ),
            (None, Some(provider)) => self.check_offered(provider, providers, at, mistakes),
            (Some(_), None) => self.check_loaded(at, mistakes),
        }
        for (name, place) in self.name.iter().map(|name| (name, at.key("name"))).chain(self.aliases_at(at)) {
            if name.as_str().is_empty()
                || name.as_str().len() > 200
                || name.as_str().contains(char::is_whitespace)
            {
                mistakes.add(place, "a model's name has 1 to 200 bytes and no blanks");
            }
        }
        super::providers::check_words(&self.classes, "a class", &at.key("classes"), mistakes);
        if self.quality.is_some_and(|quality| !(0..=100).contains(&quality)) {
            mistakes.add(at.key("quality"), "quality is a number from 0 to 100");
        }
        if self.context_tokens == Some(0) {
            mistakes.add(at.key("context_tokens"), "context_tokens must be at least 1");
        }
        if self.max_output_tokens == Some(0) {
            mistakes.add(at.key("max_output_tokens"), "max_output_tokens must be at least 1");
        }
        if let Some(Err(why)) = self.price.as_ref().map(PriceSetting::sheet) {
            mistakes.add(at.key("price"), why);
        }
        if self.service_tiers.as_ref().is_some_and(Vec::is_empty) {
            mistakes.add(
                at.key("service_tiers"),
                "no service tier is left; leave service_tiers out for all of them",
            );
        }
    }

    fn aliases_at(&self, at: &At) -> impl Iterator<Item = (&ModelName, At)> {
        let at = at.key("aliases");
        self.aliases.iter().enumerate().map(move |(nth, alias)| (alias, at.nth(nth)))
    }

    fn check_offered(&self, named: &str, providers: &[ProviderSetting], at: &At, mistakes: &mut Mistakes) {
        if !providers.iter().any(|provider| provider.name == named) {
            let known: Vec<&str> = providers.iter().map(|provider| provider.name.as_str()).collect();
            mistakes.add(at.key("provider"), super::unknown("[[provider]]", named, &known));
        }
        if self.name.is_none() {
            mistakes.add(at.clone(), "a provider's model needs a name: what clients write");
        }
        for (setting, is_there) in [
            ("precision", self.precision.is_some()),
            ("kv_mib", self.kv_mib.is_some()),
            ("draft", self.draft.is_some()),
        ] {
            if is_there {
                mistakes.add(
                    at.key(setting),
                    format!("{setting} is for a model that is loaded here, with a path"),
                );
            }
        }
    }

    fn check_loaded(&self, at: &At, mistakes: &mut Mistakes) {
        for (setting, is_there) in
            [("id", self.id.is_some()), ("service_tiers", self.service_tiers.is_some())]
        {
            if is_there {
                mistakes.add(at.key(setting), format!("{setting} is for a model that a provider has"));
            }
        }
    }
}

/// As the loader names it: `bundled:main` is `main`, a folder or file is called as it is, a hub id by what follows the slash.
fn name_of_path(path: &str) -> String {
    if let Some(name) = path.strip_prefix("bundled:") {
        return name.to_owned();
    }
    let path = Path::new(path);
    let name = if path.extension().is_some_and(|ending| ending == "gguf") {
        path.file_stem()
    } else {
        path.file_name()
    };
    name.unwrap_or_default().to_string_lossy().into_owned()
}
