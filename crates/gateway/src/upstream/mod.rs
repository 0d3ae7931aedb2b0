//! Who can continue a conversation? Engines of our own, and servers that speak a dialect over HTTP.

mod http;
mod local;

pub use http::{
    Auth, Failure, GoogleAccount, HttpProvider, HttpSettings, OnCancel, Paths, Piece, Secret, SettingsError, Timeouts,
    UpstreamAnswer,
};
pub use local::{Inbox, LocalUpstream, Outbox, WorkStream, exchange};
