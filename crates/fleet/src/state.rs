//! How is a unit doing right now?

use std::collections::VecDeque;
use std::time::Duration;

use crate::breaker::{Breaker, BreakerState, Fault, micros};
use crate::estimate::{Estimate, Prior, Size};
use crate::{Reason, Slo, Unit};

/// How long a unit rests after a rate limit that does not say how long.
const REST: Duration = Duration::from_secs(5);
/// No unit rests longer than this, whatever it asks for: a `Retry-After` of days would hide it until somebody restarts us.
const REST_MAX: Duration = Duration::from_secs(3600);
/// Requests whose first token is awaited and whose age is looked at: 8 bytes each. Those beyond are only counted.
const AWAITED_MAX: usize = 1024;
/// The pace of a long answer is learnt when it has this many tokens, and again when it ends.
const PACED_TOKENS: u64 = 32;
/// With fewer measurements than this, what is expected is mostly belief.
const PROVEN_WEIGHT: f64 = 3.0;

/// The live side of one unit: about 4 KiB, and 8 bytes for each request that waits for its first token.
#[derive(Clone, Debug)]
pub struct UnitState {
    in_flight: u32,
    queue: Queue,
    quota: Option<Quota>,
    rests_until_us: u64,
    breaker: Breaker,
    ttft: Estimate,
    per_token: Estimate,
    /// When they began, ascending.
    awaited: VecDeque<u64>,
    /// Of all requests that wait for their first token.
    awaited_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    running: u64,
    waiting: u64,
}

/// What a provider says is left, as its headers do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
    /// When it is whole again.
    pub renews_us: u64,
}

/// One request under way at a unit. Whoever holds it says how it ended.
#[derive(Debug)]
#[must_use = "a request that began must be said to have ended"]
pub struct Ticket {
    began_us: u64,
    first_token_us: Option<u64>,
    size: Size,
    context_tokens: u64,
    epoch: u32,
    is_probe: bool,
    is_awaited: bool,
    is_paced: bool,
}

impl Ticket {
    /// Returns what the time between its tokens depends on.
    fn next_size(&self) -> Size {
        Size { tokens: self.context_tokens, load: self.size.load, ahead_tokens: 0 }
    }
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

/// How a request ended, as far as it says something about the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a whole answer of so many tokens.
    Answered { output_tokens: u64 },
    /// By the client, or by us for its sake: it left, its budget ended, another unit was faster.
    Cancelled { output_tokens: u64 },
    /// The request itself was wrong, or its key: no other unit would do better, and this one did nothing wrong.
    ClientFault,
    /// The unit asks for a pause.
    RateLimited { retry_after: Option<Duration> },
    /// The upstream is to blame.
    Failed(Fault),
}

/// What is expected of a unit for one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub ttft: Duration,
    pub ttft_p95: Duration,
    pub per_token: Duration,
    /// Of the SLO's two limits, the less likely one; 1 without an SLO.
    pub probability: f64,
}

impl Default for UnitState {
    fn default() -> Self {
        Self::new()
    }
}

impl UnitState {
    pub fn new() -> Self {
        Self {
            in_flight: 0,
            queue: Queue::default(),
            quota: None,
            rests_until_us: 0,
            breaker: Breaker::default(),
            ttft: Estimate::new(Prior::TTFT),
            per_token: Estimate::new(Prior::PER_TOKEN),
            awaited: VecDeque::new(),
            awaited_tokens: 0,
        }
    }

    /// Takes a place for a request whose prompt has `cold_tokens` that nobody has computed, of `input_tokens`. Refuses as
    /// [`choose`](crate::choose) would: between a decision and this call, others may have come.
    pub fn began(
        &mut self,
        unit: &Unit,
        input_tokens: u64,
        cold_tokens: u64,
        now: Duration,
    ) -> Result<Ticket, Reason> {
        let now_us = micros(now);
        self.admits(unit, now)?;
        let size = Size { tokens: cold_tokens, load: self.load(), ahead_tokens: self.awaited_tokens };
        self.awaited_tokens += cold_tokens;
        let is_probe = self.breaker.began(now_us);
        let is_awaited = self.awaited.len() < AWAITED_MAX;
        if is_awaited {
            let place = self.awaited.partition_point(|&began| began <= now_us);
            self.awaited.insert(place, now_us);
        }
        self.in_flight += 1;
        Ok(Ticket {
            began_us: now_us,
            first_token_us: None,
            size,
            context_tokens: input_tokens,
            epoch: self.breaker.epoch(),
            is_probe,
            is_awaited,
            is_paced: false,
        })
    }

