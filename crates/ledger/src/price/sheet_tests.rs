use proptest::prelude::*;

use super::*;

fn price(usd_per_million: &str) -> Price {
    usd_per_million.parse().unwrap()
}

fn pico(price: u64) -> Option<Price> {
    Some(Price::from_pico_per_token(price))
}

fn at_tier(service_tier: ServiceTier) -> Circumstances {
    Circumstances { service_tier, ..Circumstances::default() }
}

fn in_region(region: &str) -> Circumstances {
    Circumstances { region: Some(region.into()), ..Circumstances::default() }
}

fn used(input_uncached: u64, cache_read: u64, output: u64) -> Usage {
    Usage { input_uncached, cache_read, output, ..Usage::default() }
}

/// A price as vendors publish it: long inputs, batch, priority, a regional surcharge.
fn published() -> Sheet {
    let long = Rates {
        input_uncached: Some(price("20")),
        cache_read: None,
        output: Some(price("75")),
        ..Rates::default()
    };
    let mut sheet = Sheet::per_token(price("10"), price("1"), price("50"));
    sheet.standard.long = vec![ContextTier { above_input_tokens: 272_000, rates: long }];
    sheet.tiers.insert(ServiceTier::Batch, TierPrice::Times("0.5".parse().unwrap()));
    sheet.regions.insert("eu".into(), Some("1.1".parse().unwrap()));
    sheet.regions.insert("moon".into(), None);
    sheet
}

#[track_caller]
fn check(sheet: &Sheet, usage: Usage, circumstances: Circumstances, expect: &str) {
    let cost = sheet.cost(&usage, &circumstances);
    assert_eq!(cost.map_or("unpriced".to_owned(), |cost| cost.to_string()), expect);
    assert_eq!(sheet.parts(&usage, &circumstances).map(|parts| parts.total()), cost);
}

#[test]
fn cached_tokens_cost_their_own_price() {
    let sheet = Sheet::per_token(price("1"), price("0.1"), price("4"));
    let usage = Usage { reasoning: 8, ..used(100, 900, 10) };
    check(&sheet, usage, Circumstances::default(), "0.00023");
}

#[test]
fn tokens_without_a_price_leave_the_whole_unpriced() {
    let sheet = Sheet::per_token(price("1"), price("0.1"), price("4"));
    let written = Usage { cache_write_5m: 1, ..Usage::default() };
    check(&sheet, written, Circumstances::default(), "unpriced");
    check(&sheet, Usage::default(), Circumstances::default(), "0.00");
    check(&Sheet::unpriced(), Usage::default(), Circumstances::default(), "unpriced");
}

#[test]
fn an_input_above_the_threshold_prices_the_whole_request() {
    check(&published(), used(272_000, 0, 1_000), Circumstances::default(), "2.77");
    check(&published(), used(272_001, 0, 1_000), Circumstances::default(), "5.51502");
    // Cached tokens count towards the length, and have no long price here: nobody stated one.
    check(&published(), used(1, 272_000, 0), Circumstances::default(), "unpriced");
}

#[test]
fn a_tier_or_region_that_nobody_priced_is_unpriced() {
    let tokens = used(1_000_000, 0, 0);
    check(&published(), used(100_000, 0, 0), at_tier(ServiceTier::Batch), "0.50");
    check(&published(), tokens, at_tier(ServiceTier::Priority), "unpriced");
    check(&published(), used(100_000, 0, 0), in_region("eu"), "1.10");
    check(&published(), used(100_000, 0, 0), in_region("moon"), "unpriced");
    check(&published(), used(100_000, 0, 0), in_region("us"), "unpriced");
    let mut anywhere = published();
    anywhere.regions.insert(Sheet::ANY_REGION.into(), Some("2".parse().unwrap()));
    check(&anywhere, used(100_000, 0, 0), in_region("us"), "2.00");
    check(&anywhere, used(100_000, 0, 0), in_region("eu"), "1.10");
    check(&anywhere, used(100_000, 0, 0), Circumstances::default(), "1.00");
}

