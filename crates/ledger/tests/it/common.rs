//! Short words for what the tests say often.

use domain::{RequestId, Usage, UsageEnd, UsageSource};
use ledger::{Hold, Journal, Release, ReleaseReason, Settlement, Sheet, Timestamp};

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub fn request(number: u128) -> RequestId {
    RequestId::from_random(number)
}

pub fn used(input_uncached: u64, cache_read: u64, output: u64) -> Usage {
    Usage { input_uncached, cache_read, output, ..Usage::default() }
}

pub fn hold(request: RequestId) -> Hold {
    Hold::new(request, "local".into(), "tiny".into(), used(100, 0, 50), at(1_000))
}

pub fn settlement(request: RequestId, usage: Usage) -> Settlement {
    Settlement { request, usage, end: UsageEnd::Complete, source: UsageSource::Measured, at: at(2_000) }
}

pub fn release(request: RequestId) -> Release {
    Release { request, reason: ReleaseReason::Refused, at: at(2_000) }
}

/// 1 USD a million for input, a tenth of it cached, 4 USD for output.
pub fn sheet() -> Sheet {
    let price = |text: &str| text.parse().unwrap();
    Sheet::per_token(price("1"), price("0.1"), price("4"))
}

pub async fn assert_sound(journal: &Journal) {
    let integrity = journal.check_integrity().await.unwrap();
    assert!(integrity.is_sound(), "{:#?}", integrity.faults);
}
