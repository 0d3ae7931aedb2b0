//! Which prices does somebody else's catalogue state? Their JSON, read exactly: numbers never become floats.

mod litellm;
mod models_dev;

use domain::{ModelName, Price};
use serde_json::Value;

pub use self::litellm::read as litellm;
pub use self::models_dev::read as models_dev;
use super::{Provider, Sheet, decimal};

/// What a foreign catalogue states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub prices: Vec<ImportedPrice>,
    /// What was not taken over, and why: nothing is approximated.
    pub skipped: Vec<Skipped>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedPrice {
    pub provider: Provider,
    pub model: ModelName,
    pub sheet: Sheet,
    /// Charges that exist and that a sheet has no place for, such as those for images and audio.
    pub left_out: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub name: String,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("it is not JSON: {0}")]
    NotJson(String),
    #[error("it is not a {format} catalogue: {why}")]
    NotCatalogue { format: &'static str, why: &'static str },
}

/// Reads JSON with every number as the text that stands there.
fn exact_json(text: &str) -> Result<Value, ImportError> {
    serde_json::from_str(&quote_numbers(text)).map_err(|error| ImportError::NotJson(error.to_string()))
}

/// Returns the JSON with its numbers in quotes. What is no number outside of strings stays as it is, so that a broken
/// document stays broken.
fn quote_numbers(json: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let mut out = String::with_capacity(json.len() + json.len() / 8);
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = if rest.starts_with('"') {
            string_end(rest)
        } else {
            rest.find(|c| !is_number(c)).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(end);
        if token.starts_with('"') {
            out.push_str(token);
        } else {
            out.extend(["\"", token, "\""]);
        }
        rest = after;
    }
    out + rest
}

/// Returns where the string that begins here has ended, its closing quote included.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

/// Reads an exact number of USD in a unit of so many decimals of a picodollar a token: 12 for USD a token, 6 for USD a
/// million.
fn price(value: &Value, decimals: u32) -> Result<Option<Price>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        other => return Err(format!("{other} is no number")),
    };
    let pico =
        decimal::scaled(text, decimals).map_err(|error| format!("{text} cannot be kept exactly: {error}"))?;
    let pico = u64::try_from(pico).ok().filter(|pico| *pico <= i64::MAX.unsigned_abs());
    pico.map(|pico| Some(Price::from_pico_per_token(pico))).ok_or_else(|| format!("{text} is too large"))
}

/// Both catalogues write 0 for free models and for prices that nobody knows, so that a sheet of zeros says nothing.
const ALL_ZERO: &str = "every price is 0, which there means free or unknown; if it is free, set it by hand";

fn is_all_zero(sheet: &Sheet) -> bool {
    let schedules = sheet.schedules().flat_map(|(_, schedule)| schedule.every_rates());
    let mut prices = schedules.flat_map(|rates| rates.named()).filter_map(|(_, price)| price);
    sheet.compute_hour.is_none() && sheet.request.is_none() && prices.all(|price| price.pico_per_token() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_the_text_that_they_are() {
        let value =
            exact_json(r#"{"a": 1.5e-07, "b": [-2, 0], "c": "x \" 7 \\", "9": true, "d": null}"#).unwrap();
        assert_eq!(value["a"], "1.5e-07");
        assert_eq!(value["b"][0], "-2");
        assert_eq!(value["c"], "x \" 7 \\");
        assert_eq!(value["9"], true);
        assert!(exact_json(r#"{"a": 1.5e-07"#).is_err());
        assert!(exact_json(r#"{"a": "open"#).is_err());
        assert!(exact_json("").is_err());
    }
}
