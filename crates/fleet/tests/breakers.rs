//! Whether a unit that fails is left alone, and gets its share back by and by.

mod common;

use common::*;
use fleet::*;
use proptest::prelude::*;

fn breaker(member: &Member, now_ms: u64) -> BreakerState {
    member.state.breaker(ms(now_ms))
}
fn begin(member: &mut Member, now_ms: u64) -> Result<Ticket, Reason> {
    member.state.began(&member.unit, 1000, 1000, ms(now_ms))
}
fn end(member: &mut Member, ticket: Ticket, outcome: Outcome, now_ms: u64) {
    member.state.ended(ticket, outcome, ms(now_ms));
}
const ANSWERED: Outcome = Outcome::Answered { output_tokens: 1 };

#[test]
fn five_failures_in_a_row_open_it_and_one_probe_closes_the_question() {
    let mut member = member("a", 1);
    fail(&mut member, 4, Fault::Connect, ms(0));
    assert_eq!(breaker(&member, 0), BreakerState::Closed);
    fail(&mut member, 1, Fault::Connect, ms(0));
    assert_eq!(breaker(&member, 999), BreakerState::Open { until_us: 1_000_000 });
    assert_eq!(breaker(&member, 1000), BreakerState::HalfOpen);

    let probe = begin(&mut member, 1000).unwrap();
    assert!(probe.is_probe());
    assert_eq!(begin(&mut member, 1000).unwrap_err(), Reason::Probing, "one at a time");
    end(&mut member, probe, Outcome::Failed(Fault::Timeout), 1500);
    assert_eq!(breaker(&member, 1500), BreakerState::Open { until_us: 3_500_000 }, "twice the pause");

    let mut probe = begin(&mut member, 4000).unwrap();
    member.state.first_token(&mut probe, ms(4100));
    assert_eq!(breaker(&member, 4100), BreakerState::Recovering { allowance: 2 });
    end(&mut member, probe, ANSWERED, 4200);
    assert_eq!(breaker(&member, 4200), BreakerState::Recovering { allowance: 3 });
}

#[test]
fn half_of_what_ended_lately_opens_it_too() {
    let mut member = member("a", 1);
    for round in 0..20 {
        if let Ok(ticket) = begin(&mut member, round * 10) {
            end(
                &mut member,
                ticket,
                if round % 2 == 0 { ANSWERED } else { Outcome::Failed(Fault::Reset) },
                round * 10,
            );
        }
    }
    assert!(matches!(breaker(&member, 200), BreakerState::Open { .. }));
}

#[test]
fn what_the_client_did_and_rate_limits_never_open_it() {
    let mut member = member("a", 1);
    for round in 0..1000 {
        let ticket = begin(&mut member, round).unwrap();
        let cancelled = Outcome::Cancelled { output_tokens: 0 };
        end(&mut member, ticket, if round % 2 == 0 { Outcome::ClientFault } else { cancelled }, round);
    }
    assert_eq!(breaker(&member, 1000), BreakerState::Closed);
    let ticket = begin(&mut member, 1000).unwrap();
    end(&mut member, ticket, Outcome::RateLimited { retry_after: Some(ms(2000)) }, 1100);
    assert_eq!(breaker(&member, 1100), BreakerState::Closed);
    let resting = Reason::Resting { until_us: 3_100_000, now_us: 3_099_000 };
    assert_eq!(begin(&mut member, 3099).unwrap_err(), resting);
    assert!(begin(&mut member, 3100).is_ok());
}

#[test]
fn a_pause_of_days_is_cut_to_an_hour() {
    let mut member = member("a", 1);
    let ticket = begin(&mut member, 0).unwrap();
    end(&mut member, ticket, Outcome::RateLimited { retry_after: Some(ms(1_000_000_000)) }, 0);
    assert!(begin(&mut member, 3_600_000).is_ok());
}

#[test]
fn a_probe_that_says_nothing_leaves_the_question_open() {
    for outcome in [
        Outcome::ClientFault,
        Outcome::Cancelled { output_tokens: 0 },
        Outcome::RateLimited { retry_after: Some(ms(0)) },
    ] {
        let mut member = member("a", 1);
        fail(&mut member, 5, Fault::Server, ms(0));
        let probe = begin(&mut member, 1000).unwrap();
        end(&mut member, probe, outcome, 1001);
        assert_eq!(breaker(&member, 1001), BreakerState::HalfOpen, "{outcome:?}");
        assert!(begin(&mut member, 1001).unwrap().is_probe());
    }
}

#[test]
fn a_probe_that_nobody_ends_is_given_up_and_does_not_speak_for_the_next() {
    let mut member = member("a", 1);
    fail(&mut member, 5, Fault::Server, ms(0));
    let lost = begin(&mut member, 1000).unwrap();
    assert_eq!(breaker(&member, 120_999), BreakerState::Probing { since_us: 1_000_000 });
    assert_eq!(breaker(&member, 121_000), BreakerState::HalfOpen);
    let next = begin(&mut member, 121_000).unwrap();
    assert!(next.is_probe());
    end(&mut member, lost, Outcome::Failed(Fault::Timeout), 121_001);
    assert!(matches!(breaker(&member, 121_001), BreakerState::Probing { .. }));
    end(&mut member, next, ANSWERED, 121_002);
    assert!(matches!(breaker(&member, 121_002), BreakerState::Recovering { .. }));
}

