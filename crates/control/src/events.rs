//! What the caretaker found.

use domain::RequestId;
use ledger::{Held, LedgerError, LossReason};

/// A hold whose work is gone was closed; what it used is unknown.
pub struct HoldExpired<'a> {
    pub held: &'a Held,
    pub reason: LossReason,
}
impl HoldExpired<'_> {
    pub fn emit(self) {
        let hold = &self.held.hold;
        let request: &RequestId = &hold.request;
        tracing::warn!(
            request = %request, account = %hold.account, model = %hold.model, held_at = %hold.at,
            reason = match self.reason {
                LossReason::ProcessLost => "process lost",
                LossReason::Forgotten => "forgotten",
            },
            "closed a hold whose work is gone; its usage is unknown"
        );
    }
}

/// A sweep could not be made; the next one tries again.
pub struct SweepFailed<'a> {
    pub error: &'a LedgerError,
}
impl SweepFailed<'_> {
    pub fn emit(self) {
        tracing::error!(error = %self.error, "could not look for expired holds; the next sweep tries again");
    }
}
