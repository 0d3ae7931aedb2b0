//! Where this user's ledger, downloads and unpacked models are.

use std::path::PathBuf;

use anyhow::Context;

use crate::cli::Place;
use crate::config::Config;

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

pub fn ledger_path(place: &Place) -> anyhow::Result<PathBuf> {
    Ok(data_folder(place, &config(place)?)?.join("ledger.sqlite"))
}
