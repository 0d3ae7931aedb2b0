use domain::Price;
use proptest::prelude::*;

use super::*;
use crate::{PriceId, Sheet};

fn a_hold(estimate: Usage) -> Hold {
    let at = Timestamp::from_millis(1_000);
    Hold::new("r".into(), "local".into(), "tiny".into(), estimate, at)
}

fn a_price() -> PriceVersion {
    let pico = Price::from_pico_per_token;
    let sheet = Sheet::per_token(pico(10), pico(1), pico(40));
    PriceVersion { id: PriceId(1), model: "tiny".into(), sheet, valid_from: Timestamp::from_millis(0) }
}

fn used(input_uncached: u64, cache_read: u64, output: u64) -> Usage {
    Usage { input_uncached, cache_read, output, ..Usage::default() }
}

fn opened(estimate: Usage, price: Option<PriceVersion>) -> Position {
    hold(&Position::Absent, a_hold(estimate), price).unwrap().position
}

fn settlement(usage: Usage) -> Settlement {
    let at = Timestamp::from_millis(2_000);
    Settlement { request: "r".into(), usage, end: UsageEnd::Complete, source: UsageSource::Measured, at }
}

/// Writes entries as `from>to input/cached/output money`.
fn written(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|Entry { from, to, quantities }| {
            let usage = quantities.usage();
            format!(
                "{from:?}>{to:?} {}/{}/{} {}",
                usage.input_uncached,
                usage.cache_read,
                usage.output,
                quantities.money.pico()
            )
        })
        .collect()
}

#[test]
fn a_settlement_splits_the_hold_into_used_and_unused_and_shows_the_excess() {
    #[rustfmt::skip]
    let rows: [(&str, Usage, Usage, &[&str]); 5] = [
        ("less than held", used(100, 0, 50), used(100, 0, 20), &["Held>Earned 100/0/20 1800", "Held>Payer 0/0/30 1200"]),
        ("exactly as held", used(100, 0, 50), used(100, 0, 50), &["Held>Earned 100/0/50 3000"]),
        ("more than held", used(100, 0, 50), used(100, 0, 60), &["Held>Earned 100/0/50 3000", "Payer>Earned 0/0/10 400"]),
        ("cached after all", used(100, 0, 50), used(20, 80, 50), &["Held>Earned 20/0/50 2280", "Held>Payer 80/0/0 720", "Payer>Earned 0/80/0 0"]),
        ("nothing", used(100, 0, 50), used(0, 0, 0), &["Held>Payer 100/0/50 3000"]),
    ];
    for (case, estimate, usage, expect) in rows {
        let position = opened(estimate, Some(a_price()));
        let decision = settle(&position, settlement(usage)).unwrap();
        assert_eq!(written(&decision.entries), expect, "{case}");
    }
}

#[test]
fn a_release_gives_everything_back_and_costs_nothing() {
    let position = opened(used(100, 0, 50), Some(a_price()));
    let order =
        Release { request: "r".into(), reason: ReleaseReason::Refused, at: Timestamp::from_millis(2_000) };
    let decision = release(&position, order).unwrap();
    assert_eq!(written(&decision.entries), ["Held>Payer 100/0/50 3000"]);
    assert_eq!(decision.outcome.ending.cost, Some(Money::ZERO));
}

#[test]
fn a_lost_hold_is_booked_in_full_as_an_estimate() {
    let position = opened(used(100, 0, 50), Some(a_price()));
    let at = Timestamp::from_millis(2_000);
    let decision = lose(&position, &"r".into(), LossReason::ProcessLost, at).unwrap();
    assert_eq!(written(&decision.entries), ["Held>Earned 100/0/50 3000"]);
    assert_eq!(decision.outcome.ending.usage(), Some(used(100, 0, 50)));
    assert_eq!(decision.outcome.ending.cost.unwrap().pico(), 3_000);
}

#[test]
fn a_second_hold_is_answered_with_the_first_unless_it_is_for_someone_or_something_else() {
    let position = opened(used(100, 0, 50), None);
    let again = hold(&position, a_hold(used(7, 7, 7)), Some(a_price())).unwrap();
    let HoldOutcome::AlreadyOpen(first) = again.outcome else { panic!("opened twice") };
    assert_eq!((first.hold.estimate, first.price), (used(100, 0, 50), None));
    assert!(again.entries.is_empty());

    let thief = Hold { account: "other".into(), ..a_hold(used(1, 0, 1)) };
    let refused = hold(&position, thief, None).unwrap_err();
    assert_eq!(refused.to_string(), "request r already has a hold for another account; use a new request id");
}

