//! Where this user's ledger, downloads and unpacked models are.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use ledger::{Journal, JournalOptions, LedgerError, Survives};

use crate::cli::Place;
use crate::config::{Config, LedgerSettings, SurvivesSetting, UnpricedSetting};

/// Returns the configuration: the file that was named, or the defaults.
pub fn config(place: &Place) -> anyhow::Result<Config> {
    match &place.config {
        Some(path) => Ok(Config::read(path)?),
        None => Ok(Config::default()),
    }
}

/// Returns the data folder: the flag's, the configuration's, or the user's own (`$XDG_DATA_HOME/baseload`).
pub fn data_folder(place: &Place, config: &Config) -> anyhow::Result<PathBuf> {
    if let Some(folder) = place.data.as_ref().or(config.data.as_ref()) {
        return Ok(folder.clone());
    }
    let own = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    own("XDG_DATA_HOME")
        .or_else(|| own("HOME").map(|home| home.join(".local/share")))
        .map(|folder| folder.join("baseload"))
        .context("neither HOME nor XDG_DATA_HOME is set; say where data shall be kept with --data DIR")
}

/// Where the book is: a file, or a server that many share.
pub enum Ledger {
    File(PathBuf),
    /// May hold a password, so it is never shown.
    Url(String),
}

/// Returns the ledger's place: the flag's, the configuration's, or the file in the data folder.
pub fn ledger(place: &Place, config: &Config) -> anyhow::Result<Ledger> {
    match place.ledger.as_ref().or(config.ledger.url.as_ref()) {
        Some(url) => Ok(Ledger::Url(url.clone())),
        None => Ok(Ledger::File(data_folder(place, config)?.join("ledger.sqlite"))),
    }
}

/// Opens the ledger for a command that runs beside the server.
pub async fn attach(place: &Place) -> anyhow::Result<Journal> {
    Ok(match ledger(place, &config(place)?)? {
        Ledger::File(path) => Journal::attach(&path).await?,
        Ledger::Url(url) => Journal::attach_url(&url).await?,
    })
}

/// As [`attach`], where there is something to read.
pub async fn attach_to_existing(place: &Place) -> anyhow::Result<Journal> {
    if let Ledger::File(path) = ledger(place, &config(place)?)? {
        anyhow::ensure!(
            path.exists(),
            "there is no ledger at {} yet; `baseload serve` writes it with the first request",
            path.display()
        );
    }
    attach(place).await
}

impl Ledger {
    /// Opens the ledger for the server that books in it.
    pub async fn open(&self, settings: &LedgerSettings) -> Result<Journal, LedgerError> {
        let is_unpriced_allowed = settings.unpriced == UnpricedSetting::Allow;
        let survives = match settings.survives {
            SurvivesSetting::PowerLoss => Survives::PowerLoss,
            SurvivesSetting::ProcessLoss => Survives::ProcessLoss,
        };
        let options = JournalOptions { is_unpriced_allowed, survives, ..JournalOptions::default() };
        match self {
            Self::File(path) => Journal::open_with(path, options).await,
            Self::Url(url) => Journal::open_url(url, options).await,
        }
    }
}

/// For people, without user and password.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => {
                let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
                let rest = rest.trim_start_matches('/').rsplit('@').next().unwrap_or_default();
                write!(f, "{scheme}:{}", rest.split('?').next().unwrap_or_default())
            }
        }
    }
}
