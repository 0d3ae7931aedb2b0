//! Whether retries and hedges stay within what they may cost, and crawling streams are seen.

mod common;

use common::*;
use fleet::*;
use proptest::prelude::*;

#[test]
fn retries_are_a_tenth_of_requests_and_one_a_second() {
    let mut budget = RetryBudget::new();
    let spend_all = |budget: &mut RetryBudget, now| (0..1000).take_while(|_| budget.spend(now)).count();
    assert_eq!(spend_all(&mut budget, ms(0)), 10, "a few are there from the beginning");
    (0..200).for_each(|_| budget.earn());
    assert_eq!(spend_all(&mut budget, ms(0)), 20);
    assert_eq!(spend_all(&mut budget, ms(3000)), 3);
    (0..1_000_000).for_each(|_| budget.earn());
    assert_eq!(spend_all(&mut budget, ms(3000)), 100, "no more than that is saved up");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_spent_that_was_not_earned(acts in prop::collection::vec((0u64..5000, 0u32..3), 0..300)) {
        let mut budget = RetryBudget::with(100, 1, 50);
        let (mut now, mut earned_milli, mut spent) = (0, 10_000, 0u64);
        for (wait, act) in acts {
            now += if act == 0 { wait } else { 0 };
            earned_milli += if act == 0 { wait } else { 0 };
            match act {
                1 => { budget.earn(); earned_milli += 100 }
                2 => {
                    let can = budget.can_spend(ms(now));
                    prop_assert_eq!(budget.spend(ms(now)), can, "asking tells what doing will");
                    spent += u64::from(can);
                }
                _ => {}
            }
            prop_assert!(spent * 1000 <= earned_milli);
        }
    }
}

#[test]
fn a_hedge_waits_for_the_expected_p95_and_is_paid() {
    let mut members = [member("first", 10), member("second", 100)];
    let sent = serve(&mut members[0], 20, ms(800), ms(10), ms(0));
    let decision = decide(&members, &need(), sent, 0);
    let p95 = decision.choices[0].ttft_p95_us;
    assert!((800_000..1_000_000).contains(&p95), "{p95}");
    let mut budget = RetryBudget::with(0, 0, 1);
    let until = sent + std::time::Duration::from_micros(p95);
    assert_eq!(hedge(&decision, sent, ms(100), &mut budget, sent + ms(200)), Hedge::Wait { until });
    assert_eq!(
        hedge(&decision, sent, ms(5000), &mut budget, sent + ms(2000)),
        Hedge::Wait { until: sent + ms(5000) }
    );
    match hedge(&decision, sent, ms(100), &mut budget, until) {
        Hedge::Send(choice) => assert_eq!(choice.unit.as_str(), "main@second"),
        other => panic!("{other:?}"),
    }
    assert_eq!(hedge(&decision, sent, ms(100), &mut budget, until), Hedge::No, "the budget is used up");
    let alone = decide(&members[..1], &need(), sent, 0);
    assert_eq!(hedge(&alone, sent, ms(100), &mut RetryBudget::new(), until), Hedge::No);
}

#[test]
fn a_stream_that_crawls_or_stands_is_told_from_one_that_moves() {
    let window = ms(8000);
    let run = |tokens_each_second: &[u64]| {
        let mut pace = Pace::new(2.0, window, ms(0));
        for (second, &tokens) in tokens_each_second.iter().enumerate() {
            pace.tokens(tokens, ms(second as u64 * 1000 + 500));
        }
        pace.verdict(ms(tokens_each_second.len() as u64 * 1000))
    };
    assert_eq!(run(&[50; 20]), Verdict::Moves);
    assert_eq!(run(&[2; 7]), Verdict::Moves, "no verdict before a window has passed");
    // 0.8 tokens a second, as a zombie stream was once reported.
    let zombie: Vec<u64> = (0..20).map(|second| u64::from(second % 5 != 0)).collect();
    assert!(matches!(run(&zombie), Verdict::Crawls { tokens_per_second } if tokens_per_second < 1.0));
    let fell_silent: Vec<u64> = (0..20).map(|second| if second < 10 { 50 } else { 0 }).collect();
    assert_eq!(run(&fell_silent), Verdict::Stands { since: ms(10_500) });
    let slow_but_now_fast: Vec<u64> = (0..30).map(|second| if second < 15 { 1 } else { 30 }).collect();
    assert_eq!(run(&slow_but_now_fast), Verdict::Moves);
}

#[test]
fn a_fallback_to_a_well_unit_is_never_a_matter_of_what_is_left() {
    let mut members = [member("first", 10), member("second", 20), member("third", 30)];
    let mut spent = RetryBudget::with(0, 0, 0);
    let decision = decide(&members, &need(), ms(0), 0);
    let next = |decision: &Decision, budget: &mut RetryBudget, now| {
        fall_back(decision, budget, now).map(|choice| choice.unit.as_str().to_owned())
    };
    for _ in 0..1000 {
        assert_eq!(next(&decision, &mut spent, ms(0)).as_deref(), Some("main@first"));
    }

    // The first is open, then due for a probe: a request that has failed once finds that out only where it is paid.
    fail(&mut members[0], 5, Fault::Server, ms(0));
    let (pause_over, mut paid) = (ms(1500), RetryBudget::with(0, 0, 1));
    let decision = decide(&members, &need(), pause_over, 0);
    assert_eq!(decision.choices[0].standing, Standing::Probe);
    assert_eq!(next(&decision, &mut paid, pause_over).as_deref(), Some("main@first"));
    assert_eq!(next(&decision, &mut paid, pause_over).as_deref(), Some("main@second"), "nothing is left");

    // Where nobody is well, nothing goes out unpaid.
    let alone = decide(&members[..1], &need(), pause_over, 0);
    assert_eq!(next(&alone, &mut spent, pause_over), None);
    assert_eq!(next(&alone, &mut RetryBudget::with(0, 0, 1), pause_over).as_deref(), Some("main@first"));
}
