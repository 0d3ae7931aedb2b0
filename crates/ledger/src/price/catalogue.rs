//! Which prices does the project know of? Data files, one for each vendor, inside the binary.

use serde::Deserialize;

use super::text::PriceText;
use super::{PriceChange, Provider, Sheet};
use crate::Timestamp;

/// The files; a new vendor is a file and a line.
const FILES: [(&str, &str); 17] = [
    ("anthropic.toml", include_str!("../../../../catalogue/prices/anthropic.toml")),
    ("bedrock.toml", include_str!("../../../../catalogue/prices/bedrock.toml")),
    ("cerebras.toml", include_str!("../../../../catalogue/prices/cerebras.toml")),
    ("cohere.toml", include_str!("../../../../catalogue/prices/cohere.toml")),
    ("deepseek.toml", include_str!("../../../../catalogue/prices/deepseek.toml")),
    ("fireworks.toml", include_str!("../../../../catalogue/prices/fireworks.toml")),
    ("google.toml", include_str!("../../../../catalogue/prices/google.toml")),
    ("groq.toml", include_str!("../../../../catalogue/prices/groq.toml")),
    ("meta.toml", include_str!("../../../../catalogue/prices/meta.toml")),
    ("minimax.toml", include_str!("../../../../catalogue/prices/minimax.toml")),
    ("mistral.toml", include_str!("../../../../catalogue/prices/mistral.toml")),
    ("moonshot.toml", include_str!("../../../../catalogue/prices/moonshot.toml")),
    ("openai.toml", include_str!("../../../../catalogue/prices/openai.toml")),
    ("openrouter-floor.toml", include_str!("../../../../catalogue/prices/openrouter-floor.toml")),
    ("together.toml", include_str!("../../../../catalogue/prices/together.toml")),
    ("xai.toml", include_str!("../../../../catalogue/prices/xai.toml")),
    ("zai-cn.toml", include_str!("../../../../catalogue/prices/zai-cn.toml")),
];

/// One vendor's prices, in the order of its file.
#[derive(Clone, Debug)]
pub struct Vendor {
    pub provider: Provider,
    pub name: String,
    /// What one must know of all its prices.
    pub remark: Option<String>,
    pub prices: Vec<Listed>,
}

/// One price of the catalogue, with its facts.
#[derive(Clone, Debug)]
pub struct Listed {
    pub text: PriceText,
    pub sheet: Sheet,
}

/// A file of the catalogue, the shipped ones or a user's own, that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct CatalogueError {
    pub file: String,
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    vendor: Provider,
    name: String,
    remark: Option<String>,
    price: Vec<PriceText>,
}

/// Returns the catalogue that this binary carries.
pub fn shipped() -> Result<Vec<Vendor>, CatalogueError> {
    FILES.iter().map(|(file, text)| read(file, text)).collect()
}

/// Returns the prices of one file.
pub fn read(file: &str, text: &str) -> Result<Vendor, CatalogueError> {
    let wrong = |why: String| CatalogueError { file: file.to_owned(), why };
    let File { vendor, name, remark, price } =
        toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    let mut prices = Vec::with_capacity(price.len());
    for mut text in price {
        text.provider = Some(vendor.clone());
        let sheet = text.sheet().map_err(|error| wrong(error.to_string()))?;
        if text.valid_from().is_none() {
            return Err(wrong(format!("the price of {} says neither `effective` nor `seen`", text.model)));
        }
        if text.source.is_empty() {
            return Err(wrong(format!("the price of {} has no source", text.model)));
        }
        prices.push(Listed { text, sheet });
    }
    Ok(Vendor { provider: vendor, name, remark, prices })
}

/// Returns the changes that put these prices in force, oldest first. One that ends, and that no other of its model follows
/// by then, is followed by being unpriced: nobody knows what comes after it.
pub fn changes<'a>(prices: impl IntoIterator<Item = &'a Listed>) -> Vec<PriceChange> {
    let prices: Vec<&Listed> = prices.into_iter().collect();
    let mut changes = Vec::new();
    for listed in &prices {
        let (model, valid_from) = (listed.text.priced_as(), listed.valid_from());
        changes.push(PriceChange { model: model.clone(), sheet: listed.sheet.clone(), valid_from });
        let Some(until) = listed.text.until.map(|date| date.midnight()) else { continue };
        let is_followed = prices.iter().any(|other| {
            let begins = other.valid_from();
            other.text.priced_as() == model && begins > valid_from && begins <= until
        });
        if !is_followed {
            changes.push(PriceChange { model, sheet: Sheet::unpriced(), valid_from: until });
        }
    }
    changes.sort_by(|a, b| (a.valid_from, &a.model).cmp(&(b.valid_from, &b.model)));
    changes
}

impl Listed {
    pub fn valid_from(&self) -> Timestamp {
        self.text.valid_from().expect("a price of the catalogue says since when it counts")
    }
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