#[test]
fn multipliers_join_before_the_one_rounding_and_it_goes_up() {
    let mut sheet = published();
    sheet.standard.rates.input_uncached = pico(3);
    let eu_batch = Circumstances { service_tier: ServiceTier::Batch, ..in_region("eu") };
    // 3 × 0.5 × 1.1 = 1.65 picodollars a token: 2 for one, 33 for twenty.
    check(&sheet, used(1, 0, 0), eu_batch.clone(), "0.000000000002");
    check(&sheet, used(20, 0, 0), eu_batch, "0.000000000033");
}

#[test]
fn machine_time_is_priced_by_the_hour_it_is_rented_by() {
    let sheet = Sheet::per_compute_hour("2.69".parse().unwrap());
    let seconds = |seconds: u64| Usage { compute_us: seconds * 1_000_000, ..used(1_000, 500, 10) };
    check(&sheet, seconds(3_600), Circumstances::default(), "2.69");
    // 2.69 / 3600 does not divide: rounded up to the next picodollar.
    check(&sheet, seconds(1), Circumstances::default(), "0.000747222223");
    let per_token = Sheet::per_token(price("1"), price("1"), price("1"));
    check(&per_token, seconds(3_600), Circumstances::default(), "0.00151");
}

#[test]
fn a_request_fee_is_owed_once_for_any_use() {
    let fee = Sheet {
        request: Some("0.01".parse().unwrap()),
        ..Sheet::per_token(price("1"), price("1"), price("1"))
    };
    check(&fee, used(1_000_000, 0, 0), Circumstances::default(), "1.01");
    check(&fee, Usage::default(), Circumstances::default(), "0.00");
}

