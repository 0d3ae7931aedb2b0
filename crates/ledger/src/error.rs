//! What can go wrong with the ledger, and what the caller can do about it.

use domain::{Account, ModelName, RequestId};

use crate::TaskPath;
use crate::budget::LimitError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The file, its folder or the server cannot be used at all.
    #[error("cannot open the ledger {ledger}: {why}; {advice}")]
    Open { ledger: String, why: String, advice: &'static str },
    /// The URL itself is not said: it may hold a password.
    #[error("the ledger's URL must be sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE: {why}")]
    BadUrl { why: String },
    #[error("the ledger {ledger} is in use by {holder}; stop it, or give this server another data folder")]
    InUse { ledger: String, holder: String },
    #[error(
        "the ledger {ledger} has schema {found}, and this version knows schemas up to {known}; run a newer version of baseload"
    )]
    NewerSchema { ledger: String, found: i64, known: i64 },
    /// The store did not take the call in time. Whether it is booked is unknown; the same call may be repeated, because
    /// every call is idempotent by its request.
    #[error("the ledger is unavailable: {doing}: {why}; the same call may be repeated")]
    Unavailable { doing: &'static str, why: String },
    /// Nothing of the call is booked. The writer goes on by itself when there is space again.
    #[error("the disk of the ledger {ledger} is full; nothing was booked; free some space")]
    DiskFull { ledger: String },
    #[error(
        "the model {model} has no price, so nobody can say what it takes of the limit {limit:?}; give it a price, or allow \
         unpriced models"
    )]
    Unpriced { model: ModelName, limit: String },
    #[error("request {request} has no hold, so it cannot be {what}; hold first")]
    NoHold { request: RequestId, what: &'static str },
    #[error("request {request} already has a hold for another {what}; use a new request id")]
    DifferentHold { request: RequestId, what: &'static str },
    #[error("request {request} would hold less money than before; a hold only grows")]
    ShrinkingHold { request: RequestId },
    #[error("{what} is {value}; at most {limit} can be booked")]
    TooLarge { what: String, value: String, limit: String },
    /// The handle came from [`attach`](crate::Journal::attach).
    #[error("{doing} is the running server's own business; this process is only attached beside it")]
    Attached { doing: &'static str },
    #[error(
        "a key of this account is already named {name:?}; choose another name, or rotate or revoke that key"
    )]
    KeyNameTaken { name: String },
    /// What was booked to it later, or priced otherwise later, belongs into new views and not into that one.
    #[error("the month {month} is closed, and a closed month never changes")]
    MonthClosed { month: String },
    #[error("there is no key {id:?}")]
    NoSuchKey { id: String },
    #[error("{path:?} is no account: {why}")]
    BadAccount { path: String, why: String },
    #[error("there is no account {account}; create it first")]
    NoSuchAccount { account: Account },
    #[error("the account {account} is there already")]
    AccountExists { account: Account },
    #[error("the account {account} is closed")]
    AccountClosed { account: Account },
    #[error("the {what} cannot be used: {why}")]
    BadLabel { what: &'static str, why: String },
    #[error("the scope {scope} cannot be used: {why}")]
    BadScope { scope: &'static str, why: String },
    #[error("the key would expire in the past; choose a later time, or leave it out")]
    BadExpiry,
    #[error("key {id} is {state}; only an active key can be rotated")]
    KeyNotActive { id: String, state: &'static str },
    #[error("key {id} was rotated already; rotate {by}, which took its place")]
    KeyReplaced { id: String, by: String },
    #[error("the task {path} belongs to another account")]
    TaskNotYours { path: TaskPath },
    #[error("there is no task {path}")]
    NoSuchTask { path: TaskPath },
    #[error(transparent)]
    BadLimit(#[from] LimitError),
    /// What is on disk contradicts itself; going on would book wrong money.
    #[error("the ledger is damaged: {0}; restore it from a backup")]
    Damaged(String),
}

impl LedgerError {
    /// Whether the same call can succeed later, with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::DiskFull { .. })
    }
}
