//! When is a store that others share asked again after it has failed?
//!
//! ```text
//!   closed ── 3 failures in a row ─▶ open ── pause over ─▶ trying ── connected ─▶ closed, on probation
//!                                     ▲                       │ failed               │ 1 failure
//!                                     └──── a longer pause ───┴──────────────────────┘
//! ```
//!
//! Pure: the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub struct Breaker {
    state: State,
    failures: u32,
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Trying,
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Ask,
    /// Connect, in the background; this leave is given to one at a time.
    Connect,
    Skip,
}

const FAILURES_MAX: u32 = 3;
/// Short, so that a restart is hardly noticed; doubled up to half a minute, so that a dead server is left alone.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Breaker {
    /// Returns one that has not connected yet and may at once.
    pub fn new(now: Instant) -> Self {
        Self { state: State::Open { until: now }, failures: 0, pause: PAUSE_MIN }
    }

    pub fn leave(&mut self, now: Instant) -> Leave {
        match self.state {
            State::Closed => Leave::Ask,
            State::Open { until } if until <= now => {
                self.state = State::Trying;
                Leave::Connect
            }
            State::Open { .. } | State::Trying => Leave::Skip,
        }
    }

    /// It has connected. One failure is enough to end that, until something has succeeded.
    pub fn connected(&mut self) {
        self.state = State::Closed;
        self.failures = FAILURES_MAX - 1;
    }

    pub fn succeeded(&mut self) {
        if self.state == State::Closed {
            (self.failures, self.pause) = (0, PAUSE_MIN);
        }
    }

    /// Returns whether this failure was the last straw.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures += 1;
        // What was asked before it opened, and fails now, says nothing new.
        let is_over = match self.state {
            State::Trying => true,
            State::Closed => self.failures >= FAILURES_MAX,
            State::Open { .. } => false,
        };
        if is_over {
            self.state = State::Open { until: now + self.pause };
            self.failures = 0;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(now);
        assert_eq!(breaker.leave(now), Leave::Connect);
        assert_eq!(breaker.leave(now), Leave::Skip, "one connects, and nobody waits for it");
        breaker.connected();
        breaker
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_a_success_between_forgives() {
        let now = Instant::now();
        let mut breaker = connected(now);
        breaker.succeeded();
        assert!(!breaker.failed(now) && !breaker.failed(now));
        breaker.succeeded();
        assert!(!breaker.failed(now) && !breaker.failed(now));
        assert_eq!(breaker.leave(now), Leave::Ask);
        assert!(breaker.failed(now));
        assert_eq!(breaker.leave(now + PAUSE_MIN - Duration::from_millis(1)), Leave::Skip);
        assert_eq!(breaker.leave(now + PAUSE_MIN), Leave::Connect);
    }

    #[test]
    fn pauses_grow_until_something_succeeds() {
        let mut now = Instant::now();
        let mut breaker = connected(now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(breaker.failed(now), "on probation, one is enough");
            let from = now;
            while breaker.leave(now) == Leave::Skip {
                now += Duration::from_millis(500);
            }
            pauses.push((now - from).as_secs());
            breaker.connected();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        breaker.succeeded();
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.failed(now));
        assert_eq!(breaker.leave(now + PAUSE_MIN), Leave::Connect);
    }

    #[test]
    fn late_failures_do_not_lengthen_the_pause() {
        let now = Instant::now();
        let mut breaker = connected(now);
        assert!(breaker.failed(now));
        assert!(!breaker.failed(now) && !breaker.failed(now));
        assert_eq!(breaker.leave(now + PAUSE_MIN), Leave::Connect);
    }
}
