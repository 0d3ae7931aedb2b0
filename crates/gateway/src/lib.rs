//! How does a request pass the door: who → read → guard → hold → choose → start → reply (and settle)?
//!
//! Each verb has its file, named as in the list; `endpoints` are the lists themselves. The door knows HTTP, and text and
//! dialects through their crates. It does not know what an engine is: work goes out through [`domain::EnginePort`].
//!
//! ```text
//! server ─▶ router ─▶ endpoints ─▶ who ─▶ body ─▶ guard ─▶ place ─▶ reply ─▶ admit (hold, settle)
//!                                                                     └────▶ upstream
//! ```

#![forbid(unsafe_code)]

mod admit;
mod again;
mod app;
mod body;
mod breaker;
pub mod decisions;
mod ears;
mod embedding;
mod endpoints;
mod estimate;
mod events;
mod guard;
mod keeper;
mod keeping;
mod limits;
mod metrics;
mod needs;
mod passage;
mod place;
mod prices;
mod pulse;
mod refusal;
mod repeat;
mod reply;
mod router;
mod server;
mod spool;
mod standing;
mod start;
mod supply;
mod task;
mod upstream;
mod visit;
mod who;
mod why;

pub use admit::replay_spooled;
pub use app::{App, AppError, ServedModel};
pub use limits::Limits;
pub use router::{Admission, Route, build as router, routes};
pub use server::serve;
pub use spool::{Spool, SpoolBounds, SpoolError};
pub use supply::{
    CacheRule, CacheShare, ResidencyRule, Route as SupplyRoute, RouteRules, Supply, SupplyUnit, UnitKind,
};
pub use task::budget::TaskBudget;
pub use task::loops::Patience;
pub use task::policy::{LoopDeed, LoopPolicy, TaskPolicy};
pub use task::stage::Thresholds;
pub use upstream::{
    Auth, GoogleAccount, HttpProvider, HttpSettings, Inbox, LocalUpstream, OnCancel, Outbox, Paths, Secret,
    SettingsError, Timeouts, exchange,
};
pub use who::{KeysPolicy, LOCAL_ACCOUNT};
