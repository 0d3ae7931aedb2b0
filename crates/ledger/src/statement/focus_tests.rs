use super::*;
use crate::price::{Circumstances, ContextTier, Region, ServiceTier, TierPrice};

/// The columns of FOCUS 1.2 that a row of ours has or must have: name, feature level, whether it may be null.
const SPECIFICATION: &str = "\
BilledCost Mandatory no
BillingAccountId Mandatory no
BillingAccountName Mandatory yes
BillingCurrency Mandatory no
BillingPeriodEnd Mandatory no
BillingPeriodStart Mandatory no
ChargeCategory Mandatory no
ChargeClass Mandatory yes
ChargeDescription Mandatory yes
ChargeFrequency Recommended no
ChargePeriodEnd Mandatory no
ChargePeriodStart Mandatory no
ConsumedQuantity Conditional usage
ConsumedUnit Conditional usage
ContractedCost Mandatory no
ContractedUnitPrice Conditional usage
EffectiveCost Mandatory no
InvoiceId Recommended yes
InvoiceIssuerName Mandatory no
ListCost Mandatory no
ListUnitPrice Conditional usage
PricingCategory Conditional usage
PricingCurrency Conditional yes
PricingQuantity Mandatory usage
PricingUnit Mandatory usage
ProviderName Mandatory no
PublisherName Mandatory no
RegionId Conditional yes
RegionName Conditional yes
ResourceId Conditional yes
ResourceName Conditional yes
ResourceType Conditional yes
ServiceCategory Mandatory no
ServiceName Mandatory no
ServiceSubcategory Recommended no
SkuId Conditional usage
SkuMeter Conditional usage
SkuPriceDetails Conditional yes
SkuPriceId Conditional usage
SubAccountId Conditional yes
SubAccountName Conditional yes
SubAccountType Conditional yes
Tags Conditional yes";

fn version(sheet: Sheet) -> PriceVersion {
    PriceVersion { id: PriceId(7), model: "openai/m".into(), sheet, valid_from: Timestamp::from_millis(0) }
}

/// Two requests of one day, at half the price, in a region that costs a tenth more, above a context tier.
fn charge() -> (ChargeRow, PriceVersion) {
    let price = |usd: &str| usd.parse().unwrap();
    let mut sheet = Sheet::per_token(price("1"), price("0.1"), price("4"));
    let long = Rates {
        input_uncached: Some(price("2.000001")),
        cache_read: Some(price("0.2")),
        output: Some(price("6")),
        ..Rates::default()
    };
    sheet.standard.long = vec![ContextTier { above_input_tokens: 200_000, rates: long }];
    sheet.tiers.insert(ServiceTier::Batch, TierPrice::Times("0.5".parse().unwrap()));
    sheet.regions.insert(Region::from("eu"), Some("1.1".parse().unwrap()));
    let circumstances = Circumstances {
        provider: "openai".into(),
        service_tier: ServiceTier::Batch,
        region: Some("eu".into()),
    };
    let usage = Usage { input_uncached: 250_001, cache_read: 10, output: 33, ..Usage::default() };
    let cost: Money = [usage, usage].iter().map(|usage| sheet.cost(usage, &circumstances).unwrap()).sum();
    let one = Used { requests: 1, usage, cost: Money::ZERO };
    let used = Used { cost, ..one.and(&one) };
    let row = ChargeRow {
        day: "2026-10".parse::<Month>().unwrap().start(),
        account: "acme/research/alice".into(),
        cost_centre: Some("K-7".into()),
        model: "m".into(),
        circumstances,
        price: Some(PriceId(7)),
        above_input_tokens: 200_000,
        is_estimated: false,
        is_saved: false,
        used,
    };
    (row, version(sheet))
}

fn issuer() -> Issuer {
    Issuer { name: "Acme IT".into(), invoice: None }
}

fn cell<'r>(row: &'r FocusRow, name: &str) -> &'r Datum {
    &row[columns()
        .iter()
        .position(|(column, _)| column == name)
        .unwrap_or_else(|| panic!("no column {name}"))]
}

#[test]
fn every_column_of_the_specification_is_there_in_order_and_ours_come_after() {
    let names: Vec<String> = columns().into_iter().map(|(name, _)| name).collect();
    let specified: Vec<&str> = SPECIFICATION.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names[..specified.len()], specified);
    assert!(names[specified.len()..].iter().all(|name| name.starts_with("x_")), "{names:?}");
}

