//! Who can continue a sequence of tokens? Today one answer: an engine of our own.

mod local;

pub use local::{Inbox, LocalUpstream, Outbox, WorkStream, exchange};
