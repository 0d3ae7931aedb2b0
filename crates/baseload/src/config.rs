//! What this process was told to do: the only reader of configuration files.
//!
//! A file is TOML and strict: an unknown field is an error that names it, its line and the field that was probably meant.
//! Command-line flags win over the file; the file wins over the defaults below.

mod budgets;
mod tasks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use control::admin_api::Kind;
use domain::{ModelName, Price};
use ledger::price::{PriceText, Quoted, Rate, Reach, StepText, Terms, TermsText, Usd};
use ledger::{Provider, Sheet};
use serde::{Deserialize, Deserializer, de};

pub use budgets::{AlertSettings, LimitSetting};
pub use tasks::TaskSettings;

/// Where a server listens unless told otherwise: this machine alone, so that no key is needed.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port of the HTTP endpoint.
    pub listen: SocketAddr,
    /// Folder of the ledger, the cache of downloads and the unpacked bundled model.
    pub data: Option<PathBuf>,
    #[serde(rename = "model")]
    pub models: Vec<ModelConfig>,
    /// Where this server stands, such as `eu`, for keys that are narrowed to regions and prices that differ by them.
    pub region: Option<String>,
    /// Accounts that are there from the start on, described as here.
    #[serde(rename = "account")]
    pub accounts: Vec<AccountSetting>,
    /// Limits that are in force from the start on; see `docs/operating.md`.
    #[serde(rename = "limit")]
    pub budgets: Vec<LimitSetting>,
    pub alerts: AlertSettings,
    /// Prices of one's own, beside those of the models above; they win over a catalogue's.
    #[serde(rename = "price")]
    pub prices: Vec<PriceText>,
    /// Volume discounts and commitments, by provider.
    #[serde(rename = "terms")]
    pub terms: Vec<TermsSetting>,
    pub ledger: LedgerSettings,
    pub engine: EngineSettings,
    pub limits: LimitSettings,
    pub tasks: TaskSettings,
    pub hub: HubSettings,
    pub log: LogSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN.parse().expect("the default address is an address"),
            data: None,
            models: Vec::new(),
            region: None,
            accounts: Vec::new(),
            budgets: Vec::new(),
            alerts: AlertSettings::default(),
            prices: Vec::new(),
            terms: Vec::new(),
            ledger: LedgerSettings::default(),
            engine: EngineSettings::default(),
            limits: LimitSettings::default(),
            tasks: TaskSettings::default(),
            hub: HubSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// Where the book is kept.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerSettings {
    /// `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` to share it among servers; without it,
    /// `ledger.sqlite` in the data folder.
    pub url: Option<String>,
    /// What happens to a model without a price under a limit on money.
    pub unpriced: UnpricedSetting,
    /// What happens to requests while the book cannot be written.
    pub when_unavailable: UnavailableSetting,
    /// How far `spool` may go: MiB of file, and seconds until everything is booked.
    pub spool_mib: u64,
    pub spool_seconds: u64,
    /// Days that requests are kept one by one; their sums and closed statements stay. Without it, everything is kept.
    pub keep_requests_days: Option<u32>,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            url: None,
            unpriced: UnpricedSetting::default(),
            when_unavailable: UnavailableSetting::default(),
            spool_mib: 64,
            spool_seconds: 3600,
            keep_requests_days: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnavailableSetting {
    /// They are refused: nothing is answered unmetered.
    #[default]
    Refuse,
    /// They are served without limits, written to a file, and booked later.
    Spool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnpricedSetting {
    /// It is refused by name: nobody can say what it would take of the limit.
    #[default]
    Refuse,
    /// It is served, and money limits do not count it; reports show it as unpriced.
    Allow,
}

/// The URL may hold a password.
impl std::fmt::Debug for LedgerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerSettings").finish_non_exhaustive()
    }
}

