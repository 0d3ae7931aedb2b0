//! What this process was told to do: the only reader of configuration files.
//!
//! A file is TOML and strict: an unknown field is an error that names it, its line and the field that was probably meant.
//! Command-line flags win over the file; the file wins over the defaults below.

mod budgets;
mod check;
pub mod kinds;
mod models;
mod providers;
mod read;
mod routes;
mod secret;
mod tasks;
mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use control::admin_api::Kind;
use ledger::Provider;
use ledger::price::{PriceText, Quoted, Reach, StepText, Terms, TermsText, Usd};
use model::Precision;
use serde::Deserialize;

pub use budgets::{AlertSettings, LimitSetting};
pub use check::unknown;
pub use models::{ModelConfig, ModelSetting, PriceSetting};
pub use providers::{HeaderValue, PlaceTier, ProviderSetting};
pub use read::ConfigError;
pub use routes::{
    CacheSettings, OrderSetting, ResidencySetting, ResponsesSettings, RouteSetting, ShareSetting,
};
pub use secret::{Secret, SecretSource};
pub use tasks::TaskSettings;
pub use units::Unit;

/// Where a server listens unless told otherwise: this machine alone, so that no key is needed.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port of the HTTP endpoint.
    pub listen: SocketAddr,
    /// Folder of the ledger, the cache of downloads and the unpacked bundled model.
    pub data: Option<PathBuf>,
    /// Models of our own, and those that providers have.
    #[serde(rename = "model")]
    pub models: Vec<ModelSetting>,
    #[serde(rename = "provider")]
    pub providers: Vec<ProviderSetting>,
    /// Names that say what they need, instead of who answers.
    #[serde(rename = "route")]
    pub routes: Vec<RouteSetting>,
    /// Where whose data may be processed.
    pub residency: Vec<ResidencySetting>,
    pub cache: CacheSettings,
    pub responses: ResponsesSettings,
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
            providers: Vec::new(),
            routes: Vec::new(),
            residency: Vec::new(),
            cache: CacheSettings::default(),
            responses: ResponsesSettings::default(),
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
    /// What an entry survives once it is booked.
    pub survives: SurvivesSetting,
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
            survives: SurvivesSetting::default(),
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
#[serde(rename_all = "snake_case")]
pub enum SurvivesSetting {
    /// A power cut. Each booking waits for the disk.
    #[default]
    PowerLoss,
    /// The death of the process; a power cut may take the last moment with it. Bookings are faster by a turn of the disk.
    ProcessLoss,
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
    Int4,
}

impl PrecisionSetting {
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::F16 => Precision::F16,
            Self::Bf16 => Precision::Bf16,
            Self::Int8 => Precision::Int8,
            Self::Int4 => Precision::Int4,
        }
    }
}

/// How keys and values are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KvPrecisionSetting {
    #[default]
    Bf16,
    Int8,
}

/// Who guesses tokens ahead, which never changes what is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SpeculateSetting {
    Off,
    /// What followed the same words before in the same text; and a model's draft, if it has one.
    #[default]
    Ngram,
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
    /// How they are kept: as bf16, or as int8 in half the memory.
    pub kv_precision: KvPrecisionSetting,
    /// The most that keys and values of each model take on disk when memory has no more room, in MiB; 0 keeps none there.
    pub kv_disk_mib: usize,
    /// The folder of their files; without it, `kv` in the data folder.
    pub kv_disk_path: Option<PathBuf>,
    /// Whether they are found again after a restart. Else nothing of them outlives the process.
    pub kv_disk_keep: bool,
    /// Whether tokens are guessed ahead where that is faster.
    pub speculate: SpeculateSetting,
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
    /// What packed copies of models may take on disk, in GiB: with one, the next start only maps its weights. 0 keeps none.
    pub packed_cache_gib: u64,
    /// Read all of a packed copy and compare its checksums before it is used.
    pub packed_cache_verify: bool,
    /// Where this machine stands, for routes and residency rules.
    pub tier: PlaceTier,
    /// Under whose law it stands; none is unknown, which no residency rule admits.
    pub jurisdictions: Vec<String>,
    /// Data of which classes it may see; without it, any.
    pub data_classes: Option<Vec<String>>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            kv_mib: 1024,
            kv_precision: KvPrecisionSetting::Bf16,
            kv_disk_mib: 0,
            kv_disk_path: None,
            kv_disk_keep: false,
            speculate: SpeculateSetting::Ngram,
            max_running: 64,
            max_waiting: 512,
            step_target_ms: 100,
            prefix_cache: true,
            batch_invariant: false,
            packed_cache_gib: 64,
            packed_cache_verify: false,
            tier: PlaceTier::OnPremises,
            jurisdictions: Vec::new(),
            data_classes: None,
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

impl Config {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        read::read(text, check::check)
            .map_err(|findings| ConfigError::Invalid { path: path.to_owned(), findings })
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
