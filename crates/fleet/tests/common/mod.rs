//! A small fleet to decide over.
#![allow(dead_code)]

use std::time::Duration;

use domain::{Money, Price, Usage};
use fleet::*;

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Debug)]
pub struct Member {
    pub unit: Unit,
    pub state: UnitState,
    /// Picodollars of one token of input, a fifth of one of output; `None` is unpriced.
    pub price: Option<u64>,
    pub warm_tokens: u64,
    pub in_key_scope: bool,
}

pub fn member(name: &str, price: u64) -> Member {
    let unit = Unit::new("main".into(), name.into());
    Member { unit, state: UnitState::new(), price: Some(price), warm_tokens: 0, in_key_scope: true }
}

pub fn need() -> Need {
    Need { input_tokens: 1000, output_tokens: 100, ..Need::default() }
}

pub fn slo(ttft_ms: u64) -> Option<Slo> {
    Some(Slo { ttft: Some(ms(ttft_ms)), per_token: None, probability: 0.95 })
}

pub fn decide(members: &[Member], need: &Need, now: Duration, random: u64) -> Decision {
    let candidates: Vec<_> = members
        .iter()
        .map(|member| Candidate {
            unit: &member.unit,
            state: &member.state,
            warm_tokens: member.warm_tokens,
            in_key_scope: member.in_key_scope,
        })
        .collect();
    choose(need, &candidates, |place, usage| price(&members[place], usage), now, random)
}

/// Reading from a cache costs a tenth, writing to one a quarter more.
pub fn price(member: &Member, usage: &Usage) -> Option<Money> {
    let token = Price::from_pico_per_token(member.price?);
    let twentieths =
        20 * usage.input_uncached + 2 * usage.cache_read + 25 * usage.cache_write_5m + 100 * usage.output;
    Some(Money::from_pico(token.of(twentieths).pico() / 20))
}

/// Serves requests one after the other, each with the same times.
pub fn serve(
    member: &mut Member,
    count: u64,
    ttft: Duration,
    per_token: Duration,
    from: Duration,
) -> Duration {
    let mut now = from;
    for _ in 0..count {
        let mut ticket = member.state.began(&member.unit, 1000, 1000, now).expect("it is well");
        now += ttft;
        member.state.first_token(&mut ticket, now);
        now += per_token * 99;
        member.state.ended(ticket, Outcome::Answered { output_tokens: 100 }, now);
    }
    now
}

pub fn fail(member: &mut Member, count: u64, fault: Fault, now: Duration) {
    for _ in 0..count {
        let Ok(ticket) = member.state.began(&member.unit, 1000, 1000, now) else { return };
        member.state.ended(ticket, Outcome::Failed(fault), now);
    }
}

pub fn names(decision: &Decision) -> Vec<&str> {
    decision.choices.iter().map(|choice| choice.unit.as_str().trim_start_matches("main@")).collect()
}
