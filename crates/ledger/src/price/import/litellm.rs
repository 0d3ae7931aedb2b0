//! What does LiteLLM's `model_prices_and_context_window.json` say of each model?
//!
//! One object by model, `[provider/]model`; costs are USD a token as JSON numbers, and every combination of dimension,
//! context tier and service tier is a field name of its own, put together from suffixes. There are no dates.

use std::collections::BTreeMap;

use domain::{ModelName, Price};
use serde_json::{Map, Value};

use super::{ALL_ZERO, ImportError, Imported, ImportedPrice, Skipped, exact_json, is_all_zero, price};
use crate::price::{
    ContextTier, Multiplier, Provider, Rates, Region, Schedule, ServiceTier, Sheet, TierPrice,
};

/// Entries that are no models.
const NOT_MODELS: [&str; 2] = ["sample_spec", "fallback_generalizations"];

/// Modes whose usage is tokens.
const MODES: [&str; 4] = ["chat", "completion", "embedding", "responses"];

#[derive(Clone, Copy)]
enum Dimension {
    Input,
    CacheRead,
    CacheWrite5m,
    CacheWrite1h,
    Output,
}

/// The longer name first where one begins with another.
const DIMENSIONS: [(&str, Dimension); 5] = [
    ("input_cost_per_token", Dimension::Input),
    ("output_cost_per_token", Dimension::Output),
    ("cache_read_input_token_cost", Dimension::CacheRead),
    ("cache_creation_input_token_cost_above_1hr", Dimension::CacheWrite1h),
    ("cache_creation_input_token_cost", Dimension::CacheWrite5m),
];

const TIERS: [(&str, ServiceTier); 3] =
    [("_batches", ServiceTier::Batch), ("_flex", ServiceTier::Flex), ("_priority", ServiceTier::Priority)];

pub fn read(text: &str) -> Result<Imported, ImportError> {
    let not_catalogue = |why| ImportError::NotCatalogue { format: "LiteLLM", why };
    let Value::Object(models) = exact_json(text)? else {
        return Err(not_catalogue("the whole is not an object of models"));
    };
    let mut imported = Imported::default();
    for (name, entry) in models.iter().filter(|(name, _)| !NOT_MODELS.contains(&name.as_str())) {
        match entry.as_object().map(|entry| model(name, entry)) {
            Some(Ok(price)) => imported.prices.push(price),
            Some(Err(why)) => imported.skipped.push(Skipped { name: name.clone(), why }),
            None => return Err(not_catalogue("an entry is not an object")),
        }
    }
    if imported.prices.is_empty() {
        return Err(not_catalogue("no entry has a price that can be taken over"));
    }
    Ok(imported)
}

fn model(name: &str, entry: &Map<String, Value>) -> Result<ImportedPrice, String> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str);
    let provider = text("litellm_provider").ok_or("it names no litellm_provider")?;
    let mode = text("mode").unwrap_or("chat");
    if !MODES.contains(&mode) {
        return Err(format!("its mode is {mode}, which is not billed by tokens"));
    }
    let mut grid: BTreeMap<(ServiceTier, u64), Rates> = BTreeMap::new();
    let mut regions = BTreeMap::new();
    let mut left_out = Vec::new();
    for (field, value) in entry.iter().filter(|(_, value)| !value.is_null()) {
        if let Some(region) = field.strip_prefix("regional_processing_uplift_multiplier_") {
            let times = value.as_str().unwrap_or_default().parse::<Multiplier>();
            regions.insert(Region::from(region), Some(times.map_err(|error| format!("{field}: {error}"))?));
        } else if let Some((dimension, above, tier)) = cell(field) {
            let price = price(value, 12).map_err(|why| format!("{field}: {why}"))?;
            *place(grid.entry((tier, above)).or_default(), dimension) = price;
        } else if field == "output_cost_per_reasoning_token" {
            if entry.get("output_cost_per_token") != Some(value) {
                return Err("it bills reasoning at a price of its own, which a sheet cannot say".into());
            }
        } else if field.contains("cost") {
            left_out.push(field.clone());
        }
    }
    let sheet = sheet(grid, regions);
    if sheet.is_unpriced() {
        return Err("it states no price for tokens".into());
    }
    if is_all_zero(&sheet) {
        return Err(ALL_ZERO.into());
    }
    let model = name.strip_prefix(provider).and_then(|name| name.strip_prefix('/')).unwrap_or(name);
    Ok(ImportedPrice { provider: Provider::new(provider), model: ModelName::new(model), sheet, left_out })
}

/// Takes a field's name apart: its dimension, the input tokens that must be exceeded, its service tier. The suffixes come
/// in either order.
fn cell(field: &str) -> Option<(Dimension, u64, ServiceTier)> {
    let (mut rest, dimension) =
        DIMENSIONS.iter().find_map(|(name, dimension)| Some((field.strip_prefix(name)?, *dimension)))?;
    let (mut above, mut tier) = (0, ServiceTier::Standard);
    while !rest.is_empty() {
        if let Some((after, found)) =
            TIERS.iter().find_map(|(name, tier)| Some((rest.strip_prefix(name)?, *tier)))
        {
            (rest, tier) = (after, found);
        } else {
            let (thousands, after) = rest.strip_prefix("_above_")?.split_once("k_tokens")?;
            above = thousands.parse::<u64>().ok()?.checked_mul(1_000)?;
            rest = after;
        }
    }
    Some((dimension, above, tier))
}