#[test]
fn nothing_is_null_that_must_not_be() {
    let (charge, version) = charge();
    let mut machine = version.clone();
    machine.sheet = Sheet::per_compute_hour("2.69".parse().unwrap());
    machine.sheet.request = Some("0.01".parse().unwrap());
    let mut timed = charge.clone();
    timed.used.usage.compute_us = 1_500_000;
    let (mut rows, left_out) = rows(&[charge], &[version], &issuer());
    rows.extend(super::rows(&[timed], &[machine], &issuer()).0);
    assert!(left_out.is_nothing());
    assert_eq!(rows.len(), 3 + 2, "three meters of tokens; then hours and requests");
    for row in &rows {
        for line in SPECIFICATION.lines() {
            let [name, _, nullable]: [&str; 3] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            // "usage": null only for charges that are not usage, which all of ours are.
            assert!(nullable == "yes" || *cell(row, name) != Datum::Nothing, "{name} is null");
        }
        assert_eq!(*cell(row, "ChargeCategory"), Datum::Text("Usage".into()));
        assert_eq!(*cell(row, "ChargeFrequency"), Datum::Text("Usage-Based".into()));
        assert_eq!(*cell(row, "PricingCategory"), Datum::Text("Standard".into()));
        assert_eq!(*cell(row, "ServiceCategory"), Datum::Text("AI and Machine Learning".into()));
        assert_eq!(*cell(row, "ServiceSubcategory"), Datum::Text("Generative AI".into()));
    }
}

#[test]
fn quantity_times_unit_price_is_list_cost_and_the_rows_bill_what_is_booked() {
    let (charge, version) = charge();
    let booked = charge.used.cost;
    let (rows, _) = rows(&[charge], &[version], &issuer());
    for row in &rows {
        let [quantity, price, list] =
            ["PricingQuantity", "ListUnitPrice", "ListCost"].map(|name| match cell(row, name) {
                Datum::Decimal(value) => *value,
                other => panic!("{other:?}"),
            });
        assert_eq!(quantity / PER_ONE * price, list);
    }
    assert_eq!(billed(&rows), booked);
}

#[test]
fn what_was_saved_changes_no_sum_of_the_standards_columns() {
    let (mut charge, version) = charge();
    charge.is_saved = true;
    let worth = charge.used.cost;
    let (rows, left_out) = rows(&[charge], &[version], &issuer());
    assert!(left_out.is_nothing() && rows.len() == 3);
    for name in
        ["BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ConsumedQuantity", "PricingQuantity"]
    {
        assert!(rows.iter().all(|row| *cell(row, name) == Datum::Decimal(0)), "{name}");
    }
    let saved = rows.iter().map(|row| match cell(row, "x_SavedCost") {
        Datum::Decimal(value) => *value,
        other => panic!("{other:?}"),
    });
    assert_eq!(saved.sum::<i128>(), worth.pico() * PER_PICO);
}

#[test]
fn unpriced_use_has_no_row_and_is_told() {
    let (mut charge, version) = charge();
    charge.price = None;
    let (rows, left_out) = rows(&[charge], &[version], &issuer());
    assert_eq!((rows.len(), left_out.requests), (0, 2));
}

#[test]
fn csv_writes_decimals_and_instants_as_the_specification_has_them() {
    let (charge, version) = charge();
    let (rows, _) = rows(&[charge], &[version], &issuer());
    let text = csv(&rows);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let first = reader.records().next().unwrap().unwrap();
    let cell = |name: &str| first[names.iter().position(|column| column == name).unwrap()].to_owned();
    assert_eq!(cell("ChargePeriodStart"), "2026-10-01T00:00:00Z");
    assert_eq!(cell("BillingPeriodEnd"), "2026-11-01T00:00:00Z");
    // 2.000001 USD a million, × 0.5 × 1.1.
    assert_eq!(cell("ListUnitPrice"), "0.00000110000055");
    assert_eq!(cell("PricingQuantity"), "500002");
    assert_eq!(cell("SkuPriceId"), "openai/m/Input Tokens/v7/batch/200000/eu");
    assert_eq!(cell("ChargeClass"), "");
    assert_eq!(cell("Tags"), r#"{"cost_centre":"K-7"}"#);
}

#[test]
fn the_parquet_file_holds_as_many_rows_and_columns() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    let (charge, version) = charge();
    let (rows, _) = rows(&[charge], &[version], &issuer());
    let reader = SerializedFileReader::new(bytes::Bytes::from(parquet(&rows).unwrap())).unwrap();
    let file = reader.metadata().file_metadata();
    assert_eq!((file.num_rows(), file.schema_descr().num_columns()), (3, columns().len()));
}