#[test]
fn whatever_comes_after_the_end_is_answered_with_the_end() {
    let open = opened(used(100, 0, 50), Some(a_price()));
    let ended = settle(&open, settlement(used(1, 2, 3))).unwrap();
    let booked = ended.outcome.ending;
    let order = Release { request: "r".into(), reason: ReleaseReason::Failed, at: Timestamp::from_millis(9) };
    for late in [
        settle(&ended.position, settlement(used(900, 0, 900))),
        release(&ended.position, order),
        lose(&ended.position, &"r".into(), LossReason::Forgotten, Timestamp::from_millis(9)),
    ] {
        let late = late.unwrap();
        assert!(late.outcome.repeated && late.entries.is_empty());
        assert_eq!(late.outcome.ending, booked);
        assert_eq!(late.position, ended.position);
    }
    let hold_again = hold(&ended.position, a_hold(used(1, 0, 1)), None).unwrap();
    assert!(matches!(hold_again.outcome, HoldOutcome::AlreadyEnded(_, ending) if ending == booked));
}

#[test]
fn nothing_ends_that_was_not_held() {
    let error = settle(&Position::Absent, settlement(used(1, 0, 1))).unwrap_err();
    assert_eq!(error.to_string(), "request r has no hold, so it cannot be settled; hold first");
}

#[test]
fn counts_and_amounts_that_no_entry_can_hold_are_refused() {
    let open = opened(used(1, 0, 1), Some(a_price()));
    let too_many = used(u64::MAX, 0, 0);
    let error = settle(&open, settlement(too_many)).unwrap_err();
    assert!(error.to_string().contains("18446744073709551615 of input_uncached"), "{error}");

    let mut price = a_price();
    price.sheet.standard.rates.output = Some(Price::from_pico_per_token(u64::MAX));
    let error = hold(&Position::Absent, a_hold(used(0, 0, 1_000)), Some(price)).unwrap_err();
    assert!(error.to_string().contains("9223372.036854775807 USD can be booked"), "{error}");

    let reasoning = Usage { reasoning: 2, ..used(0, 0, 1) };
    assert!(matches!(settle(&open, settlement(reasoning)), Err(LedgerError::TooLarge { .. })));
}

#[test]
fn usage_beyond_the_estimate_is_visible_as_excess() {
    let open = opened(used(100, 0, 50), Some(a_price()));
    let outcome = settle(&open, settlement(used(90, 0, 60))).unwrap().outcome;
    let excess = outcome.excess();
    assert_eq!(excess.usage(), used(0, 0, 10));
    // 90 × 10 + 60 × 40 = 3,300 of 100 × 10 + 50 × 40 = 3,000.
    assert_eq!(excess.money.pico(), 300);
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (0..1_000u64, 0..1_000u64, 0..3u64, 0..3u64, 0..1_000u64).prop_map(
        |(input_uncached, cache_read, cache_write_5m, cache_write_1h, output)| Usage {
            input_uncached,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning: 0,
            compute_us: 0,
        },
    )
}

proptest! {
    #[test]
    fn every_ended_hold_is_settled_or_released_in_full(
        estimate in any_usage(), usage in any_usage(), priced in any::<bool>(), kind in 0..3usize
    ) {
        let open = opened(estimate, priced.then(a_price));
        let at = Timestamp::from_millis(2_000);
        let ended = match kind {
            0 => settle(&open, settlement(usage)),
            1 => release(&open, Release { request: "r".into(), reason: ReleaseReason::ClientLeft, at }),
            _ => lose(&open, &"r".into(), LossReason::ProcessLost, at),
        }.unwrap();
        let all = entries(&ended.position);
        let moved = |from: Side, to: Side| {
            let part = all.iter().find(|entry| (entry.from, entry.to) == (from, to));
            part.map_or(Quantities::default(), |entry| entry.quantities)
        };
        let (held, settled) = (moved(Side::Payer, Side::Held), moved(Side::Held, Side::Earned));
        let (released, excess) = (moved(Side::Held, Side::Payer), moved(Side::Payer, Side::Earned));
        for i in 0..DIMENSIONS.len() {
            prop_assert_eq!(held.tokens[i], settled.tokens[i] + released.tokens[i]);
            let earned = [tokens(&usage)[i], 0, tokens(&estimate)[i]][kind];
            prop_assert_eq!(settled.tokens[i] + excess.tokens[i], earned);
            prop_assert!(excess.tokens[i] == 0 || released.tokens[i] == 0);
        }
        prop_assert_eq!(held.money, settled.money + released.money);
        if kind == 0 {
            prop_assert_eq!(settled.money + excess.money, ended.outcome.ending.cost.unwrap_or(Money::ZERO));
        }
    }
}
