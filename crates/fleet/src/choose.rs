//! Which units may answer this request, and in which order?

use std::cmp::Ordering;
use std::time::Duration;

use domain::{Money, ServiceTier, Usage};

use crate::breaker::{BreakerState, micros};
use crate::{Caching, Choice, Decision, Need, Order, Reason, Rejected, Standing, Unit, UnitState};

/// Costs within this part of the cheapest are equal: a hundredth is less than what a guess of the answer's length is worth.
const EQUAL_COST: i128 = 100;
/// Of units that are hardly measured, each awaits this many first tokens at a time, to be measured with.
const EXPLORERS_MAX: usize = 2;

/// A unit that answers to the name that was asked for, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub unit: &'a Unit,
    pub state: &'a UnitState,
    /// Tokens at the prompt's beginning that the unit has computed lately: [`WarmIndex::warm_tokens`](crate::WarmIndex).
    pub warm_tokens: u64,
    /// Whether the caller's key may use it.
    pub in_key_scope: bool,
}

/// Returns every candidate that may answer, best first, and every other with the reason why not. `cost` prices a usage at the
/// candidate of that number, or knows no price. `random` decides between equals.
pub fn choose(
    need: &Need,
    candidates: &[Candidate<'_>],
    cost: impl Fn(usize, &Usage) -> Option<Money>,
    now: Duration,
    random: u64,
) -> Decision {
    let (mut choices, mut rejected) = (Vec::new(), Vec::new());
    for (place, candidate) in candidates.iter().enumerate() {
        let usage_cost = |usage: &Usage| cost(place, usage);
        match weigh(need, candidate, place, usage_cost, now) {
            Ok(choice) => choices.push(choice),
            Err(reason) => {
                rejected.push(Rejected { unit: candidate.unit.id.clone(), candidate: place, reason });
            }
        }
    }
    let mut ranked: Vec<_> =
        choices.into_iter().map(|choice| Ranked::new(choice, need, candidates, random)).collect();
    match need.order {
        Order::Cost => sort_by_merit(&mut ranked),
        Order::Latency => ranked.sort_by(Ranked::by_latency),
        Order::Listed => {}
    }
    let choices = ranked.into_iter().map(|ranked| ranked.choice).collect();
    let residency = need.residency.clone();
    Decision { at_us: micros(now), order: need.order, residency, choices, rejected }
}

/// Returns what may be expected of a candidate, or the first filter that keeps it out. What the law says comes first, so that
/// a log of decisions shows it for every unit that it kept out.
fn weigh(
    need: &Need,
    candidate: &Candidate<'_>,
    place: usize,
    cost: impl Fn(&Usage) -> Option<Money>,
    now: Duration,
) -> Result<Choice, Reason> {
    let Candidate { unit, state, .. } = *candidate;
    let warm_tokens = candidate.warm_tokens.min(need.input_tokens);
    permitted(need, candidate)?;
    able(need, unit)?;
    if need.tried.contains(&unit.id) {
        return Err(Reason::Tried);
    }
    state.admits(unit, now)?;
    state.quota_allows(need.input_tokens, now)?;
    let cost = affordable(need, expected_cost(need, unit, warm_tokens, cost))?;

    let cold_tokens = need.input_tokens - warm_tokens;
    let predicted = state.predict(need.input_tokens, cold_tokens, need.slo.as_ref(), now);
    Ok(Choice {
        unit: unit.id.clone(),
        candidate: place,
        processes_in: unit.jurisdictions.clone(),
        cost,
        ttft_us: micros(predicted.ttft),
        ttft_p95_us: micros(predicted.ttft_p95),
        per_token_us: micros(predicted.per_token),
        probability: predicted.probability,
        meets_slo: need.slo.is_none_or(|slo| predicted.probability >= slo.probability),
        warm_tokens,
        load: state.load(),
        standing: standing(state, now),
    })
}

/// What the law, the operator and the key allow.
fn permitted(need: &Need, candidate: &Candidate<'_>) -> Result<(), Reason> {
    let unit = candidate.unit;
    if let Some(rule) = need.residency.iter().find(|rule| !rule.admits(&unit.jurisdictions)) {
        let (rule, allowed) = (rule.name.clone(), rule.jurisdictions.clone());
        return Err(Reason::Residency { rule, allowed, processes_in: unit.jurisdictions.clone() });
    }
    if let (Some(class), Some(allowed)) = (&need.data_class, &unit.data_classes)
        && !allowed.contains(class)
    {
        return Err(Reason::DataClass { class: class.clone(), allowed: allowed.clone() });
    }
    if let Some(allowed) = need.tiers.as_ref().filter(|tiers| !tiers.contains(&unit.tier)) {
        return Err(Reason::Tier { tier: unit.tier, allowed: allowed.clone() });
    }
    if !candidate.in_key_scope {
        return Err(Reason::KeyScope);
    }
    Ok(())
}

/// What the unit can do at all.
fn able(need: &Need, unit: &Unit) -> Result<(), Reason> {
    let missing = need.capabilities.without(unit.capabilities);
    if !missing.is_empty() {
        return Err(Reason::Capability { missing });
    }
    let (input_tokens, output_tokens) = (need.input_tokens, need.output_tokens_max.unwrap_or(1));
    if let Some(context_tokens) = unit.context_tokens
        && input_tokens.saturating_add(output_tokens) > context_tokens
    {
        return Err(Reason::Context { input_tokens, output_tokens, context_tokens });
    }
    if let (Some(wanted), Some(limit)) = (need.output_tokens_max, unit.max_output_tokens)
        && wanted > limit
    {
        return Err(Reason::OutputLimit { wanted, limit });
    }
    if let Some(min) = need.quality_min
        && unit.quality.is_none_or(|quality| quality < min)
    {
        return Err(Reason::Quality { quality: unit.quality, min });
    }
    let standard_alone = unit.service_tiers.is_empty() && need.service_tier == ServiceTier::Standard;
    if !standard_alone && !unit.service_tiers.contains(&need.service_tier) {
        return Err(Reason::ServiceTier { wanted: need.service_tier });
    }
    Ok(())
}

fn affordable(need: &Need, cost: Option<Money>) -> Result<Option<Money>, Reason> {
    match (cost, need.budget) {
        (None, _) if !need.allow_unpriced => Err(Reason::Unpriced),
        // What has no price cannot be shown to fit a budget.
        (None, Some(_)) => Err(Reason::Unpriced),
        (Some(cost), Some(left)) if cost > left => Err(Reason::Budget { cost, left }),
        (cost, _) => Ok(cost),
    }
}

/// Prices the request as the unit would bill it: warm tokens as read, cold ones up to the mark as written, where it bills so.
fn expected_cost(
    need: &Need,
    unit: &Unit,
    warm_tokens: u64,
    cost: impl Fn(&Usage) -> Option<Money>,
) -> Option<Money> {
    let plain = Usage { input_uncached: need.input_tokens, output: need.output_tokens, ..Usage::default() };
    let written = match unit.caching {
        Caching::Nothing => return cost(&plain),
        Caching::Free => 0,
        Caching::Charged => need.marked_tokens.min(need.input_tokens).saturating_sub(warm_tokens),
    };
    let cached = Usage {
        input_uncached: need.input_tokens - warm_tokens - written,
        cache_read: warm_tokens,
        cache_write_5m: written,
        ..plain
    };
    // A price list that says nothing of caches prices all of it as plain input.
    cost(&cached).or_else(|| cost(&plain))
}

fn standing(state: &UnitState, now: Duration) -> Standing {
    match state.breaker(now) {
        BreakerState::HalfOpen => Standing::Probe,
        BreakerState::Recovering { .. } => Standing::Recovering,
        _ if state.is_proven(now) => Standing::Proven,
        _ => Standing::Unproven,
    }
}

/// A choice with what it is sorted by.
struct Ranked {
    choice: Choice,
    group: Group,
    /// Load in steps of a factor √2, less what a warm prefix is worth.
    load_step: i64,
    /// Until the last token, in steps of a tenth: finer differences are noise, and following noise is herding.
    latency_step: i64,
    rotation: u64,
}

/// Those before come first, whatever they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Meets,
    /// Is likely too slow, or is being measured by others already.
    Doubtful,
    /// Has as many requests as one that has just failed should have. It still answers if nobody else can.
    Recovering,
}

