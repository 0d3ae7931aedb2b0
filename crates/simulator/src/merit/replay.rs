//! What happens to each request, in virtual time?

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use domain::{Money, Usage};
use fleet::{
    Candidate, Decision, Fault, Need, Outcome, Residency, RetryBudget, Ticket, UnitId, UnitState, choose,
    fall_back,
};

use super::engine::{Engine, Key};
use super::policy::{Policy, slo};
use super::units::{Allowance, Behaviour, OWN, Spell, Supply, Trouble};
use super::workload::{Kind, Request};
use crate::random::Random;

/// What is the same for every policy.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub supplies: Vec<Supply>,
    pub spells: Vec<Spell>,
    pub requests: Vec<Request>,
    pub seed: u64,
}

/// One attempt, as the log of decisions keeps it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Logged {
    pub request: usize,
    pub attempt: u32,
    pub went_to: Option<UnitId>,
    pub decision: Decision,
}

/// How one request went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    pub ttft_us: Option<u64>,
    pub per_token_us: Option<u64>,
    pub cost: Money,
    pub answered_by: Option<usize>,
    pub attempts: u32,
}

/// At most so many units are asked for one request.
const ATTEMPTS_MAX: u32 = 3;
const FIRST_TOKEN_TIMEOUT_US: u64 = 10_000_000;
/// Until an error or a refusal comes back.
const ROUND_TRIP_US: u64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    FirstToken(Key),
    Done(Key),
    Refused(Key),
    LimitedFor(Key, Duration),
    Failed(Key),
    Broke(Key),
    Silent(Key),
    Dies(usize),
}

#[derive(Default)]
struct Attempt {
    number: u32,
    supply: usize,
    ticket: Option<Ticket>,
    first_token_us: Option<u64>,
    per_token_us: f64,
    tried: Vec<UnitId>,
}

struct World<'a> {
    scenario: &'a Scenario,
    policy: &'a Policy,
    supplies: Vec<Supply>,
    states: Vec<UnitState>,
    allowances: Vec<Allowance>,
    engine: Engine,
    retries: RetryBudget,
    attempts: Vec<Attempt>,
    fates: Vec<Fate>,
    random: Random,
    /// Expected answers by kind: a running mean, for nobody knows how long an answer will be.
    answer_tokens: [f64; 2],
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    event_count: u64,
    now_us: u64,
}