#[test]
fn a_sheet_comes_back_from_its_text_and_equal_sheets_have_equal_texts() {
    let sheet = published();
    assert_eq!(Sheet::from_text(&sheet.to_text()), Ok(sheet));
    assert_eq!(Sheet::unpriced().to_text(), r#"{"standard":{"rates":{}}}"#);
    let text = Sheet::per_token(price("1"), price("0.1"), price("4")).to_text();
    assert_eq!(
        text,
        r#"{"standard":{"rates":{"input_uncached":1000000,"cache_read":100000,"output":4000000}}}"#
    );
    assert!(Sheet::from_text(r#"{"standard":{"rates":{"imput":1}}}"#).is_err());
}

#[test]
fn what_no_entry_can_hold_saturates_instead_of_wrapping() {
    let mut sheet = published();
    sheet.standard.rates.input_uncached = pico(u64::MAX);
    sheet.standard.long.clear();
    sheet.tiers.insert(ServiceTier::Priority, TierPrice::Times(Multiplier::from_millionths(u32::MAX)));
    for circumstances in [Circumstances::default(), at_tier(ServiceTier::Priority), in_region("eu")] {
        let cost = sheet.cost(&used(u64::MAX, 0, 0), &circumstances).unwrap();
        assert_eq!(cost.entry_pico(), None);
    }
}

#[test]
fn multipliers_print_as_they_are_read() {
    for text in ["0.5", "1.1", "2", "0", "0.000001", "1000"] {
        assert_eq!(text.parse::<Multiplier>().unwrap().to_string(), text);
    }
    for wrong in ["-1", "1001", "0.0000001", "half", ""] {
        assert!(wrong.parse::<Multiplier>().is_err(), "{wrong:?}");
    }
}

fn some_usage() -> impl Strategy<Value = Usage> {
    let tokens = || prop_oneof![3 => 0..5_000_u64, 1 => 100_000..1_000_000_u64];
    (tokens(), tokens(), tokens(), tokens(), tokens(), 0..10_000_000_u64).prop_map(
        |(input_uncached, cache_read, cache_write_5m, cache_write_1h, output, compute_us)| Usage {
            input_uncached,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning: 0,
            compute_us,
        },
    )
}

fn some_rates() -> impl Strategy<Value = Rates> {
    let rate = || (0..50_000_000_u64).prop_map(pico);
    (rate(), rate(), rate(), rate(), rate()).prop_map(
        |(input_uncached, cache_read, cache_write_5m, cache_write_1h, output)| Rates {
            input_uncached,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            output,
        },
    )
}

/// Long rates that are nowhere below the short ones, discounts of at most everything: what `check` accepts.
fn some_sheet() -> impl Strategy<Value = Sheet> {
    let extras = (0..=1_000_000_u32, 1_000_000..3_000_000_u32, 0..10_000_000_000_000_u64);
    (some_rates(), some_rates(), 1_000..300_000_u64, extras).prop_map(
        |(rates, more, above_input_tokens, (batch, region, hour))| {
            let sum = |a: Option<Price>, b: Option<Price>| {
                pico(a.unwrap().pico_per_token() + b.unwrap().pico_per_token())
            };
            let long = Rates {
                input_uncached: sum(rates.input_uncached, more.input_uncached),
                cache_read: sum(rates.cache_read, more.cache_read),
                cache_write_5m: sum(rates.cache_write_5m, more.cache_write_5m),
                cache_write_1h: sum(rates.cache_write_1h, more.cache_write_1h),
                output: sum(rates.output, more.output),
            };
            let mut sheet = Sheet {
                standard: Schedule { rates, long: vec![ContextTier { above_input_tokens, rates: long }] },
                compute_hour: Some(Rate::from_pico(hour)),
                ..Sheet::default()
            };
            sheet.tiers.insert(ServiceTier::Batch, TierPrice::Times(Multiplier::from_millionths(batch)));
            sheet.regions.insert("eu".into(), Some(Multiplier::from_millionths(region)));
            sheet
        },
    )
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        input_uncached: a.input_uncached + b.input_uncached,
        cache_read: a.cache_read + b.cache_read,
        cache_write_5m: a.cache_write_5m + b.cache_write_5m,
        cache_write_1h: a.cache_write_1h + b.cache_write_1h,
        output: a.output + b.output,
        reasoning: 0,
        compute_us: a.compute_us + b.compute_us,
    }
}

proptest! {
    /// Within one length of input, the cost of a whole is the cost of its parts, but for the rounding up of each part:
    /// less than a picodollar for each of the six dimensions.
    #[test]
    fn costs_add_up(sheet in some_sheet(), a in some_usage(), b in some_usage(), batch: bool, eu: bool) {
        let mut sheet = sheet;
        sheet.standard.long.clear();
        let circumstances = Circumstances {
            service_tier: if batch { ServiceTier::Batch } else { ServiceTier::Standard },
            region: eu.then(|| "eu".into()),
            ..Circumstances::default()
        };
        let cost = |usage| sheet.cost(&usage, &circumstances).unwrap().pico();
        let surplus = cost(a) + cost(b) - cost(sum(a, b));
        prop_assert!((0..=6).contains(&surplus), "{surplus} picodollars");
        if !batch && !eu {
            let tokens_only = |usage: Usage| cost(Usage { compute_us: 0, ..usage });
            prop_assert_eq!(tokens_only(a) + tokens_only(b), tokens_only(sum(a, b)), "whole rates add exactly");
        }
    }

    #[test]
    fn more_usage_never_costs_less(sheet in some_sheet(), a in some_usage(), more in some_usage(), eu: bool) {
        let circumstances = if eu { in_region("eu") } else { Circumstances::default() };
        prop_assert!(sheet.cost(&sum(a, more), &circumstances) >= sheet.cost(&a, &circumstances));
    }

    #[test]
    fn batch_never_costs_more_and_a_surcharge_never_less(sheet in some_sheet(), usage in some_usage()) {
        let standard = sheet.cost(&usage, &Circumstances::default());
        prop_assert!(sheet.cost(&usage, &at_tier(ServiceTier::Batch)) <= standard);
        prop_assert!(sheet.cost(&usage, &in_region("eu")) >= standard);
    }

    /// Never below the exact product, and above it by less than one picodollar: checked in arithmetic without division.
    #[test]
    fn rounding_is_up_and_below_one_picodollar(rate in 0..u64::from(u32::MAX), tokens in 0..1_000_000_000_000_u64,
            tier in 0..4_000_000_u32, region in 0..4_000_000_u32) {
        let multipliers = [Multiplier::from_millionths(tier), Multiplier::from_millionths(region)];
        let amount = multiplied(tokens, Price::from_pico_per_token(rate), multipliers).pico();
        let exact = i128::from(rate) * i128::from(tokens) * i128::from(tier) * i128::from(region);
        let unit = 1_000_000_000_000_i128;
        prop_assert!(amount * unit >= exact && (amount - 1) * unit < exact);
    }

    #[test]
    fn every_sheet_comes_back_from_its_text(sheet in some_sheet()) {
        prop_assert_eq!(Sheet::from_text(&sheet.to_text()), Ok(sheet));
    }
}
