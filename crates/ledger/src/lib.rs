//! What was promised, used and owed: holds, settlements and releases that balance, and are on disk before they are acknowledged.
//!
//! Two halves. [`book`] decides, purely: given what is known of a request and what is asked, which entries are written.
//! [`Journal`] is the edge: an SQLite file or a Postgres database, one writer that commits many decisions at once, and readers
//! beside it.
//! Nothing here reads a clock or draws a random number; both are passed in.
#![forbid(unsafe_code)]

pub mod account;
pub mod book;
pub mod budget;
mod error;
mod events;
mod journal;
mod key;
pub mod price;
mod quantity;
mod role;
mod saving;
mod scope;
pub mod statement;
mod task;
mod time;

pub use account::{AccountChange, AccountKind, AccountQuery, AccountRecord, NewAccount};
pub use book::{
    EndOutcome, Ending, Entry, Grow, GrowOutcome, Held, Hold, HoldOutcome, How, LossReason, Position,
    Release, ReleaseReason, Settlement, Side,
};
pub use budget::{
    Action, Alert, Amount, Every, Limit, LimitError, LimitId, Measure, NewLimit, Scope, Shortage, Standing,
    Window,
};
pub use error::LedgerError;
pub use journal::{Integrity, Journal, JournalOptions, RequestPlace, Survives, TEND_PERIOD};
pub use key::{FoundKey, Key, KeyId, KeyQuery, KeyRecord, KeyState, NewKey, Rotation, Secret};
pub use price::{
    Bill, Circumstances, ContextTier, Cost, Multiplier, PriceChange, PriceId, PriceVersion, Provider, Quote,
    Rate, Rates, Region, Schedule, ServiceTier, Sheet, Terms, TierPrice,
};
pub use quantity::{DIMENSIONS, Quantities};
pub use role::{Deed, Role};
pub use saving::{SaveOutcome, SavedBy, Saving};
pub use scope::{Pattern, ScopeKind, Scopes};
pub use statement::{
    ChargeRow, Dimension, Month, MonthStatement, RequestEnd, RequestRow, UnknownDimension, UsageQuery,
    UsageRow, UsageSums, Used,
};
pub use task::{
    NewTask, TaskChange, TaskDeed, TaskNode, TaskPath, TaskPathError, TaskQuery, TaskRecord, TaskRow,
    TaskState, TaskSums,
};
pub use time::{Day, Timestamp};