fn place(rates: &mut Rates, dimension: Dimension) -> &mut Option<Price> {
    match dimension {
        Dimension::Input => &mut rates.input_uncached,
        Dimension::CacheRead => &mut rates.cache_read,
        Dimension::CacheWrite5m => &mut rates.cache_write_5m,
        Dimension::CacheWrite1h => &mut rates.cache_write_1h,
        Dimension::Output => &mut rates.output,
    }
}

fn sheet(grid: BTreeMap<(ServiceTier, u64), Rates>, regions: BTreeMap<Region, Option<Multiplier>>) -> Sheet {
    let mut sheet = Sheet { regions, ..Sheet::default() };
    let mut schedules: BTreeMap<ServiceTier, Schedule> = BTreeMap::new();
    // In the order of the keys, so that the tiers of each schedule ascend.
    for ((tier, above_input_tokens), rates) in grid {
        let schedule = schedules.entry(tier).or_default();
        match above_input_tokens {
            0 => schedule.rates = rates,
            _ => schedule.long.push(ContextTier { above_input_tokens, rates }),
        }
    }
    sheet.standard = schedules.remove(&ServiceTier::Standard).unwrap_or_default();
    sheet.tiers = schedules.into_iter().map(|(tier, own)| (tier, TierPrice::Own(own))).collect();
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("litellm_recorded.json");

    fn of(imported: &Imported, model: &str) -> ImportedPrice {
        imported.prices.iter().find(|price| price.model.as_str() == model).unwrap().clone()
    }
    fn per_million(price: Option<Price>) -> String {
        price.map_or("-".into(), |price| price.of(1_000_000).to_string())
    }

    #[test]
    fn suffixes_become_context_and_service_tiers() {
        let imported = read(RECORDED).unwrap();
        let ImportedPrice { provider, sheet, left_out, .. } = of(&imported, "gpt-5.6-sol");
        assert_eq!(provider.as_str(), "openai");
        assert_eq!(per_million(sheet.standard.rates.input_uncached), "5.00");
        assert_eq!(per_million(sheet.standard.rates.cache_read), "0.50");
        assert_eq!(sheet.standard.long[0].above_input_tokens, 272_000);
        assert_eq!(per_million(sheet.standard.long[0].rates.output), "45.00");
        let TierPrice::Own(priority) = &sheet.tiers[&ServiceTier::Priority] else { panic!("{sheet:?}") };
        assert_eq!(per_million(priority.rates.output), "60.00");
        assert_eq!(per_million(priority.long[0].rates.cache_read), "2.00");
        let TierPrice::Own(batch) = &sheet.tiers[&ServiceTier::Batch] else { panic!("{sheet:?}") };
        assert_eq!(per_million(batch.rates.input_uncached), "2.50");
        let TierPrice::Own(flex) = &sheet.tiers[&ServiceTier::Flex] else { panic!("{sheet:?}") };
        assert_eq!(per_million(flex.long[0].rates.input_uncached), "5.00");
        assert_eq!(sheet.regions[&Region::from("eu")], Some("1.1".parse().unwrap()));
        assert_eq!(left_out, ["search_context_cost_per_query"]);
    }

    #[test]
    fn both_lifetimes_of_a_cache_have_their_price() {
        let sheet = of(&read(RECORDED).unwrap(), "claude-sonnet-5").sheet;
        assert_eq!(per_million(sheet.standard.rates.cache_write_5m), "2.50");
        assert_eq!(per_million(sheet.standard.rates.cache_write_1h), "4.00");
        assert_eq!(per_million(sheet.standard.long[0].rates.cache_write_1h), "8.00");
    }

    #[test]
    fn exponents_are_exact_and_the_provider_is_not_repeated_in_the_name() {
        let imported = read(RECORDED).unwrap();
        let price = of(&imported, "deepseek-v4-flash");
        assert_eq!(price.provider.as_str(), "deepseek");
        assert_eq!(price.sheet.standard.rates.cache_read.unwrap().pico_per_token(), 2_800);
        assert_eq!(price.sheet.standard.rates.input_uncached.unwrap().pico_per_token(), 140_000);
    }

    #[test]
    fn what_cannot_be_kept_exactly_or_means_nothing_is_skipped_with_its_reason() {
        let skipped = read(RECORDED).unwrap().skipped;
        let why = |name: &str| skipped.iter().find(|skipped| skipped.name == name).unwrap().why.clone();
        assert!(why("whisper-1").contains("mode is audio_transcription"));
        assert!(why("ollama/llama3").contains("every price is 0"));
        assert!(why("fuzzy-model").contains("1.9999999999999999e-07 cannot be kept exactly"));
        assert!(why("thinker").contains("reasoning at a price of its own"));
        assert!(why("free-form").contains("no price for tokens"));
        assert_eq!(skipped.len(), 5);
    }

    #[test]
    fn another_document_is_refused() {
        for text in ["[]", "{}", r#"{"a": 1}"#, r#"{"a": {"litellm_provider": "x"}}"#] {
            assert!(matches!(read(text), Err(ImportError::NotCatalogue { .. })), "{text}");
        }
    }
}
