//! Is it worth asking a ledger that has just not answered?
//!
//! ```text
//!            failures in a row            pause is over
//!  closed ───────────────────▶ open ───────────────────▶ probing: one request asks, the others are refused
//!    ▲                          ▲                            │
//!    │            answered      └──────── not answered ──────┤
//!    └───────────────────────────────────────────────────────┘
//! ```
//! Without it, each request would wait for the ledger's own time limit, and a crowd of waiting requests would fill all places.
//! With it, only the first few wait; the others hear within a moment that the ledger is unavailable.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many calls in a row may fail before nobody waits any more.
const FAILURES_MAX: u32 = 3;
/// How long nobody asks after that; a probe follows.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    is_probing: bool,
}

impl Breaker {
    /// Whether to ask now. Whoever may ask must say how it went.
    pub fn may_ask(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        match state.open_until {
            None => true,
            Some(until) if now < until || state.is_probing => false,
            Some(_) => {
                state.is_probing = true;
                true
            }
        }
    }

    /// Whether nobody would ask at this moment; asks for nothing itself.
    pub fn is_resting(&self, now: Instant) -> bool {
        let state = self.0.lock();
        state.open_until.is_some_and(|until| now < until || state.is_probing)
    }

    pub fn answered(&self) {
        *self.0.lock() = State::default();
    }

    pub fn failed(&self, now: Instant) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        state.is_probing = false;
        if state.failures >= FAILURES_MAX {
            state.open_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_few_failures_nobody_asks_and_then_one_does() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            assert!(breaker.may_ask(start));
            breaker.failed(start);
        }
        assert!(!breaker.may_ask(start));
        let later = start + PAUSE;
        assert!(breaker.may_ask(later), "one probe");
        assert!(!breaker.may_ask(later), "and only one");
        breaker.failed(later);
        assert!(!breaker.may_ask(later + PAUSE / 2));
        assert!(breaker.may_ask(later + PAUSE));
        breaker.answered();
        assert!(breaker.may_ask(later + PAUSE) && breaker.may_ask(later + PAUSE));
    }

    #[test]
    fn a_failure_between_answers_refuses_nobody() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now);
            breaker.answered();
        }
        assert!(breaker.may_ask(now));
    }
}
