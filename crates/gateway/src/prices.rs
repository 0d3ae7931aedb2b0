//! What would a request cost here and there? The book's prices, kept at hand so that choosing waits for nothing.

use std::collections::HashMap;
use std::time::Duration;

use domain::{ModelName, Money, Usage};
use ledger::{Circumstances, Journal, PriceVersion};
use parking_lot::RwLock;

use crate::admit::now;

/// The prices that are or will be in force, by the name that the book has them under: a KiB or two for each version.
#[derive(Default)]
pub struct Prices(RwLock<HashMap<ModelName, Vec<PriceVersion>>>);

/// How old what is at hand may be. What is *booked* is priced by the book itself, so that a price that changed in between only
/// means a choice by the older one.
const REFRESH: Duration = Duration::from_secs(2);

impl Prices {
    /// Returns what the usage costs, or nothing where some of it has no price.
    pub fn cost(&self, model: &ModelName, way: &Circumstances, usage: &Usage) -> Option<Money> {
        let at = now();
        let prices = self.0.read();
        let versions = prices.get(&way.priced_as(model))?;
        let begun = versions.partition_point(|version| version.valid_from <= at);
        versions[..begun].last()?.sheet.cost(usage, way)
    }

    /// Reads the prices from the book. Where it does not answer, those at hand stay.
    pub async fn refresh(&self, journal: &Journal) {
        let Ok(versions) = journal.prices().await else { return };
        let mut by_model: HashMap<ModelName, Vec<PriceVersion>> = HashMap::new();
        for version in versions {
            by_model.entry(version.model.clone()).or_default().push(version);
        }
        // The latest start wins, then the latest record: a stable sort keeps records in their order.
        by_model.values_mut().for_each(|versions| versions.sort_by_key(|version| version.valid_from));
        *self.0.write() = by_model;
    }

    /// Keeps the prices fresh for ever.
    pub async fn keep_fresh(&self, journal: &Journal) {
        loop {
            self.refresh(journal).await;
            tokio::time::sleep(REFRESH).await;
        }
    }
}
