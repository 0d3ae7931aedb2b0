//! Whether nobody is chosen who must not be.

mod common;

use common::*;
use domain::{Money, ServiceTier};
use fleet::*;
use proptest::prelude::*;

/// Returns why the only member is not chosen.
fn reason(change: impl FnOnce(&mut Member, &mut Need)) -> Reason {
    let (mut member, mut need) = (member("a", 100), need());
    change(&mut member, &mut need);
    let decision = decide(&[member], &need, ms(10_000), 0);
    assert!(decision.choices.is_empty(), "{decision:?}");
    decision.rejected[0].reason.clone()
}

fn rule(places: &[&str]) -> Residency {
    Residency { name: "rule".into(), jurisdictions: places.iter().map(|&place| place.into()).collect() }
}

#[test]
fn each_filter_says_its_reason_with_its_numbers() {
    let says = |change: fn(&mut Member, &mut Need)| reason(change).to_string();
    let table: Vec<(String, &str)> = vec![
        (
            says(|_, need| need.residency = vec![rule(&["eu"])]),
            r#"rule "rule" allows eu; it processes in unknown places"#,
        ),
        (
            says(|member, need| {
                member.unit.jurisdictions = vec!["eu".into(), "us".into()];
                need.residency = vec![rule(&["eu", "de"])];
            }),
            r#"rule "rule" allows eu, de; it processes in eu, us"#,
        ),
        (
            says(|member, need| {
                member.unit.data_classes = Some(vec!["public".into()]);
                need.data_class = Some("personal".into());
            }),
            "data of class personal may not go there; public may",
        ),
        (
            says(|_, need| need.tiers = Some(vec![Tier::Edge, Tier::OnPremises])),
            "its tier is cloud; allowed are edge, on_premises",
        ),
        (says(|member, _| member.in_key_scope = false), "this key may not use it"),
        (
            says(|_, need| need.capabilities = Capabilities::of(&[Capability::Tools, Capability::Chat])),
            "it lacks tools",
        ),
        (
            says(|member, need| {
                member.unit.context_tokens = Some(1099);
                need.output_tokens_max = Some(100);
            }),
            "1000 tokens of prompt and 100 of answer exceed its context of 1099",
        ),
        (
            says(|member, need| {
                member.unit.max_output_tokens = Some(64);
                need.output_tokens_max = Some(100);
            }),
            "an answer may have 100 tokens; its limit is 64",
        ),
        (says(|_, need| need.quality_min = Some(60)), "its quality is unknown; at least 60 is asked for"),
        (says(|_, need| need.service_tier = ServiceTier::Flex), "it does not serve at flex"),
        (says(|_, need| need.tried = vec!["main@a".into()]), "it has failed this request already"),
        (
            says(|member, _| fail(member, 5, Fault::Server, ms(9_500))),
            "it failed (a server error, 5 times in a row); it rests for 500 ms more",
        ),
        (says(|member, _| member.state.rest(ms(10_250))), "it asked for a pause; 250 ms are left"),
        (
            says(|member, _| {
                member.state.quota(Quota { requests: None, tokens: Some(999), renews_us: 11_000_000 });
            }),
            "its quota is used up; it renews in 1000 ms",
        ),
        (
            says(|member, _| {
                member.unit.concurrency_max = Some(1);
                let _ = member.state.began(&member.unit, 1, 1, ms(0)).unwrap();
            }),
            "1 requests are in flight; its limit is 1",
        ),
        (says(|member, _| member.price = None), "it has no price for this request"),
        (
            says(|_, need| need.budget = Some(Money::from_pico(149_999))),
            "the request would cost 0.00000015 USD; 0.000000149999 USD are left",
        ),
    ];
    for (said, expected) in table {
        assert_eq!(said, expected);
    }
}

#[test]
fn a_unit_without_a_price_answers_after_all_others_where_the_policy_says_so_and_never_on_a_budget() {
    let mut unpriced = member("unpriced", 0);
    unpriced.price = None;
    let members = [unpriced, member("priced", 100)];
    let mut need = Need { allow_unpriced: true, ..need() };
    assert_eq!(names(&decide(&members, &need, ms(0), 0)), ["priced", "unpriced"]);
    need.budget = Some(Money::from_pico(i128::from(u64::MAX)));
    assert_eq!(names(&decide(&members, &need, ms(0), 0)), ["priced"]);
}

