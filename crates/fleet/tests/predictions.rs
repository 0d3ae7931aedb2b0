//! Whether what is expected of a unit follows from what it did.

mod common;

use std::time::Duration;

use common::*;
use fleet::*;
use proptest::prelude::*;

fn predict(member: &Member, slo: Option<Slo>, now: Duration) -> Prediction {
    member.state.predict(1000, 1000, slo.as_ref(), now)
}
fn is_near(found: Duration, expected: Duration) -> bool {
    (0.85..1.18).contains(&(found.as_secs_f64() / expected.as_secs_f64()))
}

#[test]
fn a_steady_unit_is_expected_to_stay_so() {
    let mut member = member("a", 1);
    let end = serve(&mut member, 50, ms(700), ms(12), ms(0));
    let predicted = predict(&member, None, end);
    assert!(is_near(predicted.ttft, ms(700)), "{predicted:?}");
    assert!(is_near(predicted.ttft_p95, ms(700)), "{predicted:?}");
    assert!(is_near(predicted.per_token, ms(12)), "{predicted:?}");
    assert_eq!(predicted.probability, 1.0, "nothing was asked");
}

#[test]
fn an_answer_that_was_not_streamed_is_shared_out() {
    let mut member = member("a", 1);
    for round in 0..30 {
        let began = ms(round * 1000);
        let ticket = member.state.began(&member.unit, 1000, 1000, began).unwrap();
        member.state.ended(ticket, Outcome::Answered { output_tokens: 101 }, began + ms(5000));
    }
    let predicted = predict(&member, None, ms(30_000));
    assert!(is_near(predicted.ttft + predicted.per_token * 100, ms(5000)), "{predicted:?}");
}

#[test]
fn a_long_answer_tells_its_pace_before_it_ends() {
    let mut member = member("a", 1);
    let end = serve(&mut member, 20, ms(200), ms(10), ms(0));
    let slo = Slo { ttft: None, per_token: Some(ms(50)), probability: 0.9 };
    assert!(predict(&member, Some(slo), end).probability > 0.95);
    for _ in 0..20 {
        let mut ticket = member.state.began(&member.unit, 1000, 1000, end).unwrap();
        member.state.first_token(&mut ticket, end + ms(200));
        (1..=64).for_each(|token| member.state.progressed(&mut ticket, token, end + ms(200 + 90 * token)));
    }
    assert!(predict(&member, Some(slo), end + ms(6000)).probability < 0.6);
}

#[test]
fn who_leaves_early_says_nothing_and_who_leaves_late_says_that_it_was_slow() {
    for (waited, lowers) in [(ms(50), false), (ms(5000), true)] {
        let mut member = member("a", 1);
        let end = serve(&mut member, 10, ms(200), ms(10), ms(0));
        let before = predict(&member, slo(1000), end).probability;
        for _ in 0..5 {
            let ticket = member.state.began(&member.unit, 1000, 1000, end).unwrap();
            member.state.ended(ticket, Outcome::Cancelled { output_tokens: 0 }, end + waited);
        }
        let after = predict(&member, slo(1000), end).probability;
        assert_eq!(after < before - 0.1, lowers, "{before} {after}");
    }
}

#[test]
fn a_queue_that_an_engine_reports_counts_as_load() {
    let mut members = [member("a", 100), member("b", 100)];
    members[0].state.queue(8, 4);
    let decision = decide(&members, &need(), ms(0), 0);
    assert_eq!((names(&decision)[0], decision.choices[1].load), ("b", 12));
}

#[test]
fn a_fuller_unit_is_expected_to_be_slower_where_it_was() {
    let mut member = member("a", 1);
    // Each request that is already there costs the next one a tenth of a second.
    for round in 0..30u64 {
        let began = ms(round * 3000);
        let tickets: Vec<_> =
            (0..=round % 10).map(|_| member.state.began(&member.unit, 1000, 1000, began).unwrap()).collect();
        for (ahead, mut ticket) in tickets.into_iter().enumerate() {
            let first = began + ms(200 + 100 * ahead as u64);
            member.state.first_token(&mut ticket, first);
            member.state.ended(ticket, Outcome::Answered { output_tokens: 1 }, first);
        }
    }
    let empty = predict(&member, None, ms(90_000)).ttft;
    let _held: Vec<_> =
        (0..9).map(|_| member.state.began(&member.unit, 1000, 1000, ms(90_000)).unwrap()).collect();
    let full = predict(&member, None, ms(90_000)).ttft;
    assert!(is_near(full - empty, ms(900)), "{empty:?} {full:?}");
}

/// Two units with eight requests each: long prompts, which one takes one after the other and the other all at once.
#[test]
fn prompts_ahead_count_where_they_are_taken_one_after_the_other() {
    let expected = [true, false].map(|in_turn| {
        let mut member = member("a", 1);
        for round in 0..60u64 {
            let began = ms(round * 4000);
            let tokens = |place: u64| 500 + (round * 7 + place * 13) % 10 * 300;
            let count = 1 + round % 8;
            let tickets: Vec<_> = (0..count)
                .map(|place| member.state.began(&member.unit, tokens(place), tokens(place), began).unwrap())
                .collect();
            let mut done = began;
            for (place, mut ticket) in (0..).zip(tickets) {
                let own = Duration::from_micros(100 * tokens(place));
                done = if in_turn { done + own } else { began + own };
                member.state.first_token(&mut ticket, done);
                member.state.ended(ticket, Outcome::Answered { output_tokens: 1 }, done);
            }
        }
        let now = ms(240_000);
        let _ahead: Vec<_> =
            (0..4).map(|_| member.state.began(&member.unit, 3000, 3000, now).unwrap()).collect();
        predict(&member, None, now).ttft
    });
    // 12,000 tokens ahead and 1,000 of its own, at 100 µs each.
    assert!(is_near(expected[0], ms(1300)), "{expected:?}");
    assert!(is_near(expected[1], ms(100)), "{expected:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_more_generous_limit_is_never_less_likely(
        served in prop::collection::vec((1u64..20_000, 1u64..200), 0..40),
        failures in 0u64..4,
        limits in (1u64..30_000, 1u64..30_000),
        wait in 0u64..200_000,
    ) {
        let mut member = member("a", 1);
        let mut now = ms(0);
        for (ttft, pace) in served {
            now = serve(&mut member, 1, ms(ttft), ms(pace), now);
        }
        fail(&mut member, failures, Fault::Reset, now);
        let now = now + ms(wait);
        let (less, more) = (limits.0.min(limits.1), limits.0.max(limits.1));
        let (less, more) = (predict(&member, slo(less), now), predict(&member, slo(more), now));
        prop_assert!((0.0..=1.0 + 1e-9).contains(&less.probability) && more.probability <= 1.0 + 1e-9);
        prop_assert!(less.probability <= more.probability + 1e-9, "{} {}", less.probability, more.probability);
        prop_assert!(less.ttft <= less.ttft_p95, "{less:?}");
    }
}
