//! Who should answer a request: pure decisions over one snapshot of all that can.
//!
//! Nothing here reads a clock, draws a number, waits or locks. `now` is the time since the process began, passed in; what
//! changes are small state machines ([`UnitState`], [`RetryBudget`], [`WarmIndex`], [`Pace`]) that the gateway drives.

#![forbid(unsafe_code)]

mod breaker;
mod choose;
mod decision;
mod estimate;
mod hedge;
mod need;
mod pace;
mod reason;
mod retry;
mod state;
mod unit;
mod warm;

pub use breaker::{BreakerState, Fault};
pub use choose::{Candidate, choose};
pub use decision::{Choice, Decision, Rejected, Standing};
pub use estimate::HALF_LIFE;
pub use hedge::{Hedge, hedge};
pub use need::{Need, Order, Residency, Slo};
pub use pace::{Pace, Verdict};
pub use reason::Reason;
pub use retry::{RetryBudget, fall_back};
pub use state::{Outcome, Prediction, Quota, Ticket, UnitState};
pub use unit::{
    Caching, Capabilities, Capability, DataClass, Jurisdiction, ModelClass, Tier, Unit, UnitId, UnknownName,
};
pub use warm::{BLOCK_BYTES, Prefix, PrefixHasher, WarmIndex};