#[test]
fn what_began_before_it_opened_neither_lengthens_the_pause_nor_ends_it() {
    let mut member = member("a", 1);
    let early: Vec<_> = (0..20).map(|_| begin(&mut member, 0).unwrap()).collect();
    fail(&mut member, 5, Fault::Server, ms(10));
    for (number, ticket) in early.into_iter().enumerate() {
        end(&mut member, ticket, if number % 2 == 0 { ANSWERED } else { Outcome::Failed(Fault::Reset) }, 20);
    }
    assert_eq!(breaker(&member, 20), BreakerState::Open { until_us: 1_010_000 });
}

/// The cheap unit dies and comes back; rounds of 40 requests at once decide between it and a dear one.
#[test]
fn a_unit_that_was_dead_gets_its_traffic_back_gradually() {
    let mut members = [member("cheap", 10), member("dear", 100)];
    fail(&mut members[0], 5, Fault::Connect, ms(0));
    let mut shares = Vec::new();
    for round in 0..7u64 {
        let began = 2000 + round * 1000;
        let mut tickets = Vec::new();
        for random in 0..40 {
            let first = decide(&members, &need(), ms(began), random).choices[0].candidate;
            let Member { unit, state, .. } = &mut members[first];
            tickets.push((first, state.began(unit, 1000, 1000, ms(began)).unwrap()));
        }
        shares.push(tickets.iter().filter(|(first, _)| *first == 0).count());
        for (first, ticket) in tickets {
            end(&mut members[first], ticket, ANSWERED, began + 300);
        }
    }
    assert_eq!(shares, [1, 3, 6, 12, 24, 40, 40]);
}

#[test]
fn a_recovering_unit_answers_all_the_same_where_it_is_the_only_one() {
    let mut members = [member("only", 10)];
    fail(&mut members[0], 5, Fault::Connect, ms(0));
    let probe = begin(&mut members[0], 2000).unwrap();
    end(&mut members[0], probe, ANSWERED, 2100);
    for random in 0..20 {
        assert_eq!(decide(&members, &need(), ms(2200), random).choices.len(), 1);
        let _ = begin(&mut members[0], 2200).unwrap();
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Begin,
    FirstToken(usize),
    End(usize, Outcome),
    Wait(u64),
}
fn any_act() -> impl Strategy<Value = Act> {
    let outcome = prop_oneof![
        3 => Just(ANSWERED),
        4 => Just(Outcome::Failed(Fault::Server)),
        1 => Just(Outcome::ClientFault),
        1 => Just(Outcome::Cancelled { output_tokens: 3 }),
        1 => Just(Outcome::RateLimited { retry_after: Some(ms(50)) }),
    ];
    prop_oneof![
        4 => Just(Act::Begin),
        2 => any::<usize>().prop_map(Act::FirstToken),
        4 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Act::End(which, outcome)),
        2 => (0u64..3000).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nobody_goes_to_an_open_one_and_one_probe_at_a_time(acts in prop::collection::vec(any_act(), 0..200)) {
        let mut member = member("a", 1);
        let (mut now, mut under_way, mut failed) = (0, Vec::new(), false);
        for act in acts {
            let before = breaker(&member, now);
            match act {
                Act::Wait(time) => now += time,
                Act::Begin => {
                    if let Ok(ticket) = begin(&mut member, now) {
                        let may = !matches!(before, BreakerState::Open { .. } | BreakerState::Probing { .. });
                        prop_assert!(may, "{before:?}");
                        prop_assert_eq!(ticket.is_probe(), before == BreakerState::HalfOpen);
                        under_way.push(ticket);
                    }
                }
                Act::FirstToken(which) => {
                    if !under_way.is_empty() {
                        let which = which % under_way.len();
                        member.state.first_token(&mut under_way[which], ms(now));
                    }
                }
                Act::End(which, outcome) => {
                    if !under_way.is_empty() {
                        let ticket = under_way.swap_remove(which % under_way.len());
                        end(&mut member, ticket, outcome, now);
                        failed |= matches!(outcome, Outcome::Failed(_));
                    }
                }
            }
            prop_assert_eq!(member.state.in_flight() as usize, under_way.len());
            let after = breaker(&member, now);
            if let BreakerState::Open { until_us } = after {
                prop_assert!(failed, "only a failure opens it");
                prop_assert!(until_us <= now * 1000 + 15_000_000, "no pause is longer than a quarter of a minute");
            }
            if let BreakerState::Recovering { .. } = after {
                prop_assert!(!matches!(before, BreakerState::Open { .. } | BreakerState::Closed), "from {before:?}");
            }
        }
    }
}
