//! Which rows does a FinOps tool read? FOCUS 1.2 (FinOps Open Cost and Usage Specification, 29 May 2025): the columns that it
//! makes mandatory, the conditional ones that apply, and our own with `x_` behind them.
//!
//! One row for each day, account, model, price version, tier and *meter*: a meter is a dimension of usage, so that quantity
//! times unit price is cost. Where tiers multiply a price, each request was rounded up to a picodollar, and the row with the
//! largest cost carries what that came to, so that the rows of a charge sum to what the ledger has booked. Use without a price
//! is no charge and has no row; [`rows`] returns how much was left out.
//!
//! The specification has no place for what was not used. An answer that was given again has rows of no quantity and no cost,
//! so that every sum of the standard's columns stays true, with what it saved in `x_SavedQuantity` and `x_SavedCost`.

use std::collections::HashMap;

use ::parquet::errors::ParquetError;
use domain::{Money, Price, Usage};
use serde_json::json;

use super::parquet::{Datum, Kind, file};
use super::{ChargeRow, Month, Used};
use crate::price::{Quote, Rates, Sheet};
use crate::{PriceId, PriceVersion, Timestamp};

pub const FOCUS_VERSION: &str = "1.2";

/// Decimals of every number: enough for the price of one token at a discount.
const SCALE: i32 = 18;
const PER_PICO: i128 = 1_000_000;
const PER_ONE: i128 = 1_000_000_000_000_000_000;

/// One row, by the columns of FOCUS, in their order.
pub type FocusRow = Vec<Datum>;

/// Who charges, and under which number.
#[derive(Clone, Debug, Default)]
pub struct Issuer {
    pub name: String,
    /// The closed month's, where it is closed.
    pub invoice: Option<String>,
}

/// A dimension of usage as an invoice names it.
struct Meter {
    name: &'static str,
    unit: &'static str,
    quantity: fn(&Usage) -> u64,
    rate: fn(&Rates) -> Option<Price>,
}

const METERS: [Meter; 5] = [
    Meter {
        name: "Input Tokens",
        unit: "Tokens",
        quantity: |usage| usage.input_uncached,
        rate: |rates| rates.input_uncached,
    },
    Meter {
        name: "Cached Input Tokens",
        unit: "Tokens",
        quantity: |usage| usage.cache_read,
        rate: |rates| rates.cache_read,
    },
    Meter {
        name: "Cache Write Tokens (5 Minutes)",
        unit: "Tokens",
        quantity: |usage| usage.cache_write_5m,
        rate: |rates| rates.cache_write_5m,
    },
    Meter {
        name: "Cache Write Tokens (1 Hour)",
        unit: "Tokens",
        quantity: |usage| usage.cache_write_1h,
        rate: |rates| rates.cache_write_1h,
    },
    Meter {
        name: "Output Tokens",
        unit: "Tokens",
        quantity: |usage| usage.output,
        rate: |rates| rates.output,
    },
];

/// Returns the names and kinds of all columns, those of the specification first.
pub fn columns() -> Vec<(String, Kind)> {
    let decimal = Kind::Decimal(SCALE);
    [
        ("BilledCost", decimal),
        ("BillingAccountId", Kind::Text),
        ("BillingAccountName", Kind::Text),
        ("BillingCurrency", Kind::Text),
        ("BillingPeriodEnd", Kind::Instant),
        ("BillingPeriodStart", Kind::Instant),
        ("ChargeCategory", Kind::Text),
        ("ChargeClass", Kind::Text),
        ("ChargeDescription", Kind::Text),
        ("ChargeFrequency", Kind::Text),
        ("ChargePeriodEnd", Kind::Instant),
        ("ChargePeriodStart", Kind::Instant),
        ("ConsumedQuantity", decimal),
        ("ConsumedUnit", Kind::Text),
        ("ContractedCost", decimal),
        ("ContractedUnitPrice", decimal),
        ("EffectiveCost", decimal),
        ("InvoiceId", Kind::Text),
        ("InvoiceIssuerName", Kind::Text),
        ("ListCost", decimal),
        ("ListUnitPrice", decimal),
        ("PricingCategory", Kind::Text),
        ("PricingCurrency", Kind::Text),
        ("PricingQuantity", decimal),
        ("PricingUnit", Kind::Text),
        ("ProviderName", Kind::Text),
        ("PublisherName", Kind::Text),
        ("RegionId", Kind::Text),
        ("RegionName", Kind::Text),
        ("ResourceId", Kind::Text),
        ("ResourceName", Kind::Text),
        ("ResourceType", Kind::Text),
        ("ServiceCategory", Kind::Text),
        ("ServiceName", Kind::Text),
        ("ServiceSubcategory", Kind::Text),
        ("SkuId", Kind::Text),
        ("SkuMeter", Kind::Text),
        ("SkuPriceDetails", Kind::Text),
        ("SkuPriceId", Kind::Text),
        ("SubAccountId", Kind::Text),
        ("SubAccountName", Kind::Text),
        ("SubAccountType", Kind::Text),
        ("Tags", Kind::Text),
        ("x_ContextTier", Kind::Count),
        ("x_CostCentre", Kind::Text),
        ("x_IsEstimated", Kind::Text),
        ("x_Requests", Kind::Count),
        ("x_SavedCost", decimal),
        ("x_SavedQuantity", decimal),
        ("x_ServiceTier", Kind::Text),
    ]
    .map(|(name, kind)| (name.to_owned(), kind))
    .to_vec()
}