    /// Notes the first token of a streamed answer.
    pub fn first_token(&mut self, ticket: &mut Ticket, now: Duration) {
        let now_us = micros(now);
        if ticket.first_token_us.is_some() {
            return;
        }
        self.forget_awaited(ticket);
        ticket.first_token_us = Some(now_us);
        self.ttft.measured(seconds(ticket.began_us, now_us), ticket.size, now_us);
        self.note_life(ticket);
    }

    /// Notes that a streamed answer has so many tokens by now. It may be called for each of them: long answers would
    /// otherwise tell how slow a unit has become only when they end.
    pub fn progressed(&mut self, ticket: &mut Ticket, output_tokens: u64, now: Duration) {
        if let Some(first_us) = ticket.first_token_us
            && !ticket.is_paced
            && output_tokens >= PACED_TOKENS
        {
            ticket.is_paced = true;
            let next = ticket.next_size();
            self.learn_pace(first_us, output_tokens, next, micros(now));
        }
    }

    /// Gives the place back and learns from what happened. An answer that never told its first token was not streamed: what
    /// it took in all is then shared out as expected.
    pub fn ended(&mut self, mut ticket: Ticket, outcome: Outcome, now: Duration) {
        let now_us = micros(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.forget_awaited(&mut ticket);
        match outcome {
            Outcome::Answered { output_tokens } => {
                self.learn_answer(&ticket, output_tokens, now_us);
                self.note_life(&ticket);
                self.breaker.succeeded(ticket.epoch, now_us);
            }
            Outcome::Cancelled { output_tokens } => {
                self.learn_cancelled(&ticket, output_tokens, now_us);
                self.breaker.told_nothing(ticket.epoch);
            }
            Outcome::ClientFault => self.breaker.told_nothing(ticket.epoch),
            Outcome::RateLimited { retry_after } => {
                self.rest(now + retry_after.unwrap_or(REST).min(REST_MAX));
                self.breaker.told_nothing(ticket.epoch);
            }
            Outcome::Failed(fault) => {
                if ticket.first_token_us.is_none() {
                    self.ttft.failed(now_us);
                } else {
                    self.per_token.failed(now_us);
                }
                self.breaker.failed(ticket.epoch, fault, now_us);
            }
        }
    }

    /// Says what an engine that reports it has to do, also for others than us.
    pub fn queue(&mut self, running: u64, waiting: u64) {
        self.queue = Queue { running, waiting };
    }
    pub fn quota(&mut self, quota: Quota) {
        self.quota = Some(quota);
    }
    /// Keeps the unit from being asked until then; a shorter rest never ends a longer one.
    pub fn rest(&mut self, until: Duration) {
        self.rests_until_us = self.rests_until_us.max(micros(until));
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }
    /// Returns how many requests it has: what an engine reports, and at least our own.
    pub fn load(&self) -> u64 {
        u64::from(self.in_flight).max(self.queue.running + self.queue.waiting)
    }
    pub fn breaker(&self, now: Duration) -> BreakerState {
        self.breaker.state(micros(now))
    }
    /// Returns whether it has come back from a failure and has as many requests as that allows.
    pub(crate) fn is_over_allowance(&self) -> bool {
        self.breaker.allowance().is_some_and(|allowance| self.in_flight >= allowance)
    }
    /// Returns how many requests await their first token.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.len()
    }
    /// Returns whether what is expected of it was measured, and lately.
    pub fn is_proven(&self, now: Duration) -> bool {
        self.ttft.weight(micros(now)) >= PROVEN_WEIGHT
    }

    pub fn predict(
        &self,
        input_tokens: u64,
        cold_tokens: u64,
        slo: Option<&Slo>,
        now: Duration,
    ) -> Prediction {
        let now_us = micros(now);
        let load = self.load();
        let first = Size { tokens: cold_tokens, load, ahead_tokens: self.awaited_tokens };
        let next = Size { tokens: input_tokens, load, ahead_tokens: 0 };
        let mut probability: f64 = 1.0;
        if let Some(limit) = slo.and_then(|slo| slo.ttft) {
            let late = self.awaited_since(now_us.saturating_sub(micros(limit)));
            probability = probability.min(self.ttft.probability(limit, first, late, now_us));
        }
        if let Some(limit) = slo.and_then(|slo| slo.per_token) {
            probability = probability.min(self.per_token.probability(limit, next, 0, now_us));
        }
        Prediction {
            ttft: Duration::from_secs_f64(self.ttft.quantile(0.5, first).min(1e6)),
            ttft_p95: Duration::from_secs_f64(self.ttft.quantile(0.95, first).min(1e6)),
            per_token: Duration::from_secs_f64(self.per_token.quantile(0.5, next).min(1e6)),
            probability,
        }
    }

