//! What does models.dev's `api.json` say of each model?
//!
//! Providers by key, each with models by key, each with `cost` in USD per million tokens. Context tiers are an array
//! `tiers` with a threshold each, or the older object `context_over_200k`; where both are there, the array is the finer one.

use domain::ModelName;
use serde_json::{Map, Value};

use super::{ALL_ZERO, ImportError, Imported, ImportedPrice, Skipped, exact_json, is_all_zero, price};
use crate::price::{ContextTier, Provider, Rates, Schedule, Sheet};

/// The fields of `cost` that are read, or known to say nothing about tokens of text.
const TOKENS: [&str; 4] = ["input", "output", "cache_read", "cache_write"];
const TIERS: [&str; 2] = ["tiers", "context_over_200k"];

pub fn read(text: &str) -> Result<Imported, ImportError> {
    let not_catalogue = |why| ImportError::NotCatalogue { format: "models.dev", why };
    let Value::Object(providers) = exact_json(text)? else {
        return Err(not_catalogue("the whole is not an object of providers"));
    };
    let mut imported = Imported::default();
    for (provider, entry) in &providers {
        let models = entry.get("models").and_then(Value::as_object);
        for (name, entry) in models.ok_or(not_catalogue("a provider has no models"))? {
            match model(entry) {
                Ok((sheet, left_out)) => imported.prices.push(ImportedPrice {
                    provider: Provider::new(provider.as_str()),
                    model: ModelName::new(name.as_str()),
                    sheet,
                    left_out,
                }),
                Err(why) => imported.skipped.push(Skipped { name: format!("{provider}/{name}"), why }),
            }
        }
    }
    if imported.prices.is_empty() {
        return Err(not_catalogue("no model has a price that can be taken over"));
    }
    Ok(imported)
}

fn model(entry: &Value) -> Result<(Sheet, Vec<String>), String> {
    let cost = entry.get("cost").and_then(Value::as_object).ok_or("it states no cost")?;
    let rates = rates(cost)?;
    let reasoning = cost.get("reasoning").map(|value| price(value, 6)).transpose()?.flatten();
    if reasoning.is_some_and(|reasoning| Some(reasoning) != rates.output) {
        return Err("it bills reasoning at a price of its own, which a sheet cannot say".into());
    }
    let sheet = Sheet { standard: Schedule { rates, long: long(cost)? }, ..Sheet::default() };
    if sheet.is_unpriced() {
        return Err("it states no price for tokens".into());
    }
    if is_all_zero(&sheet) {
        return Err(ALL_ZERO.into());
    }
    let is_read = |field: &str| TOKENS.contains(&field) || TIERS.contains(&field) || field == "reasoning";
    let left_out = cost.keys().filter(|field| !is_read(field)).cloned().collect();
    Ok((sheet, left_out))
}

fn long(cost: &Map<String, Value>) -> Result<Vec<ContextTier>, String> {
    let mut long = Vec::new();
    if let Some(tiers) = cost.get("tiers").and_then(Value::as_array) {
        for tier in tiers {
            let threshold = tier.get("tier").and_then(Value::as_object).ok_or("a tier has no threshold")?;
            if threshold.get("type").and_then(Value::as_str) != Some("context") {
                return Err("it has tiers by something else than the context".into());
            }
            let size = threshold.get("size").and_then(Value::as_str).and_then(|size| size.parse().ok());
            let above_input_tokens = size.ok_or("a tier's size is not a number of tokens")?;
            let rates = rates(tier.as_object().expect("it has fields"))?;
            long.push(ContextTier { above_input_tokens, rates });
        }
    } else if let Some(over) = cost.get("context_over_200k").and_then(Value::as_object) {
        long.push(ContextTier { above_input_tokens: 200_000, rates: rates(over)? });
    }
    long.sort_by_key(|tier| tier.above_input_tokens);
    Ok(long)
}