/// Returns the rows of these charges, and what is in none of them because it has no price.
pub fn rows(charges: &[ChargeRow], prices: &[PriceVersion], issuer: &Issuer) -> (Vec<FocusRow>, Used) {
    let sheets: HashMap<PriceId, &Sheet> =
        prices.iter().map(|version| (version.id, &version.sheet)).collect();
    let (mut rows, mut left_out) = (Vec::new(), Used::default());
    for charge in charges {
        match charge.price.and_then(|price| Some((price, *sheets.get(&price)?))) {
            Some((price, sheet)) => rows.extend(charge_rows(charge, price, sheet, issuer)),
            None if charge.is_saved => {}
            None => left_out = left_out.and(&charge.used),
        }
    }
    (rows, left_out)
}

/// Returns the rows as CSV: decimals and instants as the specification writes them, nothing as an empty cell.
pub fn csv(rows: &[FocusRow]) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(columns().iter().map(|(name, _)| name)).expect("a vector takes every line");
    for row in rows {
        writer.write_record(row.iter().map(text)).expect("a vector takes every line");
    }
    String::from_utf8(writer.into_inner().expect("a vector needs no flush")).expect("cells are text")
}

/// Returns the rows as Parquet.
pub fn parquet(rows: &[FocusRow]) -> Result<Vec<u8>, ParquetError> {
    file(&columns(), rows)
}

/// What one meter of a charge comes to.
struct Line {
    meter: &'static str,
    unit: &'static str,
    quantity: i128,
    /// In units of 10⁻¹⁸ USD.
    unit_price: i128,
    list: i128,
}

fn charge_rows(charge: &ChargeRow, price: PriceId, sheet: &Sheet, issuer: &Issuer) -> Vec<FocusRow> {
    let lines = lines(charge, sheet);
    let booked = charge.used.cost.pico() * PER_PICO;
    let rounding = booked - lines.iter().map(|line| line.list).sum::<i128>();
    let largest = (0..lines.len()).max_by_key(|&index| lines[index].list);
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| {
            let billed = line.list + if Some(index) == largest { rounding } else { 0 };
            row(charge, price, line, billed, issuer)
        })
        .collect()
}

fn lines(charge: &ChargeRow, sheet: &Sheet) -> Vec<Line> {
    let Used { requests, usage, .. } = charge.used;
    // Any length inside the tier stands for all: they were summed by tier.
    let input = if charge.above_input_tokens == 0 { 0 } else { charge.above_input_tokens + 1 };
    let quote = sheet.quote(input, &charge.circumstances);
    let mut lines = Vec::new();
    for meter in &METERS {
        let quantity = i128::from((meter.quantity)(&usage));
        let Some(unit_price) = unit_price(&quote, (meter.rate)(&quote.rates)).filter(|_| quantity > 0) else {
            continue;
        };
        let (quantity, list) = (quantity * PER_ONE, quantity.saturating_mul(unit_price));
        lines.push(Line { meter: meter.name, unit: meter.unit, quantity, unit_price, list });
    }
    if let Some(hour) = sheet.compute_hour.filter(|_| usage.compute_us > 0) {
        let quantity = i128::from(usage.compute_us) * PER_ONE / 3_600_000_000;
        let list = i128::from(hour.pico()) * i128::from(usage.compute_us) / 3_600;
        lines.push(Line {
            meter: "Machine Hours",
            unit: "Hours",
            quantity,
            unit_price: i128::from(hour.pico()) * PER_PICO,
            list,
        });
    }
    if let Some(fee) = sheet.request {
        let unit_price = i128::from(fee.pico()) * PER_PICO;
        let list = unit_price * i128::from(requests);
        lines.push(Line {
            meter: "Requests",
            unit: "Requests",
            quantity: i128::from(requests) * PER_ONE,
            unit_price,
            list,
        });
    }
    lines
}

/// Returns the price of one token with its multipliers, exactly: both have at most six decimals, and are rarely used at once.
fn unit_price(quote: &Quote, rate: Option<Price>) -> Option<i128> {
    let [tier, region] = quote.multipliers?;
    let pico = i128::from(rate?.pico_per_token());
    let joined = i128::from(tier.millionths()) * i128::from(region.millionths());
    Some(pico.saturating_mul(joined) / 1_000_000)
}

