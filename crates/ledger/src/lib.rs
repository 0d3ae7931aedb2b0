//! What was promised, used and owed: holds, settlements and releases that balance, and are on disk before they are acknowledged.
//!
//! Two halves. [`book`] decides, purely: given what is known of a request and what is asked, which entries are written.
//! [`Journal`] is the edge: one SQLite file, one writer that commits many decisions at once, and readers beside it.
//! Nothing here reads a clock or draws a random number; both are passed in.
#![forbid(unsafe_code)]

pub mod book;
mod error;
mod events;
mod journal;
mod key;
mod price;
mod quantity;
pub mod statement;
mod time;

pub use book::{
    EndOutcome, Ending, Entry, Held, Hold, HoldOutcome, How, LossReason, Position, Release, ReleaseReason,
    Settlement, Side,
};
pub use error::LedgerError;
pub use journal::{Integrity, Journal, JournalOptions};
pub use key::{Key, KeyId, KeyRecord, NewKey, Secret};
pub use price::{PriceChange, PriceId, PriceVersion, Prices};
pub use quantity::{DIMENSIONS, Quantities};
pub use statement::{Dimension, RequestEnd, RequestRow, UnknownDimension, UsageQuery, UsageRow};
pub use time::{Day, Timestamp};
