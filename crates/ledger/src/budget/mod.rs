//! Which limits does a request fall under, and is there room in all of them?
//!
//! ```text
//!   limit ─▶ window ─▶ pool (one for all processes): granted to them together ≤ the limit's amount
//!                        │ take: only when short                 ▲ give back: what is idle
//!                        ▼                                       │
//!                      share (one for each process): granted ≥ held + spent
//!                        ▲ hold, grow    │ settle, release
//! ```
//!
//! A process decides alone inside what it was granted, so that a request costs no talk between processes; and because
//! grants never sum above the amount, neither does what is held and spent inside of them.
//!
//! A hold is counted in the windows that its own time lies in, until it ends, whenever that is. A clock that goes back comes
//! back to windows whose spending is still written down.
//!
//! Pure: no clock, no store, no randomness.

mod allowance;
mod charge;
mod limit;
mod limits;
mod threshold;
mod window;

#[cfg(test)]
mod interleavings;

use std::sync::Arc;

use crate::Timestamp;

pub use allowance::{Allowance, Lack, Pool, Share, Surroundings};
pub use charge::{Charge, Need, Unpriced, WindowKey, need};
pub use limit::{Action, Amount, Every, Limit, LimitError, LimitId, Measure, NewLimit, Scope};
pub use limits::Limits;
pub use threshold::crossed;
pub use window::{Span, Unit, Window, WindowError, Zone};

/// How a limit stands for one request: for headers and reports. What other processes have used is known as of a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub limit: Arc<Limit>,
    /// Which one, of a limit that tells several apart; empty where there is only one.
    pub subject: String,
    pub window_start: Timestamp,
    /// `None`: never.
    pub resets_at: Option<Timestamp>,
    pub spent: Amount,
    /// Promised to requests under way.
    pub held: Amount,
    /// Never below zero.
    pub remaining: Amount,
}

/// The limit that has no room for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub limit: Arc<Limit>,
    pub subject: String,
    /// What the request needs more than it has.
    pub needed: Amount,
    pub remaining: Amount,
    /// When there is new room at the earliest; `None`: only when somebody raises the limit or requests under way end.
    pub resets_at: Option<Timestamp>,
}

/// That a limit's spending has reached one of its thresholds: raised once for each window, subject and threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub limit: Arc<Limit>,
    pub subject: String,
    pub window_start: Timestamp,
    /// A percentage of the limit's amount.
    pub threshold: u8,
    pub at: Timestamp,
    pub spent: Amount,
    /// How often somebody has tried to deliver it, this time included.
    pub tries: i64,
}
