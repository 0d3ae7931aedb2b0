use domain::Price;

use super::*;
use crate::price::{Multiplier, ServiceTier, TierPrice};

fn vendor(prices: &str) -> Result<Vendor, CatalogueError> {
    read("x.toml", &format!("vendor = 'x'\nname = 'X'\n{prices}"))
}

fn steps(prices: &str) -> Vec<String> {
    let vendor = vendor(prices).unwrap();
    let step = |change: PriceChange| {
        let input = change.sheet.standard.rates.input_uncached;
        format!(
            "{} {}",
            change.valid_from.day(),
            input.map_or("unpriced".into(), |p| p.pico_per_token().to_string())
        )
    };
    changes(&vendor.prices).into_iter().map(step).collect()
}

#[test]
fn a_price_that_ends_is_followed_by_its_successor_or_by_nothing() {
    let first = "[[price]]\nmodel='m'\nsource=['s']\neffective='2026-01-01'\nuntil='2026-02-01'\ninput='1'\n";
    let next = "[[price]]\nmodel='m'\nsource=['s']\neffective='2026-02-01'\ninput='2'\n";
    assert_eq!(steps(first), ["2026-01-01 1000000", "2026-02-01 unpriced"]);
    assert_eq!(steps(&format!("{next}{first}")), ["2026-01-01 1000000", "2026-02-01 2000000"]);
}

#[test]
fn a_price_without_source_or_date_is_refused() {
    let refusal = |price: &str| vendor(price).unwrap_err().to_string();
    assert_eq!(
        refusal("[[price]]\nmodel='m'\nseen='2026-01-01'\ninput='1'"),
        "x.toml: the price of m has no source"
    );
    assert!(
        refusal("[[price]]\nmodel='m'\nsource=['s']\ninput='1'").contains("neither `effective` nor `seen`")
    );
    assert!(refusal("[[price]]\nmodel='m'\nprize='1'").contains("unknown field `prize`"));
}

/// The figures as the facts were recorded, kept by hand: vendor, model, prices, long tier, batch, dates, confidence.
const EXPECTED: &str = include_str!("catalogue_expected.csv");

#[test]
fn every_file_loads_and_its_numbers_are_those_that_were_recorded() {
    let listed: Vec<Listed> = shipped().unwrap().into_iter().flat_map(|vendor| vendor.prices).collect();
    let mut expected = csv::Reader::from_reader(EXPECTED.as_bytes());
    let mut rows = 0;
    for row in expected.records().map(Result::unwrap) {
        let [
            vendor,
            model,
            input,
            cached,
            write_5m,
            write_1h,
            output,
            above,
            long_input,
            long_output,
            batch,
            effective,
            seen,
            confidence,
        ] = std::array::from_fn(|column| row[column].to_owned());
        let price = |text: &str| (!text.is_empty()).then(|| text.parse::<Price>().unwrap());
        let date = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        let found = listed.iter().find(|listed| {
            let text = &listed.text;
            let is_model = text.provider.as_ref().unwrap().as_str() == vendor
                && [text.model.as_str(), text.listed_as.as_deref().unwrap_or("")].contains(&model.as_str());
            is_model && text.effective == date(&effective) && text.seen == date(&seen)
        });
        let Listed { text, sheet } =
            found.unwrap_or_else(|| panic!("{vendor} {model} is not in the catalogue"));
        let rates = sheet.standard.rates;
        let told = [
            rates.input_uncached,
            rates.cache_read,
            rates.cache_write_5m,
            rates.cache_write_1h,
            rates.output,
        ];
        assert_eq!(
            told,
            [&input, &cached, &write_5m, &write_1h, &output].map(|text| price(text)),
            "{vendor} {model}"
        );
        let long = sheet.standard.long.first();
        let told_long =
            long.map(|long| (long.above_input_tokens, long.rates.input_uncached, long.rates.output));
        let expected_long =
            above.parse().ok().map(|above: u64| (above, price(&long_input), price(&long_output)));
        assert_eq!(told_long, expected_long, "{vendor} {model}");
        let expected_batch = batch.parse::<Multiplier>().ok().map(TierPrice::Times);
        assert_eq!(sheet.tiers.get(&ServiceTier::Batch), expected_batch.as_ref(), "{vendor} {model}");
        assert_eq!(text.confidence.as_ref(), Some(&confidence), "{vendor} {model}");
        rows += 1;
    }
    // One price was announced beside those of the record: the end of an introductory one.
    assert_eq!((rows, listed.len()), (98, 99));
}

#[test]
fn the_files_in_the_folder_are_those_in_the_binary() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../catalogue/prices");
    let mut there: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, FILES.map(|(file, _)| file));
}

#[test]
fn an_introductory_price_gives_way_to_the_announced_one() {
    let google = shipped().unwrap().into_iter().find(|vendor| vendor.provider.as_str() == "google").unwrap();
    let steps: Vec<String> = changes(&google.prices)
        .into_iter()
        .filter(|change| change.model.as_str() == "google/gemini-3.8-flash")
        .map(|change| {
            format!(
                "{} {}",
                change.valid_from.day(),
                change.sheet.standard.rates.output.unwrap().of(1_000_000)
            )
        })
        .collect();
    assert_eq!(steps, ["2026-10-07 3.75", "2027-01-01 7.50"]);
}