fn rates(cost: &Map<String, Value>) -> Result<Rates, String> {
    let price = |field: &str| {
        price(cost.get(field).unwrap_or(&Value::Null), 6).map_err(|why| format!("{field}: {why}"))
    };
    Ok(Rates {
        input_uncached: price("input")?,
        cache_read: price("cache_read")?,
        // The catalogue does not say which lifetime; where there are two, it states the shorter one.
        cache_write_5m: price("cache_write")?,
        cache_write_1h: None,
        output: price("output")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = r#"{
      "openai": { "id": "openai", "name": "OpenAI", "env": ["OPENAI_API_KEY"], "models": {
        "gpt-5.5": { "id": "gpt-5.5", "release_date": "2026-04-01", "limit": { "context": 1050000, "output": 128000 },
          "cost": { "input": 5, "output": 30, "cache_read": 0.5, "reasoning": 30,
            "tiers": [{ "input": 10, "output": 45, "cache_read": 1, "tier": { "type": "context", "size": 272000 } }],
            "context_over_200k": { "input": 10, "output": 45, "cache_read": 1 } } },
        "whisper": { "id": "whisper", "modalities": { "input": ["audio"] } },
        "thinker": { "cost": { "input": 0.4, "output": 1.2, "reasoning": 4 } },
        "hourly": { "cost": { "input": 1, "output": 2, "tiers": [{ "input": 2, "tier": { "type": "hour", "size": 8 } }] } }
      } },
      "google": { "models": { "gemini-3.1-pro-preview": { "cost": { "input": 2, "output": 12, "input_audio": 1.25e0,
          "context_over_200k": { "input": 4, "output": 18 } } } } },
      "deepseek": { "models": { "deepseek-v4-pro": { "cost": { "input": 0.435, "output": 0.87, "cache_read": 3.625e-03 } },
        "preview": { "cost": { "input": 0, "output": 0 } } } }
    }"#;

    fn of(imported: &Imported, model: &str) -> ImportedPrice {
        imported.prices.iter().find(|price| price.model.as_str() == model).unwrap().clone()
    }

    #[test]
    fn prices_per_million_and_their_context_tiers_are_read_exactly() {
        let imported = read(RECORDED).unwrap();
        let gpt = of(&imported, "gpt-5.5").sheet;
        assert_eq!(gpt.standard.long.len(), 1);
        assert_eq!(gpt.standard.long[0].above_input_tokens, 272_000);
        let gemini = of(&imported, "gemini-3.1-pro-preview");
        assert_eq!(gemini.provider.as_str(), "google");
        assert_eq!(gemini.sheet.standard.long[0].above_input_tokens, 200_000);
        assert_eq!(gemini.sheet.standard.long[0].rates.output, Some("18".parse().unwrap()));
        assert_eq!(gemini.left_out, ["input_audio"]);
        let deepseek = of(&imported, "deepseek-v4-pro").sheet;
        assert_eq!(deepseek.standard.rates.cache_read.unwrap().pico_per_token(), 3_625);
        assert_eq!(imported.prices.len(), 3);
    }

    #[test]
    fn what_a_sheet_cannot_say_is_skipped_with_its_reason() {
        let skipped = read(RECORDED).unwrap().skipped;
        let why = |name: &str| skipped.iter().find(|skipped| skipped.name == name).unwrap().why.as_str();
        assert_eq!(why("openai/whisper"), "it states no cost");
        assert!(why("openai/thinker").contains("reasoning at a price of its own"));
        assert!(why("openai/hourly").contains("something else than the context"));
        assert!(why("deepseek/preview").contains("every price is 0"));
        assert_eq!(skipped.len(), 4);
    }

    #[test]
    fn another_document_is_refused() {
        for text in ["[]", "{}", r#"{"a": {"litellm_provider": "x"}}"#, r#"{"a": {"models": {}}}"#] {
            assert!(matches!(read(text), Err(ImportError::NotCatalogue { .. })), "{text}");
        }
    }
}