impl Ranked {
    fn new(choice: Choice, need: &Need, candidates: &[Candidate<'_>], random: u64) -> Self {
        let state = candidates[choice.candidate].state;
        let latency_us = choice.ttft_us + choice.per_token_us * need.output_tokens.saturating_sub(1);
        let warm_share = choice.warm_tokens as f64 / need.input_tokens.max(1) as f64;
        Self {
            group: group(&choice, need, state),
            // A prompt that is all warm makes up for twice the load: its prefill, which it saves, is about half of the work.
            load_step: (2.0 * (choice.load as f64 + 1.0).log2() - 2.0 * warm_share).floor() as i64,
            latency_step: ((latency_us as f64 + 1.0).ln() * 10.0) as i64,
            rotation: spread(random, choice.candidate),
            choice,
        }
    }

    /// Those without a price come after those with one.
    fn by_cost(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (self.choice.cost, other.choice.cost);
        mine.is_none().cmp(&theirs.is_none()).then(mine.cmp(&theirs))
    }
    fn among_equals(&self, other: &Self) -> Ordering {
        let key = |ranked: &Self| (ranked.load_step, ranked.latency_step, ranked.rotation);
        key(self).cmp(&key(other))
    }
    fn by_latency(&self, other: &Self) -> Ordering {
        let key = |ranked: &Self| (ranked.group, ranked.latency_step, ranked.load_step);
        key(self).cmp(&key(other)).then_with(|| self.by_cost(other)).then(self.rotation.cmp(&other.rotation))
    }
    /// The likeliest first, in steps of a twentieth; a crowd before unknown units is then spread by load.
    fn by_likelihood(&self, other: &Self) -> Ordering {
        let likely = |ranked: &Self| (ranked.choice.probability * 20.0).round() as i64;
        likely(other)
            .cmp(&likely(self))
            .then(self.load_step.cmp(&other.load_step))
            .then_with(|| self.by_cost(other))
            .then_with(|| self.among_equals(other))
    }
}

fn group(choice: &Choice, need: &Need, state: &UnitState) -> Group {
    if let Standing::Recovering = choice.standing
        && state.is_over_allowance()
    {
        return Group::Recovering;
    }
    // Without an SLO there is nothing to prove.
    let crowded =
        need.slo.is_some() && choice.standing == Standing::Unproven && state.awaited() >= EXPLORERS_MAX;
    if choice.meets_slo && !crowded { Group::Meets } else { Group::Doubtful }
}

/// Cheapest first among those that meet the SLO; costs within a hundredth of the cheapest of their run are equal.
fn sort_by_merit(ranked: &mut [Ranked]) {
    ranked.sort_by(|left, right| left.group.cmp(&right.group).then_with(|| left.by_cost(right)));
    for group in ranked.chunk_by_mut(|left, right| left.group == right.group) {
        if group[0].group == Group::Doubtful {
            group.sort_by(Ranked::by_likelihood);
            continue;
        }
        let mut rest = group;
        while !rest.is_empty() {
            let cheapest = rest[0].choice.cost;
            let run = rest.iter().take_while(|ranked| is_equal(cheapest, ranked.choice.cost)).count();
            let (equals, dearer) = rest.split_at_mut(run);
            equals.sort_by(Ranked::among_equals);
            rest = dearer;
        }
    }
}

fn is_equal(cheapest: Option<Money>, cost: Option<Money>) -> bool {
    match (cheapest, cost) {
        (Some(cheapest), Some(cost)) => (cost - cheapest).pico() * EQUAL_COST <= cheapest.pico(),
        (cheapest, cost) => cheapest == cost,
    }
}

/// Gives each candidate a number of its own from one random number.
fn spread(random: u64, place: usize) -> u64 {
    let mut bits = random ^ (place as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    bits ^ (bits >> 33)
}
