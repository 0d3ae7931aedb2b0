//! Whether the cheapest that is fast enough comes first, and why.

mod common;

use common::*;
use fleet::*;

#[test]
fn the_cheapest_that_meets_the_slo_is_first_and_a_slow_one_is_last_however_cheap() {
    let (mut slow, mut middle, mut dear) = (member("slow", 10), member("middle", 50), member("dear", 100));
    serve(&mut slow, 20, ms(3000), ms(10), ms(0));
    let end = serve(&mut middle, 20, ms(400), ms(20), ms(0));
    serve(&mut dear, 20, ms(200), ms(20), ms(0));
    let members = [dear, slow, middle];

    let unhurried = decide(&members, &need(), end, 0);
    assert_eq!(names(&unhurried), ["slow", "middle", "dear"]);
    let hurried = decide(&members, &Need { slo: slo(1000), ..need() }, end, 0);
    assert_eq!(names(&hurried), ["middle", "dear", "slow"]);
    assert_eq!(
        hurried.choices.iter().map(|choice| choice.meets_slo).collect::<Vec<_>>(),
        [true, true, false]
    );
    let fastest = decide(&members, &Need { order: Order::Latency, ..need() }, end, 0);
    assert_eq!(names(&fastest), ["dear", "middle", "slow"]);
}

#[test]
fn where_nobody_meets_the_slo_the_likeliest_is_first_and_says_so() {
    let (mut never, mut sometimes) = (member("never", 10), member("sometimes", 100));
    let end = serve(&mut never, 30, ms(3000), ms(10), ms(0));
    for round in 0..10 {
        let from = end - ms(30_000) + ms(3000) * round;
        serve(&mut sometimes, 1, ms(if round % 2 == 0 { 300 } else { 2500 }), ms(10), from);
    }
    let decision = decide(&[never, sometimes], &Need { slo: slo(1000), ..need() }, end, 0);
    assert_eq!(names(&decision), ["sometimes", "never"]);
    assert!(decision.choices.iter().all(|choice| !choice.meets_slo));
    assert!((0.3..0.8).contains(&decision.choices[0].probability), "{decision:?}");
}

#[test]
fn slow_tokens_break_an_slo_as_slow_beginnings_do() {
    let (mut crawls, mut runs) = (member("crawls", 10), member("runs", 100));
    serve(&mut crawls, 20, ms(100), ms(80), ms(0));
    let end = serve(&mut runs, 20, ms(500), ms(20), ms(0));
    let slo = Slo { ttft: Some(ms(1000)), per_token: Some(ms(40)), probability: 0.9 };
    let decision = decide(&[crawls, runs], &Need { slo: Some(slo), ..need() }, end, 0);
    assert_eq!(names(&decision), ["runs", "crawls"]);
}

#[test]
fn a_long_prompt_is_expected_to_take_longer_and_goes_elsewhere() {
    let (mut cpu, mut gpu) = (member("cpu", 10), member("gpu", 100));
    // A tenth of a second for a hundred tokens on the one, for ten thousand on the other.
    for round in 0..40u64 {
        let tokens = 100 + 100 * (round % 8);
        for (member, wait) in [(&mut cpu, ms(tokens)), (&mut gpu, ms(100 + tokens / 100))] {
            let began = ms(round * 1000);
            let mut ticket = member.state.began(&member.unit, tokens, tokens, began).unwrap();
            member.state.first_token(&mut ticket, began + wait);
            member.state.ended(ticket, Outcome::Answered { output_tokens: 1 }, began + wait);
        }
    }
    let members = [cpu, gpu];
    let first = |input_tokens| {
        let need = Need { input_tokens, slo: slo(1000), ..need() };
        names(&decide(&members, &need, ms(40_000), 0))[0].to_owned()
    };
    assert_eq!((first(400), first(4000)), ("cpu".to_owned(), "gpu".to_owned()));
}

#[test]
fn requests_that_already_wait_too_long_count_before_they_end() {
    let (mut stuck, mut other) = (member("stuck", 10), member("other", 100));
    let end = serve(&mut stuck, 20, ms(200), ms(10), ms(0));
    serve(&mut other, 20, ms(200), ms(10), ms(0));
    for _ in 0..5 {
        let _ = stuck.state.began(&stuck.unit, 1000, 1000, end).unwrap();
    }
    let members = [stuck, other];
    let need = Need { slo: slo(1000), ..need() };
    assert_eq!(names(&decide(&members, &need, end + ms(900), 0))[0], "stuck");
    assert_eq!(names(&decide(&members, &need, end + ms(1100), 0))[0], "other");
}

