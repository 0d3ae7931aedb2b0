//! What does each supply unit cost, and who says so?
//!
//! The first that knows wins: the model's own `price`, a `[[price]]` of the file, the catalogue under the vendor and the
//! provider's id or the model's name. What the ledger has stays where the catalogue says nothing newer: somebody may have set
//! it there. Who has no price from anybody is *unpriced*, and is said to be.

use anyhow::Context;
use domain::ModelName;
use ledger::price::catalogue::{self, Listed, Vendor};
use ledger::{Circumstances, Journal, PriceChange, PriceVersion, Sheet, Timestamp};

use crate::config::{Config, Unit};

/// A unit's price.
#[derive(Debug)]
pub enum UnitPrice {
    /// The model's `price`, or a `[[price]]`.
    File(Sheet),
    /// The catalogue, which calls it so.
    Catalogue { listed_as: ModelName, sheet: Sheet },
    /// Set in the ledger itself.
    Ledger(Sheet),
    Unknown {
        /// What the catalogue knows under another vendor.
        known: Option<ModelName>,
    },
}

/// All that is said of prices, outside of the ledger.
pub struct Prices<'a> {
    config: &'a Config,
    vendors: Vec<Vendor>,
}

impl<'a> Prices<'a> {
    pub fn of(config: &'a Config) -> anyhow::Result<Self> {
        let vendors = catalogue::shipped().context("reading the price catalogue")?;
        Ok(Self { config, vendors })
    }

    /// Returns the price in force, with what the ledger has where there is one.
    pub fn price(&self, unit: &Unit<'_>, versions: &[PriceVersion], now: Timestamp) -> UnitPrice {
        if let Some(Ok(sheet)) = unit.model.price.as_ref().map(|price| price.sheet()) {
            return UnitPrice::File(sheet);
        }
        let name = priced_as(unit);
        if let Some(Ok(sheet)) =
            self.config.prices.iter().rfind(|price| price.priced_as() == name).map(|price| price.sheet())
        {
            return UnitPrice::File(sheet);
        }
        let kept = in_force(versions, &name, now);
        let listed = self.listed(unit);
        let newest = listed.iter().filter(|listed| listed.valid_from() <= now).max_by_key(|listed| listed.valid_from());
        match (newest, kept) {
            (Some(newest), kept) if kept.is_none_or(|kept| kept.valid_from <= newest.valid_from()) => {
                UnitPrice::Catalogue { listed_as: newest.text.priced_as(), sheet: newest.sheet.clone() }
            }
            (_, Some(kept)) if !kept.sheet.is_unpriced() => UnitPrice::Ledger(kept.sheet.clone()),
            _ => UnitPrice::Unknown { known: self.known_elsewhere(unit) },
        }
    }

    /// Returns what must be recorded in a ledger that has these versions, so that every unit is found under its vendor and name.
    pub fn changes(&self, versions: &[PriceVersion], now: Timestamp) -> Vec<PriceChange> {
        let mut changes: Vec<PriceChange> = Vec::new();
        // The engine's own models are priced when they are loaded, for only then all their names are known.
        for unit in self.config.units().filter(|unit| unit.provider.is_some()) {
            let model = priced_as(&unit);
            if changes.iter().any(|change| change.model == model) {
                continue;
            }
            if let Some(Ok(sheet)) = unit.model.price.as_ref().map(|price| price.sheet()) {
                changes.push(PriceChange { model, sheet, valid_from: now });
            } else if !self.config.prices.iter().any(|price| price.priced_as() == model) {
                let newest = versions.iter().filter(|version| version.model == model);
                let newest = newest.map(|version| version.valid_from).max();
                let listed = catalogue::changes(self.listed(&unit));
                let news = listed.into_iter().filter(|change| newest.is_none_or(|newest| change.valid_from > newest));
                changes.extend(news.map(|change| PriceChange { model: model.clone(), ..change }));
            }
        }
        changes
    }

    /// Returns the catalogue's rows of this unit: by the provider's id, or else by its name.
    fn listed(&self, unit: &Unit<'_>) -> Vec<&Listed> {
        if unit.provider.is_none() {
            return Vec::new();
        }
        let vendor = unit.vendor();
        let rows = |name: &str| -> Vec<&Listed> {
            let own = self.vendors.iter().filter(|of| of.provider == vendor).flat_map(|of| &of.prices);
            own.filter(|listed| listed.text.model.as_str() == name).collect()
        };
        let by_id = unit.model.id.as_deref().map(rows).unwrap_or_default();
        if by_id.is_empty() { rows(unit.name().as_str()) } else { by_id }
    }

    fn known_elsewhere(&self, unit: &Unit<'_>) -> Option<ModelName> {
        unit.provider?;
        let (name, id) = (unit.name(), unit.model.id.as_deref());
        let is_it = |listed: &&Listed| {
            listed.text.model == name || id.is_some_and(|id| listed.text.model.as_str() == id)
        };
        let all = self.vendors.iter().flat_map(|vendor| &vendor.prices);
        all.filter(|listed| listed.text.provider.is_some()).find(is_it).map(|listed| listed.text.priced_as())
    }
}