/// Replays the scenario under the policy; tells the log of every decision.
pub fn replay(scenario: &Scenario, policy: &Policy, log: &mut dyn FnMut(&Logged)) -> Vec<Fate> {
    let mut world = World::new(scenario, policy);
    while let Some(Reverse((at_us, _, event))) = world.events.pop() {
        world.now_us = at_us;
        world.happen(event, log);
    }
    world.fates
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, policy: &'a Policy) -> Self {
        let (units, requests) = (scenario.supplies.len(), scenario.requests.len());
        let mut supplies = scenario.supplies.clone();
        supplies[OWN].unit.concurrency_max = policy.own_limit();
        let mut world = Self {
            scenario,
            policy,
            supplies,
            states: vec![UnitState::new(); units],
            allowances: vec![Allowance::default(); units],
            engine: Engine::default(),
            retries: RetryBudget::new(),
            attempts: (0..requests).map(|_| Attempt::default()).collect(),
            fates: vec![Fate::default(); requests],
            random: Random::new(scenario.seed),
            answer_tokens: [150.0, 20.0],
            events: BinaryHeap::new(),
            event_count: 0,
            now_us: 0,
        };
        for (number, request) in scenario.requests.iter().enumerate() {
            world.at(request.arrives_us, Event::Arrives(number));
        }
        for spell in scenario.spells.iter().filter(|spell| spell.trouble == Trouble::Down) {
            world.at(spell.from_us, Event::Dies(spell.supply));
        }
        world
    }

    fn happen(&mut self, event: Event, log: &mut dyn FnMut(&Logged)) {
        match event {
            Event::Arrives(request) => {
                self.retries.earn();
                self.send(request, log);
            }
            Event::FirstToken(key) if self.is_current(key) => self.first_token(key),
            Event::Done(key) if self.is_current(key) => self.done(key),
            Event::Refused(key) if self.is_current(key) => {
                self.try_again(key, Outcome::Failed(Fault::Connect), log);
            }
            Event::Failed(key) if self.is_current(key) => {
                self.try_again(key, Outcome::Failed(Fault::Server), log);
            }
            Event::LimitedFor(key, time) if self.is_current(key) => {
                self.try_again(key, Outcome::RateLimited { retry_after: Some(time) }, log);
            }
            Event::Silent(key) if self.is_current(key) && !self.has_begun(key) => {
                self.engine.remove(key);
                self.try_again(key, Outcome::Failed(Fault::Timeout), log);
            }
            Event::Broke(key) if self.is_current(key) => {
                if self.has_begun(key) {
                    // Half an answer is out: nobody else may go on with it.
                    self.end(key.0, Outcome::Failed(Fault::Reset));
                } else {
                    self.try_again(key, Outcome::Failed(Fault::Reset), log);
                }
            }
            Event::Dies(_) => {
                for key in self.engine.die() {
                    self.at(self.now_us, Event::Broke(key));
                }
            }
            // It is about an attempt that was given up.
            Event::FirstToken(_)
            | Event::Done(_)
            | Event::Refused(_)
            | Event::Failed(_)
            | Event::LimitedFor(..)
            | Event::Silent(_)
            | Event::Broke(_) => {}
        }
        self.run_engine();
    }

    /// Decides and asks the first choice; without one the request ends here.
    fn send(&mut self, request: usize, log: &mut dyn FnMut(&Logged)) {
        self.attempts[request].number += 1;
        self.fates[request].attempts += 1;
        let attempt = self.attempts[request].number;
        let (decision, list) = self.decide(request);
        let now = self.now();
        let chosen = match attempt {
            1 => decision.first(),
            _ => fall_back(&decision, &mut self.retries, now),
        };
        let chosen = chosen.map(|choice| list[choice.candidate]);
        if let Some(supply) = chosen {
            self.ask(request, supply);
        }
        let went_to = chosen.map(|supply| self.supplies[supply].unit.id.clone());
        log(&Logged { request, attempt, went_to, decision });
    }

    fn decide(&mut self, number: usize) -> (Decision, Vec<usize>) {
        self.states[OWN].queue(self.engine.running(), self.engine.waiting());
        let request = &self.scenario.requests[number];
        let need = Need {
            input_tokens: request.input_tokens,
            output_tokens: self.answer_tokens[request.kind as usize].round() as u64,
            slo: self.policy.slo(slo()),
            residency: if request.eu_only { vec![eu_only()] } else { Vec::new() },
            order: self.policy.order(),
            tried: self.attempts[number].tried.clone(),
            ..Need::default()
        };
        let list = self.policy.list(number, self.supplies.len());
        let candidates: Vec<_> = list
            .iter()
            .map(|&supply| Candidate {
                unit: &self.supplies[supply].unit,
                state: &self.states[supply],
                warm_tokens: 0,
                in_key_scope: true,
            })
            .collect();
        let cost = |candidate: usize, usage: &Usage| self.supplies[list[candidate]].cost(usage);
        let decision = choose(&need, &candidates, cost, self.now(), self.random.bits());
        (decision, list)
    }

    fn ask(&mut self, number: usize, supply: usize) {
        let request = &self.scenario.requests[number];
        let (key, now) = ((number, self.attempts[number].number), self.now());
        let Supply { unit, behaviour, .. } = &self.supplies[supply];
        let ticket = self.states[supply]
            .began(unit, request.input_tokens, request.input_tokens, now)
            .expect("nothing happened since the decision");
        let attempt = &mut self.attempts[number];
        (attempt.supply, attempt.ticket) = (supply, Some(ticket));
        attempt.tried.push(unit.id.clone());
        let behaviour = *behaviour;
        let (mut is_silent, mut slowness) = (false, 1.0);
        for spell in self.scenario.spells.iter().filter(|spell| spell.supply == supply) {
            if (spell.from_us..spell.until_us).contains(&self.now_us) {
                match spell.trouble {
                    Trouble::Down => return self.at(self.now_us + ROUND_TRIP_US, Event::Refused(key)),
                    Trouble::Errors => return self.at(self.now_us + ROUND_TRIP_US, Event::Failed(key)),
                    Trouble::Silent => is_silent = true,
                    Trouble::Slow(times) => slowness = f64::max(slowness, times),
                }
            }
        }
        self.at(self.now_us + FIRST_TOKEN_TIMEOUT_US, Event::Silent(key));
        match behaviour {
            _ if is_silent => {}
            Behaviour::Engine => self.engine.submit(key, request.input_tokens, request.output_tokens),
            Behaviour::Hosted(hosted) => {
                match self.allowances[supply].take(hosted.requests_per_minute, self.now_us) {
                    Err(wait) => self.at(self.now_us + ROUND_TRIP_US, Event::LimitedFor(key, wait)),
                    Ok(()) => {
                        let in_flight = self.states[supply].in_flight();
                        let (ttft_us, per_token_us) =
                            hosted.draw(request.input_tokens, in_flight, slowness, &mut self.random);
                        self.attempts[number].per_token_us = per_token_us;
                        self.at(self.now_us + ttft_us as u64, Event::FirstToken(key));
                    }
                }
            }
        }
    }

    fn first_token(&mut self, key: Key) {
        let (number, now) = (key.0, self.now());
        let supply = self.attempts[number].supply;
        if supply == OWN {
            let Some(per_token_us) = self.engine.first_token(key) else { return };
            self.attempts[number].per_token_us = per_token_us;
        }
        let request = &self.scenario.requests[number];
        let attempt = &mut self.attempts[number];
        attempt.first_token_us = Some(self.now_us);
        let ticket = attempt.ticket.as_mut().expect("it is under way");
        self.states[supply].first_token(ticket, now);
        self.fates[number].ttft_us = Some(self.now_us - request.arrives_us);
        let rest_us = (request.output_tokens - 1) as f64 * attempt.per_token_us;
        self.at(self.now_us + rest_us as u64, Event::Done(key));
    }

    fn done(&mut self, key: Key) {
        let number = key.0;
        let Request { input_tokens, output_tokens, kind, .. } = self.scenario.requests[number];
        let attempt = &self.attempts[number];
        let supply = attempt.supply;
        let usage = Usage { input_uncached: input_tokens, output: output_tokens, ..Usage::default() };
        let fate = &mut self.fates[number];
        fate.cost = self.supplies[supply].cost(&usage).expect("all six have a price");
        fate.answered_by = Some(supply);
        fate.per_token_us = Some(attempt.per_token_us as u64);
        let mean = &mut self.answer_tokens[match kind {
            Kind::Chat => 0,
            Kind::Code => 1,
        }];
        *mean += 0.01 * (output_tokens as f64 - *mean);
        if supply == OWN {
            self.engine.remove(key);
        }
        self.end(number, Outcome::Answered { output_tokens });
    }

    fn try_again(&mut self, key: Key, outcome: Outcome, log: &mut dyn FnMut(&Logged)) {
        self.end(key.0, outcome);
        if key.1 < ATTEMPTS_MAX {
            self.send(key.0, log);
        }
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        let now = self.now();
        let attempt = &mut self.attempts[number];
        let ticket = attempt.ticket.take().expect("it is under way");
        self.states[attempt.supply].ended(ticket, outcome, now);
    }

    fn run_engine(&mut self) {
        if let Some((key, at_us)) = self.engine.advance(self.now_us) {
            self.at(at_us, Event::FirstToken(key));
        }
    }

    fn is_current(&self, key: Key) -> bool {
        let attempt = &self.attempts[key.0];
        attempt.number == key.1 && attempt.ticket.is_some()
    }
    fn has_begun(&self, key: Key) -> bool {
        self.attempts[key.0].first_token_us.is_some()
    }
    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }
    fn at(&mut self, at_us: u64, event: Event) {
        self.event_count += 1;
        self.events.push(Reverse((at_us, self.event_count, event)));
    }
}

pub fn eu_only() -> Residency {
    Residency { name: "eu-only".into(), jurisdictions: vec!["eu".into()] }
}