/// One model to serve.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name that clients write; without it, the name of the folder or file.
    #[serde(default)]
    pub name: Option<ModelName>,
    /// A Hugging Face folder, a `.gguf` file, `bundled:main`, `bundled:small`, or a hub id `organisation/name`.
    pub path: String,
    /// Other names that clients may write.
    #[serde(default)]
    pub aliases: Vec<ModelName>,
    /// How weights are kept in memory; without it, as they are stored.
    #[serde(default)]
    pub precision: Option<PrecisionSetting>,
    /// Tokens of context to offer; without it, what the model was made for.
    #[serde(default)]
    pub context_tokens: Option<usize>,
    /// Memory for keys and values of this model, in MiB; without it, the engine's setting.
    #[serde(default)]
    pub kv_mib: Option<usize>,
    /// What its tokens cost; without it, they are booked as unpriced.
    #[serde(default)]
    pub price: Option<PriceSetting>,
}

/// One account; what is missing above it is made, too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSetting {
    /// `acme/research/chatbot`
    pub path: String,
    /// organisation, team, app, user or service; without it, what usually stands at this depth.
    #[serde(default)]
    pub kind: Option<Kind>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub cost_centre: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionSetting {
    F32,
    F16,
    Bf16,
    Int8,
}

/// USD per million tokens, written as strings so that no float ever touches money: `input = "0.25"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceSetting {
    #[serde(default, deserialize_with = "read_some_price")]
    pub input: Option<Price>,
    /// Price of prompt tokens found in the prefix cache; without it, the input price.
    #[serde(default, deserialize_with = "read_some_price")]
    pub cached: Option<Price>,
    #[serde(default, deserialize_with = "read_some_price")]
    pub output: Option<Price>,
    /// USD for an hour of machine time, instead of a price for tokens or beside it.
    #[serde(default)]
    pub compute_hour: Option<Quoted<Rate>>,
}

impl PriceSetting {
    pub fn sheet(&self) -> Result<Sheet, String> {
        let tokens = match (self.input, self.output) {
            (Some(input), Some(output)) => {
                Some(Sheet::per_token(input, self.cached.unwrap_or(input), output))
            }
            (None, None) if self.cached.is_none() => None,
            _ => return Err("a price for tokens needs both `input` and `output`".into()),
        };
        match (tokens, self.compute_hour) {
            (Some(tokens), hour) => Ok(Sheet { compute_hour: hour.map(|Quoted(hour)| hour), ..tokens }),
            (None, Some(Quoted(hour))) => Ok(Sheet::per_compute_hour(hour)),
            (None, None) => Err("a price needs `input` and `output`, or `compute_hour`".into()),
        }
    }
}

/// What was agreed with a provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsSetting {
    pub provider: Provider,
    /// From so much list cost in a month on, tokens cost that share of their list price.
    #[serde(default)]
    pub volume: Vec<StepText>,
    /// Whether a step that is reached applies to what lies above it, or to all.
    #[serde(default)]
    pub reach: Reach,
    /// USD that are owed each month even when less is used.
    #[serde(default)]
    pub committed: Option<Quoted<Usd>>,
}

impl TermsSetting {
    pub fn terms(&self) -> Result<Terms, String> {
        let Self { volume, reach, committed, .. } = self.clone();
        TermsText { volume, reach, committed }.terms()
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Worker threads for the forward pass; 0 takes every core this process may use.
    pub threads: usize,
    /// Memory for keys and values, in MiB, for each model.
    pub kv_mib: usize,
    /// Sequences that run at once.
    pub max_running: usize,
    /// Sequences that may wait; one more is refused with 429.
    pub max_waiting: usize,
    /// The longest that other prompts may hold back a running stream's next token, in milliseconds.
    pub step_target_ms: u64,
    /// Reuse keys and values of prompts that begin alike (within one account).
    pub prefix_cache: bool,
    /// The same tokens whatever else runs, at some cost in speed.
    pub batch_invariant: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            kv_mib: 1024,
            max_running: 64,
            max_waiting: 512,
            step_target_ms: 100,
            prefix_cache: true,
            batch_invariant: false,
        }
    }
}