impl UnitPrice {
    pub fn sheet(&self) -> Option<&Sheet> {
        match self {
            Self::File(sheet) | Self::Ledger(sheet) | Self::Catalogue { sheet, .. } => Some(sheet),
            Self::Unknown { .. } => None,
        }
    }

    /// Returns who says so, in a few words.
    pub fn source(&self) -> String {
        match self {
            Self::File(_) => "this file".into(),
            Self::Ledger(_) => "the ledger".into(),
            Self::Catalogue { listed_as, .. } => format!("catalogue {listed_as}"),
            Self::Unknown { known: None } => "unpriced".into(),
            Self::Unknown { known: Some(known) } => format!("unpriced (catalogue has {known})"),
        }
    }
}

/// Returns the name under which the ledger keeps the unit's price.
pub fn priced_as(unit: &Unit<'_>) -> ModelName {
    Circumstances { provider: unit.vendor(), ..Circumstances::default() }.priced_as(&unit.name())
}

/// Puts the units' prices in force, and returns the names of those that have none.
pub async fn record(journal: &Journal, config: &Config, now: Timestamp) -> anyhow::Result<Vec<String>> {
    let prices = Prices::of(config)?;
    let changes = prices.changes(&journal.prices().await?, now);
    journal.set_prices(changes).await?;
    let versions = journal.prices().await?;
    let units = config.units().filter(|unit| unit.provider.is_some());
    let is_unpriced = |unit: &Unit<'_>| {
        in_force(&versions, &priced_as(unit), now).is_none_or(|version| version.sheet.is_unpriced())
    };
    Ok(units.filter(is_unpriced).map(|unit| unit.title()).collect())
}

fn in_force<'a>(versions: &'a [PriceVersion], model: &ModelName, now: Timestamp) -> Option<&'a PriceVersion> {
    let past = versions.iter().filter(|version| version.model == *model && version.valid_from <= now);
    past.max_by_key(|version| (version.valid_from, version.id))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(model: &str) -> Config {
        let text = format!(
            "[[provider]]\nname = 'anthropic'\nkind = 'anthropic'\nkey = {{ env = 'K' }}\n[[provider]]\nname = 'mine'\n\
             kind = 'openai_compatible'\nbase_url = 'http://h'\n{model}"
        );
        Config::parse(Path::new("x"), &text).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000)
    }

    async fn journal(folder: &tempfile::TempDir) -> Journal {
        Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap()
    }

    async fn rate(journal: &Journal, model: &str) -> Option<String> {
        let versions = journal.prices().await.unwrap();
        let found = in_force(&versions, &model.into(), now())?;
        Some(found.sheet.standard.rates.input_uncached?.of(1_000_000).to_string())
    }

    #[tokio::test]
    async fn a_unit_costs_what_its_file_says_or_else_the_catalogue_and_is_unpriced_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let config = config(
            "[[model]]\nname = 'sonnet'\nprovider = 'anthropic'\nid = 'claude-sonnet-5.5'\n\
             [[model]]\nname = 'claude-haiku-5.5'\nprovider = 'anthropic'\nprice = { input = '9', output = '9' }\n\
             [[model]]\nname = 'claude-haiku-5.5'\nprovider = 'mine'\n\
             [[model]]\nname = 'listed'\nprovider = 'mine'\n[[price]]\nmodel = 'listed'\nprovider = 'mine'\ninput = '3'\noutput = '4'\n",
        );
        crate::roles::declare::prices(&journal, &config.prices, now()).await.unwrap();
        let unpriced = record(&journal, &config, now()).await.unwrap();
        assert_eq!(unpriced, ["claude-haiku-5.5@mine"]);
        assert_eq!(rate(&journal, "anthropic/sonnet").await.as_deref(), Some("2.00"));
        assert_eq!(rate(&journal, "anthropic/claude-haiku-5.5").await.as_deref(), Some("9.00"));
        assert_eq!(rate(&journal, "mine/listed").await.as_deref(), Some("3.00"));
        let versions = journal.prices().await.unwrap().len();
        record(&journal, &config, now()).await.unwrap();
        assert_eq!(journal.prices().await.unwrap().len(), versions, "a second start records nothing");
        let prices = Prices::of(&config).unwrap();
        let unit = config.units().nth(2).unwrap();
        let source = prices.price(&unit, &[], now()).source();
        assert_eq!(source, "unpriced (catalogue has anthropic/claude-haiku-5.5)");
    }

    #[tokio::test]
    async fn what_somebody_set_in_the_ledger_after_the_catalogue_stays() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let config = config("[[model]]\nname = 'claude-sonnet-5.5'\nprovider = 'anthropic'\n");
        let own = PriceChange {
            model: "anthropic/claude-sonnet-5.5".into(),
            sheet: Sheet::per_token("1.5".parse().unwrap(), "1".parse().unwrap(), "7".parse().unwrap()),
            valid_from: now(),
        };
        journal.set_prices(vec![own]).await.unwrap();
        assert!(record(&journal, &config, now()).await.unwrap().is_empty());
        assert_eq!(rate(&journal, "anthropic/claude-sonnet-5.5").await.as_deref(), Some("1.50"));
    }
}
