//! Is a unit well enough to be asked?
//!
//! ```text
//!            5 failures in a row, or half of the last ten          the pause is over
//!   closed ────────────────────────────────────────────▶ open ─────────────────────▶ half open
//!     ▲                                                   ▲  ▲                            │
//!     │ 32 answers at once are allowed again              │  └── the probe fails ─────────┤
//!     └──────────────── recovering ── any failure ────────┘      (a longer pause)         │
//!                            ▲                                                            │
//!                            └───────────── the probe's first token ──────────────────────┘
//! ```
//!
//! Only what the upstream did wrong is told to a breaker: who tells it must have attributed the fault.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an upstream did wrong. A client's bad request, a client that left and a rate limit are none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No connection came to be.
    Connect,
    /// No first token came in time.
    Timeout,
    /// It answered with a status of 500 to 599.
    Server,
    /// The connection broke.
    Reset,
    /// What it sent cannot be read.
    Malformed,
    /// The answer began and then stood still, or crawled.
    Stall,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connect => "no connection",
            Self::Timeout => "no answer in time",
            Self::Server => "a server error",
            Self::Reset => "a broken connection",
            Self::Malformed => "an unreadable answer",
            Self::Stall => "a stalled answer",
        })
    }
}

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// Or this share of what ended lately, once so much has.
const FAILED_SHARE_MAX: f64 = 0.5;
const COUNTED_MIN: f64 = 10.0;
/// What ended counts half after so long.
const COUNT_HALF_LIFE: Duration = Duration::from_secs(10);
/// The first pause; each failed probe doubles it.
const PAUSE: Duration = Duration::from_secs(1);
/// A probe every quarter of a minute costs a sick unit nothing, and a route that has no other unit is not kept from it for longer.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A probe that nobody has heard of for so long is given up, and another may go: whoever sent it has died.
const PROBE_PATIENCE: Duration = Duration::from_secs(120);
/// How many may be in flight right after the probe; each answer allows one more, so the share doubles with each round.
const ALLOWANCE: u32 = 2;
/// From here on the unit counts as recovered.
const ALLOWANCE_MAX: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    /// Nobody may ask until then.
    Open {
        until_us: u64,
    },
    /// The pause is over; one may ask.
    HalfOpen,
    /// One is asking.
    Probing {
        since_us: u64,
    },
    /// It answers; this many at once may ask before others.
    Recovering {
        allowance: u32,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    state: BreakerState,
    /// In a row.
    failures: u32,
    last: Fault,
    /// Since it was last closed.
    pauses: u32,
    /// Changes whenever it opens: what began before says nothing about afterwards.
    epoch: u32,
    good: f64,
    bad: f64,
    counted_at_us: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        let (failures, pauses, epoch, counted_at_us) = (0, 0, 0, 0);
        let (state, last) = (BreakerState::Closed, Fault::Connect);
        Self { state, failures, last, pauses, epoch, good: 0.0, bad: 0.0, counted_at_us }
    }
}

impl Breaker {
    pub fn state(&self, now_us: u64) -> BreakerState {
        match self.state {
            BreakerState::Open { until_us } if until_us <= now_us => BreakerState::HalfOpen,
            BreakerState::Probing { since_us } if since_us + micros(PROBE_PATIENCE) <= now_us => {
                BreakerState::HalfOpen
            }
            state => state,
        }
    }
    pub fn failures(&self) -> u32 {
        self.failures
    }
    pub fn last_fault(&self) -> Fault {
        self.last
    }
    pub fn allowance(&self) -> Option<u32> {
        match self.state {
            BreakerState::Recovering { allowance } => Some(allowance),
            _ => None,
        }
    }
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Notes that a request went out, where [`state`](Self::state) allowed it; returns whether it is the probe.
    pub fn began(&mut self, now_us: u64) -> bool {
        let is_probe = self.state(now_us) == BreakerState::HalfOpen;
        if is_probe {
            // A probe that was given up may still end: it must not be taken for this one.
            self.epoch = self.epoch.wrapping_add(1);
            self.state = BreakerState::Probing { since_us: now_us };
        }
        is_probe
    }

    /// Notes a sign of life of a request that began in the epoch: its first token, or its whole answer. Returns whether the
    /// unit is back with it.
    pub fn lived(&mut self, epoch: u32) -> bool {
        let is_back = epoch == self.epoch && matches!(self.state, BreakerState::Probing { .. });
        if is_back {
            self.state = BreakerState::Recovering { allowance: ALLOWANCE };
            (self.failures, self.good, self.bad) = (0, 0.0, 0.0);
        }
        is_back
    }

    /// Notes a whole answer, after its [`lived`](Self::lived).
    pub fn succeeded(&mut self, epoch: u32, now_us: u64) {
        if epoch != self.epoch {
            return;
        }
        self.count(now_us);
        self.good += 1.0;
        self.failures = 0;
        if let BreakerState::Recovering { allowance } = self.state {
            self.state = if allowance + 1 >= ALLOWANCE_MAX {
                self.pauses = 0;
                BreakerState::Closed
            } else {
                BreakerState::Recovering { allowance: allowance + 1 }
            };
        }
    }

    /// Notes a failure that was the upstream's.
    pub fn failed(&mut self, epoch: u32, fault: Fault, now_us: u64) {
        if epoch != self.epoch {
            return;
        }
        self.count(now_us);
        self.bad += 1.0;
        self.failures += 1;
        self.last = fault;
        let opens = match self.state {
            BreakerState::Closed => self.failures >= FAILURES_MAX || self.half_failed(),
            BreakerState::Recovering { .. } | BreakerState::Probing { .. } => true,
            BreakerState::Open { .. } | BreakerState::HalfOpen => false,
        };
        if opens {
            self.open(now_us);
        }
    }

    /// Notes that the probe ended without saying anything about the upstream: another may go.
    pub fn told_nothing(&mut self, epoch: u32) {
        if epoch == self.epoch && matches!(self.state, BreakerState::Probing { .. }) {
            self.state = BreakerState::HalfOpen;
        }
    }

    fn open(&mut self, now_us: u64) {
        let pause = PAUSE.saturating_mul(1 << self.pauses.min(16)).min(PAUSE_MAX);
        self.state = BreakerState::Open { until_us: now_us + micros(pause) };
        self.pauses += 1;
        self.epoch = self.epoch.wrapping_add(1);
        (self.good, self.bad) = (0.0, 0.0);
    }

    fn half_failed(&self) -> bool {
        let all = self.good + self.bad;
        all >= COUNTED_MIN && self.bad >= FAILED_SHARE_MAX * all
    }

    fn count(&mut self, now_us: u64) {
        let age = now_us.saturating_sub(self.counted_at_us) as f64 / 1e6;
        let fade = (-age / COUNT_HALF_LIFE.as_secs_f64()).exp2();
        (self.good, self.bad) = (self.good * fade, self.bad * fade);
        self.counted_at_us = self.counted_at_us.max(now_us);
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
