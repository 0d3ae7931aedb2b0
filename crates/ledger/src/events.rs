//! What is worth knowing of the store, said once when it changes.

use crate::LedgerError;

/// The store began to fail. Said once, not for each call that it fails.
pub struct StoreFailed<'a> {
    pub place: &'a dyn std::fmt::Display,
    pub error: &'a LedgerError,
}
impl StoreFailed<'_> {
    pub fn emit(self) {
        tracing::error!(ledger = %self.place, error = %self.error, "the ledger cannot write; nothing is booked until it can");
    }
}

/// The store works again after it had failed.
pub struct StoreRecovered<'a> {
    pub place: &'a dyn std::fmt::Display,
}
impl StoreRecovered<'_> {
    pub fn emit(self) {
        tracing::info!(ledger = %self.place, "the ledger writes again");
    }
}

/// The book refused one call: its caller has a defect, or repeats what was never held.
pub struct CallFailed<'a> {
    pub error: &'a LedgerError,
}
impl CallFailed<'_> {
    pub fn emit(self) {
        tracing::warn!(error = %self.error, "the ledger refused a call");
    }
}