const PLACES: [&str; 4] = ["eu", "de", "us", "cn"];

prop_compose! {
    fn any_places()(bits in 0usize..16) -> Vec<Jurisdiction> {
        PLACES.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, &place)| place.into()).collect()
    }
}
prop_compose! {
    fn any_member(number: usize)(
        jurisdictions in any_places(),
        tier in prop::sample::select(Tier::ALL.to_vec()),
        data in prop::option::weighted(0.3, prop::sample::subsequence(vec!["public", "internal", "personal"], 0..=3)),
        capabilities in prop::sample::subsequence(Capability::ALL.to_vec(), 8..=15),
        context_tokens in prop::option::weighted(0.3, 500u64..3000),
        max_output_tokens in prop::option::weighted(0.3, 50u64..500),
        quality in prop::option::of(0u8..=100),
        tiers in prop_oneof![Just(Vec::new()), prop::sample::subsequence(ServiceTier::ALL.to_vec(), 1..=4)],
        concurrency_max in prop::option::weighted(0.3, 0u32..4),
        price in prop::option::weighted(0.8, 1u64..1000),
        warm_tokens in 0u64..2000,
        in_key_scope in prop::bool::weighted(0.9),
        failures in prop_oneof![3 => 0u64..4, 1 => 5u64..7],
        began in prop_oneof![2 => Just(0u64), 1 => 0u64..4],
        served in 0u64..8,
        ttft in 1u64..4000,
    ) -> Member {
        let mut member = member(&format!("u{number}"), 1);
        member.unit = Unit {
            jurisdictions, tier, context_tokens, max_output_tokens, quality, concurrency_max,
            data_classes: data.map(|classes| classes.into_iter().map(DataClass::from).collect()),
            capabilities: Capabilities::of(&capabilities), service_tiers: tiers,
            caching: Caching::Charged, ..member.unit
        };
        (member.price, member.warm_tokens, member.in_key_scope) = (price, warm_tokens, in_key_scope);
        if concurrency_max != Some(0) {
            serve(&mut member, served, ms(ttft), ms(20), ms(0));
        }
        for _ in 0..began {
            if let Ok(ticket) = member.state.began(&member.unit, 1000, 1000, ms(50_000)) {
                std::mem::drop(ticket);
            }
        }
        fail(&mut member, failures, Fault::Reset, ms(50_000));
        member
    }
}
fn any_members() -> impl Strategy<Value = Vec<Member>> {
    (0usize..12).prop_flat_map(|count| (0..count).map(any_member).collect::<Vec<_>>())
}
prop_compose! {
    fn any_need()(
        input_tokens in 0u64..1500,
        output_tokens in 0u64..300,
        output_tokens_max in prop::option::of(1u64..300),
        capabilities in prop::sample::subsequence(Capability::ALL.to_vec(), 0..=1),
        quality_min in prop::option::weighted(0.3, 0u8..=60),
        residency in prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(any_places(), 1..=2)],
        data_class in prop::option::weighted(0.3, prop::sample::select(vec!["public", "internal", "personal"])),
        tiers in prop::option::weighted(0.2, prop::sample::subsequence(Tier::ALL.to_vec(), 0..=3)),
        order in prop::sample::select(vec![Order::Cost, Order::Latency, Order::Listed]),
        budget in prop::option::weighted(0.3, 0i128..1_000_000),
        allow_unpriced: bool,
        ttft in prop::option::of(10u64..4000),
        tried in prop::option::of(0usize..12),
    ) -> Need {
        Need {
            input_tokens, output_tokens, output_tokens_max, quality_min, tiers, order, allow_unpriced,
            marked_tokens: input_tokens / 2,
            capabilities: Capabilities::of(&capabilities),
            residency: residency.into_iter().map(|jurisdictions| Residency { name: "rule".into(), jurisdictions }).collect(),
            data_class: data_class.map(DataClass::from),
            budget: budget.map(Money::from_pico),
            slo: ttft.map(|ttft| Slo { ttft: Some(ms(ttft)), per_token: Some(ms(30)), probability: 0.9 }),
            service_tier: ServiceTier::Standard,
            tried: tried.map(|number| UnitId::new(format!("main@u{number}"))).into_iter().collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Written against the words of each rule, not with the code that decides.
    #[test]
    fn nobody_chosen_violates_a_hard_filter(members in any_members(), need in any_need(), random: u64) {
        let now = ms(50_200);
        let decision = decide(&members, &need, now, random);
        for choice in &decision.choices {
            let Member { unit, state, price, in_key_scope, .. } = &members[choice.candidate];
            for rule in &need.residency {
                prop_assert!(!unit.jurisdictions.is_empty());
                prop_assert!(unit.jurisdictions.iter().all(|place| rule.jurisdictions.contains(place)));
            }
            prop_assert_eq!(&choice.processes_in, &unit.jurisdictions);
            if let (Some(class), Some(allowed)) = (&need.data_class, &unit.data_classes) {
                prop_assert!(allowed.contains(class));
            }
            prop_assert!(need.tiers.as_ref().is_none_or(|tiers| tiers.contains(&unit.tier)));
            prop_assert!(*in_key_scope);
            prop_assert!(need.capabilities.iter().all(|capability| unit.capabilities.has(capability)));
            let output = need.output_tokens_max.unwrap_or(1);
            prop_assert!(unit.context_tokens.is_none_or(|context| need.input_tokens + output <= context));
            prop_assert!(need.output_tokens_max <= unit.max_output_tokens.or(need.output_tokens_max));
            prop_assert!(need.quality_min <= unit.quality);
            prop_assert!(unit.service_tiers.is_empty() || unit.service_tiers.contains(&ServiceTier::Standard));
            prop_assert!(!need.tried.contains(&unit.id));
            let rests = matches!(state.breaker(now), BreakerState::Open { .. } | BreakerState::Probing { .. });
            prop_assert!(!rests);
            prop_assert!(unit.concurrency_max.is_none_or(|limit| state.in_flight() < limit));
            prop_assert!(choice.cost.is_some() || (price.is_none() && need.allow_unpriced && need.budget.is_none()));
            prop_assert!(choice.cost <= need.budget.or(choice.cost));
        }
    }

    #[test]
    fn every_candidate_is_chosen_or_rejected_once_and_the_log_reads_back(
        members in any_members(), need in any_need(), random: u64
    ) {
        let decision = decide(&members, &need, ms(50_200), random);
        let chosen = decision.choices.iter().map(|choice| choice.candidate);
        let mut all: Vec<_> = chosen.chain(decision.rejected.iter().map(|rejected| rejected.candidate)).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..members.len()).collect::<Vec<_>>());
        let written = serde_json::to_string(&decision).unwrap();
        prop_assert_eq!(serde_json::from_str::<Decision>(&written).unwrap(), decision.clone());
        prop_assert_eq!(decide(&members, &need, ms(50_200), random), decision, "the same inputs decide the same");
    }

    /// The merit order's rule, said again: who meets the SLO comes first; among them nobody is dearer than one hundredth
    /// above anybody later, unless that one is in the same run of equals.
    #[test]
    fn the_merit_order_is_by_cost_among_those_that_meet(members in any_members(), need in any_need(), random: u64) {
        // Few filters, so that there is something to order.
        let Need { input_tokens, output_tokens, allow_unpriced, slo, .. } = need;
        let need = Need { input_tokens, output_tokens, allow_unpriced, slo, ..Need::default() };
        let decision = decide(&members, &need, ms(50_200), random);
        let doubtful = |choice: &Choice| !choice.meets_slo;
        if let Some(first_doubtful) = decision.choices.iter().position(doubtful) {
            let later = &decision.choices[first_doubtful..];
            prop_assert!(later.iter().all(|choice| !choice.meets_slo || choice.standing != Standing::Proven));
        }
        let firsts: Vec<_> = decision.choices.iter().take_while(|choice| choice.meets_slo).collect();
        for (place, earlier) in firsts.iter().enumerate() {
            for later in &firsts[place..] {
                if earlier.standing == Standing::Proven && later.standing == Standing::Proven {
                    match (earlier.cost, later.cost) {
                        (Some(earlier), Some(later)) => {
                            prop_assert!(earlier.pico() * 100 <= later.pico() * 101, "{earlier} before {later}");
                        }
                        (earlier, later) => prop_assert!(earlier.is_some() || later.is_none()),
                    }
                }
            }
        }
    }

    #[test]
    fn a_listed_order_is_kept(members in any_members(), need in any_need(), random: u64) {
        let decision = decide(&members, &Need { order: Order::Listed, ..need }, ms(50_200), random);
        prop_assert!(decision.choices.is_sorted_by_key(|choice| choice.candidate));
    }
}