fn row(charge: &ChargeRow, price: PriceId, line: &Line, billed: i128, issuer: &Issuer) -> FocusRow {
    let ChargeRow { day, account, circumstances, model, .. } = charge;
    let month = Month::of(*day);
    let some = |text: &str| Datum::Text(text.to_owned());
    let maybe = |text: Option<&str>| text.map_or(Datum::Nothing, some);
    let path = account.as_str();
    let organisation = path.split('/').next().unwrap_or(path);
    let provider = if circumstances.provider.is_local() {
        issuer.name.as_str()
    } else {
        circumstances.provider.as_str()
    };
    let tier = circumstances.service_tier.name();
    let region = circumstances.region.as_ref().map(|region| region.as_str());
    let sku = format!("{}/{model}/{}", circumstances.provider, line.meter);
    let place = region.map(|region| format!("/{region}")).unwrap_or_default();
    let sku_price = format!("{sku}/v{}/{tier}/{}{place}", price.0, charge.above_input_tokens);
    let details = json!({
        "x_ContextTier": charge.above_input_tokens,
        "x_PriceVersion": price.0,
        "x_ServiceTier": tier,
    });
    let tags = charge.cost_centre.as_ref().map(|centre| json!({ "cost_centre": centre }).to_string());
    let saved = charge.is_saved.then_some((billed, line.quantity));
    let (billed, quantity, list) =
        if charge.is_saved { (0, 0, 0) } else { (billed, line.quantity, line.list) };
    let again = if charge.is_saved { ", given again" } else { "" };
    let day_end = Timestamp::from_millis(day.millis() + 86_400_000);
    vec![
        Datum::Decimal(billed),
        some(organisation),
        some(organisation),
        some("USD"),
        Datum::Instant(month.end().millis()),
        Datum::Instant(month.start().millis()),
        some("Usage"),
        Datum::Nothing,
        some(&format!("{} of {model}, {tier}{again}", line.meter)),
        some("Usage-Based"),
        Datum::Instant(day_end.millis()),
        Datum::Instant(day.millis()),
        Datum::Decimal(quantity),
        some(line.unit),
        Datum::Decimal(list),
        Datum::Decimal(line.unit_price),
        Datum::Decimal(billed),
        maybe(issuer.invoice.as_deref()),
        some(&issuer.name),
        Datum::Decimal(list),
        Datum::Decimal(line.unit_price),
        some("Standard"),
        some("USD"),
        Datum::Decimal(quantity),
        some(line.unit),
        some(provider),
        some(provider),
        maybe(region),
        maybe(region),
        some(model),
        some(model),
        some("Model"),
        some("AI and Machine Learning"),
        some("Model Inference"),
        some("Generative AI"),
        some(&sku),
        some(line.meter),
        some(&details.to_string()),
        some(&sku_price),
        some(path),
        some(path),
        some("Account"),
        maybe(tags.as_deref()),
        Datum::Count(i64::try_from(charge.above_input_tokens).unwrap_or(i64::MAX)),
        maybe(charge.cost_centre.as_deref()),
        some(if charge.is_estimated { "true" } else { "false" }),
        Datum::Count(i64::try_from(charge.used.requests).unwrap_or(i64::MAX)),
        saved.map_or(Datum::Nothing, |(worth, _)| Datum::Decimal(worth)),
        saved.map_or(Datum::Nothing, |(_, quantity)| Datum::Decimal(quantity)),
        some(tier),
    ]
}

fn text(datum: &Datum) -> String {
    match datum {
        Datum::Nothing => String::new(),
        Datum::Text(text) => text.clone(),
        Datum::Count(count) => count.to_string(),
        Datum::Decimal(value) => decimal(*value),
        Datum::Instant(millis) => {
            let at = Timestamp::from_millis(*millis).to_string();
            // To the second, as the specification has it.
            format!("{}Z", at.split('.').next().unwrap_or(&at))
        }
    }
}

/// `0.000000027`, `12`, `-0.5`
fn decimal(value: i128) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (value.unsigned_abs() / PER_ONE as u128, value.unsigned_abs() % PER_ONE as u128);
    let digits = format!("{fraction:018}");
    match digits.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        digits => format!("{sign}{whole}.{digits}"),
    }
}

/// Returns what the rows bill in all.
pub fn billed(rows: &[FocusRow]) -> Money {
    let sum: i128 = rows.iter().map(|row| if let Datum::Decimal(billed) = row[0] { billed } else { 0 }).sum();
    Money::from_pico(sum / PER_PICO)
}

#[cfg(test)]
#[path = "focus_tests.rs"]
mod tests;
