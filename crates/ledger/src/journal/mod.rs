//! How the book reaches the disk: a handle that many tasks share, over one SQLite file with one writer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::RequestId;

use crate::{
    EndOutcome, Held, Hold, HoldOutcome, Key, KeyId, KeyRecord, LedgerError, LossReason, NewKey, PriceChange,
    PriceVersion, Release, RequestRow, Settlement, Timestamp, UsageQuery, UsageRow,
};

/// The ledger on disk. Cheap to clone. Every call that books returns only when its entries are durable.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Calls that may wait for the writer; further callers wait for a place, within `call_wait_max`.
    pub queue_max: usize,
    /// Calls that one transaction commits together. More would lengthen everyone's wait without saving much of a sync.
    pub batch_max: usize,
    /// A call that is not durable after this long fails as [`LedgerError::Unavailable`].
    pub call_wait_max: Duration,
    /// The file may not grow past this; `None` leaves it to the disk.
    pub size_bytes_max: Option<u64>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { queue_max: 4_096, batch_max: 256, call_wait_max: Duration::from_secs(5), size_bytes_max: None }
    }
}

/// The result of checking the whole book against itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Integrity {
    pub requests: u64,
    pub entries: u64,
    pub open_holds: u64,
    /// What is wrong, in words; empty when the book balances. At most the first 20 findings are told.
    pub faults: Vec<String>,
}

impl Integrity {
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Journal {
    /// Returns the journal in this file for the one server that writes it; creates the folder and file, migrates an older
    /// schema, and refuses a file that another server has open.
    pub async fn open(path: &Path) -> Result<Journal, LedgerError> {
        Self::open_with(path, JournalOptions::default()).await
    }

    pub async fn open_with(path: &Path, options: JournalOptions) -> Result<Journal, LedgerError> {
        let _ = (path, options);
        Err(unavailable())
    }

    /// Returns the journal in this file for a tool that runs beside the server: it reads, and makes and revokes keys.
    /// It takes no lock, so it must not expire holds: they may be alive in the server.
    pub async fn attach(path: &Path) -> Result<Journal, LedgerError> {
        let _ = path;
        Err(unavailable())
    }

    /// Reserves the estimate. Repeating a hold is answered with the first.
    pub async fn hold(&self, hold: Hold) -> Result<HoldOutcome, LedgerError> {
        let _ = hold;
        Err(unavailable())
    }

    /// Books what was used and gives the rest of the hold back. After an end, answers with that end.
    pub async fn settle(&self, settlement: Settlement) -> Result<EndOutcome, LedgerError> {
        let _ = settlement;
        Err(unavailable())
    }

    /// Gives the whole hold back. After an end, answers with that end.
    pub async fn release(&self, release: Release) -> Result<EndOutcome, LedgerError> {
        let _ = release;
        Err(unavailable())
    }

    /// Returns every hold that has not ended, oldest first.
    pub async fn open_holds(&self) -> Result<Vec<Held>, LedgerError> {
        Err(unavailable())
    }

    /// Closes these holds as lost, with their usage unknown; returns those that were still open.
    pub async fn expire_holds(
        &self,
        requests: Vec<RequestId>,
        reason: LossReason,
        at: Timestamp,
    ) -> Result<Vec<Held>, LedgerError> {
        let _ = (requests, reason, at);
        Err(unavailable())
    }

    /// Records the prices that differ from those already in force at their time; returns the versions it recorded.
    /// Later holds use them; a hold that is open keeps the version it began with.
    pub async fn set_prices(&self, changes: Vec<PriceChange>) -> Result<Vec<PriceVersion>, LedgerError> {
        let _ = changes;
        Err(unavailable())
    }

    /// Returns every price version that was recorded, oldest first.
    pub async fn prices(&self) -> Result<Vec<PriceVersion>, LedgerError> {
        Err(unavailable())
    }

    /// Makes a key; its secret is in the answer and nowhere else.
    pub async fn create_key(&self, new: NewKey) -> Result<Key, LedgerError> {
        let _ = new;
        Err(unavailable())
    }

    /// Revokes a key at once, for every process on this file; revoking twice keeps the first time.
    pub async fn revoke_key(&self, id: KeyId, at: Timestamp) -> Result<KeyRecord, LedgerError> {
        let _ = (id, at);
        Err(unavailable())
    }

    pub async fn list_keys(&self) -> Result<Vec<KeyRecord>, LedgerError> {
        Err(unavailable())
    }

    /// Returns the active key with this secret, if there is one.
    pub async fn find_key(&self, secret: &str) -> Result<Option<KeyRecord>, LedgerError> {
        let _ = secret;
        Err(unavailable())
    }

    /// Whether any key is active: without one, only callers on the loopback address may be served.
    pub async fn any_key_exists(&self) -> Result<bool, LedgerError> {
        Err(unavailable())
    }

    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
        let _ = query;
        Err(unavailable())
    }

    /// Returns the latest requests, newest first.
    pub async fn recent_requests(&self, limit: usize) -> Result<Vec<RequestRow>, LedgerError> {
        let _ = limit;
        Err(unavailable())
    }

    /// Returns those of these requests that the journal knows, in the order asked.
    pub async fn requests(&self, ids: &[RequestId]) -> Result<Vec<RequestRow>, LedgerError> {
        let _ = ids;
        Err(unavailable())
    }

    /// Checks the whole book against itself: entries, holds, endings, money.
    pub async fn check_integrity(&self) -> Result<Integrity, LedgerError> {
        Err(unavailable())
    }

    /// Books what is queued, then closes the file and gives up the lock. Later calls fail as unavailable.
    pub async fn close(&self) {}
}

#[derive(Debug)]
struct Shared {}

fn unavailable() -> LedgerError {
    LedgerError::Unavailable { doing: "opening", why: "the store is not there yet".into() }
}
