//! How do limits stay shared between servers while nobody asks for anything?

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use ledger::{Journal, TEND_PERIOD, Timestamp};

use super::every;
use crate::events::TendFailed;

/// Tends limits until `stop` is ready: gives back what others lack, notices thresholds. A failure is reported once for as
/// long as it lasts; the next turn tries again.
pub async fn run(journal: Journal, stop: impl Future<Output = ()>) {
    let is_failing = AtomicBool::new(false);
    every(TEND_PERIOD, stop, || async {
        match journal.tend(Timestamp::from(SystemTime::now())).await {
            Ok(_) => is_failing.store(false, Relaxed),
            Err(error) if !is_failing.swap(true, Relaxed) => TendFailed { error: &error }.emit(),
            Err(_) => {}
        }
    })
    .await;
}