/// What one client may take from the others. Every default carries its reason in `docs/operating.md`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    pub body_mib: usize,
    pub connections: usize,
    pub header_timeout_seconds: u64,
    pub body_timeout_seconds: u64,
    pub request_timeout_seconds: u64,
    pub slow_reader_timeout_seconds: u64,
    pub drain_seconds: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            body_mib: 10,
            connections: 4096,
            header_timeout_seconds: 10,
            body_timeout_seconds: 30,
            request_timeout_seconds: 900,
            slow_reader_timeout_seconds: 30,
            drain_seconds: 30,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubSettings {
    /// Scheme and host; `HF_ENDPOINT` wins. A model that is there already needs no network.
    pub endpoint: String,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { endpoint: "https://huggingface.co".into() }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
    /// A level (`error` … `trace`) or a filter such as `info,gateway=debug`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}:{column}: {message}")]
    Invalid { path: PathBuf, line: usize, column: usize, message: String },
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            ConfigError::Invalid { path: path.to_owned(), line, column, message: explain(error.message()) }
        })?;
        config.check().map_err(|message| ConfigError::Invalid {
            path: path.to_owned(),
            line: 1,
            column: 1,
            message,
        })?;
        Ok(config)
    }

    /// Refuses what parses but cannot work.
    fn check(&self) -> Result<(), String> {
        self.tasks.check()?;
        self.budgets.iter().try_for_each(|limit| limit.limit(ledger::Timestamp::default()).map(drop))?;
        let mut names: Vec<&str> = Vec::new();
        for model in &self.models {
            for name in model.name.iter().chain(&model.aliases).map(ModelName::as_str) {
                if name.is_empty() {
                    return Err("a model's name must not be empty".into());
                }
                if names.contains(&name) {
                    return Err(format!(
                        "two models are named {name:?}; give one of them another `name` or alias"
                    ));
                }
                names.push(name);
            }
            if let Some(Err(why)) = model.price.map(|price| price.sheet()) {
                return Err(format!("model {:?}: {why}", model.path));
            }
            if model.context_tokens == Some(0) {
                return Err(format!("model {:?}: context_tokens must be at least 1", model.path));
            }
        }
        for (place, setting) in self.accounts.iter().enumerate() {
            ledger::account::account(&setting.path).map_err(|error| format!("[[account]]: {error}"))?;
            if self.accounts[..place].iter().any(|other| other.path == setting.path) {
                return Err(format!("two [[account]] have the path {:?}; keep one of them", setting.path));
            }
        }
        for price in &self.prices {
            price.sheet().map_err(|error| error.to_string())?;
        }
        for terms in &self.terms {
            terms.terms().map_err(|why| format!("the terms of {}: {why}", terms.provider))?;
        }
        let positive = [
            ("engine.kv_mib", self.engine.kv_mib as u64),
            ("engine.max_running", self.engine.max_running as u64),
            ("engine.step_target_ms", self.engine.step_target_ms),
            ("ledger.spool_mib", self.ledger.spool_mib),
            ("ledger.spool_seconds", self.ledger.spool_seconds),
            ("limits.body_mib", self.limits.body_mib as u64),
            ("limits.connections", self.limits.connections as u64),
            ("limits.header_timeout_seconds", self.limits.header_timeout_seconds),
            ("limits.body_timeout_seconds", self.limits.body_timeout_seconds),
            ("limits.request_timeout_seconds", self.limits.request_timeout_seconds),
            ("limits.slow_reader_timeout_seconds", self.limits.slow_reader_timeout_seconds),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(format!("{field} must be at least 1")),
            None => Ok(()),
        }
    }
}

fn read_price<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Price, D::Error> {
    struct PriceText;
    impl de::Visitor<'_> for PriceText {
        type Value = Price;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a price in quotes, in USD per million tokens, such as \"0.25\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Price, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(PriceText)
}

fn read_some_price<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Price>, D::Error> {
    read_price(deserializer).map(Some)
}

/// Returns the line and column, both from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(1, |last| last.chars().count() + 1);
    (line, column)
}

