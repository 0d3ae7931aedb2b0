//! What the caretaker found.

use domain::RequestId;
use ledger::{Alert, Held, LedgerError, LossReason};

/// A hold whose work is gone was closed; all that was held is booked as an estimate.
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
            "closed a hold whose work is gone; what it held is booked as an estimate"
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

/// Old requests could not be dropped; the next turn tries again.
pub struct RetireFailed<'a> {
    pub error: &'a LedgerError,
}
impl RetireFailed<'_> {
    pub fn emit(self) {
        tracing::error!(error = %self.error, "could not drop old requests; the next turn, in an hour, tries again");
    }
}

/// A heartbeat could not be written. Where it goes on, other servers take this one for dead.
pub struct BeatFailed<'a> {
    pub error: &'a LedgerError,
}
impl BeatFailed<'_> {
    pub fn emit(self) {
        tracing::warn!(error = %self.error, "could not say in the ledger that this server lives; the next beat tries again");
    }
}

/// Limits could not be tended. Reported once for as long as it lasts.
pub struct TendFailed<'a> {
    pub error: &'a LedgerError,
}
impl TendFailed<'_> {
    pub fn emit(self) {
        tracing::warn!(error = %self.error, "could not tend limits; the next turn tries again");
    }
}

/// A limit's spending has reached one of its thresholds.
pub struct AlertRaised<'a> {
    pub alert: &'a Alert,
}
impl AlertRaised<'_> {
    pub fn emit(self) {
        let Alert { limit, subject, threshold, spent, .. } = self.alert;
        tracing::warn!(
            limit = %limit.name, scope = %limit.scope, subject = %subject, threshold_percent = threshold,
            spent = %limit.measure.show(*spent), amount = %limit.measure.show(limit.amount),
            "a limit's spending has reached a threshold"
        );
    }
}

/// An alert could not be delivered; it comes again later.
pub struct AlertFailed<'a> {
    pub name: &'a str,
    pub why: &'a str,
}
impl AlertFailed<'_> {
    pub fn emit(self) {
        tracing::warn!(limit = self.name, why = self.why, "could not deliver an alert; it is tried again");
    }
}
