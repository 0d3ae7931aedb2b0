//! Whether the merit order keeps what it promises, on an hour that is like a recorded one.

use simulator::merit::audit::Audit;
use simulator::merit::units::{OWN, six, spells};
use simulator::merit::workload::{Kind, crowd, synthetic};
use simulator::merit::{Policy, Scenario, Summary, replay};

const MERIT: Policy = Policy::Merit { probability: 0.95 };

fn scenario(seed: u64) -> Scenario {
    let requests = crowd(&synthetic(20_000, seed), 1, 30, seed);
    Scenario { supplies: six(), spells: spells(seed, 6), requests, seed }
}
fn run(scenario: &Scenario, policy: &Policy) -> Summary {
    Summary::of(scenario, policy, &replay(scenario, policy, &mut |_| {}))
}
fn chain_by_price() -> Policy {
    Policy::Static { chain: (0..6).collect(), own_limit: None }
}
fn everyone_in_turn() -> Policy {
    Policy::RoundRobin { units: (0..6).collect(), own_limit: None }
}

#[test]
fn no_bound_request_leaves_its_jurisdiction_whoever_fails() {
    let scenario = scenario(1);
    for policy in [MERIT, chain_by_price(), everyone_in_turn()] {
        let mut audit = Audit::default();
        replay(&scenario, &policy, &mut |logged| {
            let line = serde_json::to_string(logged).unwrap();
            audit.line(&line, &scenario.requests).unwrap();
        });
        assert!(audit.bound > 5_000, "{policy:?}: {audit:?}");
        assert_eq!((audit.outside, audit.outside_in_line), (0, 0), "{policy:?}: {audit:?}");
    }
}

#[test]
fn the_audit_sees_a_bound_request_that_went_outside() {
    let scenario = scenario(1);
    let mut requests = scenario.requests.clone();
    requests.iter_mut().for_each(|request| request.eu_only = false);
    let unbound = Scenario { requests, ..scenario.clone() };
    let mut audit = Audit::default();
    replay(&unbound, &everyone_in_turn(), &mut |logged| {
        audit.line(&serde_json::to_string(logged).unwrap(), &scenario.requests).unwrap();
    });
    assert!(audit.outside > 1000, "{audit:?}");
}

#[test]
fn the_merit_order_is_cheaper_than_taking_turns_and_attains_more() {
    for seed in 1..=3 {
        let scenario = scenario(seed);
        let (merit, turns) = (run(&scenario, &MERIT), run(&scenario, &everyone_in_turn()));
        assert!(merit.tokens_cost < turns.tokens_cost, "seed {seed}: {merit:?} {turns:?}");
        assert!(merit.attainment() >= turns.attainment(), "seed {seed}: {merit:?} {turns:?}");
        assert!(merit.attainment() > 0.95, "seed {seed}: {merit:?}");
    }
}

#[test]
fn a_dead_engine_gets_its_requests_back_after_the_outage() {
    let scenario = scenario(1);
    // Our own engine is down in the 21st minute.
    let mut went = [0, 0, 0];
    replay(&scenario, &MERIT, &mut |logged| {
        let own = &scenario.supplies[OWN].unit.id;
        let minute = logged.decision.at_us / 60_000_000;
        let period = match minute {
            17..20 => 0,
            20 => 1,
            23..26 => 2,
            _ => return,
        };
        went[period] += usize::from(logged.went_to.as_ref() == Some(own));
    });
    let [before, during, after] = went;
    assert!(before > 300, "{went:?}");
    assert!(during < 40, "only what found out that it is dead: {went:?}");
    assert!(after > before / 3, "{went:?}");
}

#[test]
fn the_same_seed_gives_the_same_hour() {
    let scenario = scenario(5);
    assert_eq!(run(&scenario, &MERIT), run(&scenario, &MERIT));
}

#[test]
fn the_synthetic_hour_is_like_the_recorded_one() {
    let requests = synthetic(30_000, 7);
    let mean = |kind: Kind, of: fn(&simulator::merit::workload::Request) -> u64| {
        let of_kind: Vec<_> = requests.iter().filter(|request| request.kind == kind).map(of).collect();
        of_kind.iter().sum::<u64>() / of_kind.len() as u64
    };
    // Recorded: 1,155 and 211 tokens of a chat, 2,048 and 28 of code.
    assert!((900..1700).contains(&mean(Kind::Chat, |request| request.input_tokens)));
    assert!((150..270).contains(&mean(Kind::Chat, |request| request.output_tokens)));
    assert!((1600..2600).contains(&mean(Kind::Code, |request| request.input_tokens)));
    assert!((18..40).contains(&mean(Kind::Code, |request| request.output_tokens)));
}