#[test]
fn a_bad_minute_is_forgotten_and_the_unit_is_tried_again() {
    let (mut bad, mut other) = (member("bad", 10), member("other", 100));
    let end = serve(&mut bad, 10, ms(4000), ms(10), ms(0));
    serve(&mut other, 10, ms(200), ms(10), ms(0));
    let members = [bad, other];
    let need = Need { slo: slo(1000), ..need() };
    assert_eq!(names(&decide(&members, &need, end, 0))[0], "other");
    let later = decide(&members, &need, end + 10 * HALF_LIFE, 0);
    assert_eq!((names(&later)[0], later.choices[0].standing), ("bad", Standing::Unproven));
}

#[test]
fn an_unknown_unit_is_measured_with_a_few_requests_and_not_with_a_crowd() {
    let (new, mut known) = (member("new", 10), member("known", 100));
    let end = serve(&mut known, 20, ms(200), ms(10), ms(0));
    let mut members = [new, known];
    let need = Need { slo: slo(1000), ..need() };
    let mut went = [0, 0];
    for random in 0..100 {
        let first = decide(&members, &need, end, random).choices[0].candidate;
        let Member { unit, state, .. } = &mut members[first];
        let _ = state.began(unit, 1000, 1000, end).unwrap();
        went[first] += 1;
    }
    assert_eq!(went, [2, 98]);
}

#[test]
fn a_warm_prefix_is_worth_its_price_and_no_more() {
    let (mut warm, cold) = (member("warm", 100), member("cold", 60));
    warm.unit.caching = Caching::Charged;
    let mut members = [warm, cold];
    let mut need = Need { input_tokens: 10_000, marked_tokens: 10_000, output_tokens: 10, ..need() };
    assert_eq!(
        names(&decide(&members, &need, ms(0), 0))[0],
        "cold",
        "unwarmed, it charges for the writing too"
    );
    members[0].warm_tokens = 10_000;
    let decision = decide(&members, &need, ms(0), 0);
    assert_eq!(names(&decision)[0], "warm");
    // 10,000 tokens at a tenth of 100, and 10 of output at 500.
    assert_eq!(decision.choices[0].cost.unwrap().pico(), 10_000 * 10 + 10 * 500);
    need.output_tokens = 5000;
    assert_eq!(
        names(&decide(&members, &need, ms(0), 0))[0],
        "cold",
        "a long answer costs more than the cache saves"
    );
}

#[test]
fn among_equals_a_warm_one_is_preferred_until_it_has_twice_the_load() {
    let mut members = [member("warm", 100), member("cold", 100)];
    members[0].warm_tokens = 1000;
    let mut went = [0u32, 0];
    for random in 0..90 {
        let first = decide(&members, &need(), ms(0), random).choices[0].candidate;
        let Member { unit, state, .. } = &mut members[first];
        let _ = state.began(unit, 1000, 0, ms(0)).unwrap();
        went[first] += 1;
    }
    assert!(went[0] > went[1] && went[0] <= 3 * went[1], "{went:?}");
}

#[test]
fn a_thousand_at_once_spread_over_equals_with_fresh_and_with_stale_views() {
    for slo in [None, slo(1000)] {
        let mut members: Vec<_> = (0..4).map(|number| member(&format!("w{number}"), 100)).collect();
        let need = Need { slo, ..need() };
        let mut went = [0; 4];
        for random in 0..1000u64 {
            let first = decide(&members, &need, ms(0), random).choices[0].candidate;
            let Member { unit, state, .. } = &mut members[first];
            let _ = state.began(unit, 1000, 1000, ms(0)).unwrap();
            went[first] += 1;
        }
        assert!(went.iter().all(|&count| (200..=300).contains(&count)), "fresh: {went:?}");
    }
    // Nobody's begin is seen by the others: only the random number tells them apart.
    let members: Vec<_> = (0..4).map(|number| member(&format!("w{number}"), 100)).collect();
    let mut went = [0; 4];
    for random in 0..1000u64 {
        went[decide(&members, &need(), ms(0), random).choices[0].candidate] += 1;
    }
    assert!(went.iter().all(|&count| (180..=320).contains(&count)), "stale: {went:?}");
}