/// Adds "did you mean" to the parser's message about an unknown field or value.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(written) = quoted.next().filter(|_| message.starts_with("unknown")) else {
        return message.to_owned();
    };
    let nearest = quoted.map(|known| (distance(written, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 3 && distance < written.len() => {
            format!("{message}; did you mean `{known}`?")
        }
        _ => message.to_owned(),
    }
}

/// Returns how many single-character edits lie between two words (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Config::parse(Path::new("baseload.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = Config::parse(Path::new("x"), "").unwrap();
        assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
        assert!(config.models.is_empty());
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_place_and_the_likely_one() {
        let refusal = refusal("listen = \"127.0.0.1:1\"\n[engine]\nmax_runing = 3\n");
        assert!(refusal.starts_with("baseload.toml:3:1: unknown field `max_runing`"), "{refusal}");
        assert!(refusal.ends_with("did you mean `max_running`?"), "{refusal}");
    }

    #[test]
    fn prices_are_strings_and_exact() {
        let text = "[[model]]\npath = \"m\"\nprice = { input = \"0.0036\", output = \"2\" }";
        let config = Config::parse(Path::new("x"), text).unwrap();
        let price = config.models[0].price.unwrap();
        assert_eq!(price.input.unwrap().pico_per_token(), 3_600);
        assert_eq!(price.cached, None);
        let float = refusal("[[model]]\npath = \"m\"\nprice = { input = 0.5, output = \"2\" }");
        assert!(float.contains("a price in quotes"), "{float}");
        let fine = refusal("[[model]]\npath = \"m\"\nprice = { input = \"0.00000001\", output = \"2\" }");
        assert!(fine.contains("at most 6 decimals"), "{fine}");
        let half = refusal("[[model]]\npath = \"m\"\nprice = { input = \"1\" }");
        assert!(half.contains("needs both `input` and `output`"), "{half}");
        let hour = Config::parse(Path::new("x"), "[[model]]\npath = 'm'\nprice = { compute_hour = '2.69' }")
            .unwrap();
        assert!(hour.models[0].price.unwrap().sheet().unwrap().compute_hour.is_some());
    }

    #[test]
    fn prices_and_terms_of_ones_own_are_checked_as_a_whole() {
        let text = "[[price]]\nmodel = 'm'\nprovider = 'openai'\ninput = '1'\noutput = '2'\ntiers = { batch = '0.5' }";
        let config = Config::parse(Path::new("x"), text).unwrap();
        assert_eq!(config.prices[0].priced_as().as_str(), "openai/m");
        assert!(refusal("[[price]]\nmodel = 'm'").contains("no price at all"));
        let steps = "volume = [{ from = '9', times = '0.9' }, { from = '8', times = '0.8' }]";
        let refusal = refusal(&format!("[[terms]]\nprovider = 'openai'\n{steps}"));
        assert!(refusal.contains("the terms of openai: the steps of `volume` must ascend"), "{refusal}");
    }

    #[test]
    fn two_models_cannot_share_a_name() {
        let refusal = refusal("[[model]]\nname='a'\npath='x'\n[[model]]\nname='b'\naliases=['a']\npath='y'");
        assert!(refusal.contains("two models are named \"a\""), "{refusal}");
    }

    #[test]
    fn accounts_are_paths_and_each_is_declared_once() {
        let text = "[[account]]\npath = \"acme/research\"\nkind = \"team\"\ncost_centre = \"K-17\"";
        let config = Config::parse(Path::new("x"), text).unwrap();
        assert_eq!(config.accounts[0].kind, Some(Kind::Team));
        assert!(refusal("[[account]]\npath = \"acme/\"").contains("a segment is empty"));
        let twice = refusal("[[account]]\npath = \"a\"\n[[account]]\npath = \"a\"");
        assert!(twice.contains("two [[account]] have the path \"a\""), "{twice}");
        assert!(refusal("[[account]]\npath = \"a\"\nkind = \"crew\"").contains("unknown variant `crew`"));
    }

    #[test]
    fn zero_where_nothing_could_run_is_refused_by_name() {
        assert!(refusal("[limits]\nconnections = 0").contains("limits.connections must be at least 1"));
    }
}