    /// Returns the filter of the unit's present state that keeps every request out, if there is one.
    pub(crate) fn admits(&self, unit: &Unit, now: Duration) -> Result<(), Reason> {
        let now_us = micros(now);
        match self.breaker.state(now_us) {
            BreakerState::Open { until_us } => {
                let (last, failures) = (self.breaker.last_fault(), self.breaker.failures());
                return Err(Reason::BreakerOpen { last, failures, until_us, now_us });
            }
            BreakerState::Probing { .. } => return Err(Reason::Probing),
            BreakerState::Closed | BreakerState::HalfOpen | BreakerState::Recovering { .. } => {}
        }
        if now_us < self.rests_until_us {
            return Err(Reason::Resting { until_us: self.rests_until_us, now_us });
        }
        match unit.concurrency_max {
            Some(limit) if self.in_flight >= limit => {
                Err(Reason::ConcurrencyLimit { in_flight: self.in_flight, limit })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn quota_allows(&self, input_tokens: u64, now: Duration) -> Result<(), Reason> {
        let now_us = micros(now);
        let Some(quota) = self.quota.filter(|quota| now_us < quota.renews_us) else { return Ok(()) };
        let used = quota.requests == Some(0) || quota.tokens.is_some_and(|tokens| tokens < input_tokens);
        if used { Err(Reason::QuotaUsed { until_us: quota.renews_us, now_us }) } else { Ok(()) }
    }

    /// A unit that is back is not judged by how it failed: its allowance limits what that may cost.
    fn note_life(&mut self, ticket: &Ticket) {
        if self.breaker.lived(ticket.epoch) {
            self.ttft.forgive();
            self.per_token.forgive();
        }
    }

    fn learn_answer(&mut self, ticket: &Ticket, output_tokens: u64, now_us: u64) {
        let next = ticket.next_size();
        match ticket.first_token_us {
            Some(first_us) => self.learn_pace(first_us, output_tokens, next, now_us),
            None => {
                let steps = output_tokens.saturating_sub(1) as f64;
                let (first, each) = (self.ttft.expected(ticket.size), self.per_token.expected(next));
                let ratio = seconds(ticket.began_us, now_us) / (first + steps * each);
                self.ttft.measured(ratio * first, ticket.size, now_us);
                if steps > 0.0 {
                    self.per_token.measured(ratio * each, next, now_us);
                }
            }
        }
    }

    /// Whoever left before the first token waited at least so long: that counts where it is more than was expected.
    fn learn_cancelled(&mut self, ticket: &Ticket, output_tokens: u64, now_us: u64) {
        let next = ticket.next_size();
        match ticket.first_token_us {
            Some(first_us) => self.learn_pace(first_us, output_tokens, next, now_us),
            None => {
                let waited = seconds(ticket.began_us, now_us);
                if waited > self.ttft.expected(ticket.size) {
                    self.ttft.measured(waited, ticket.size, now_us);
                }
            }
        }
    }

    fn learn_pace(&mut self, first_us: u64, output_tokens: u64, size: Size, now_us: u64) {
        if output_tokens > 1 {
            let each = seconds(first_us, now_us) / (output_tokens - 1) as f64;
            self.per_token.measured(each, size, now_us);
        }
    }

    fn awaited_since(&self, began_us: u64) -> u64 {
        self.awaited.partition_point(|&began| began < began_us) as u64
    }

    fn forget_awaited(&mut self, ticket: &mut Ticket) {
        if ticket.first_token_us.is_none() {
            self.awaited_tokens = self.awaited_tokens.saturating_sub(ticket.size.tokens);
        }
        if std::mem::take(&mut ticket.is_awaited) {
            let place = self.awaited.partition_point(|&began| began < ticket.began_us);
            debug_assert_eq!(self.awaited.get(place), Some(&ticket.began_us), "what is awaited was noted");
            self.awaited.remove(place);
        }
    }
}

fn seconds(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e6
}
