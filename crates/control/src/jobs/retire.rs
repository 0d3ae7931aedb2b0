//! Which requests are too old to be kept one by one?

use std::time::{Duration, SystemTime};

use ledger::{Journal, LedgerError, Timestamp};

use super::every;
use crate::events::RetireFailed;

/// Requests grow old by the day; an hour later is soon enough.
pub const PERIOD: Duration = Duration::from_secs(3_600);

/// Drops requests that began longer ago than `keep`; their sums and all closed statements stay. Returns how many went.
pub async fn retire(journal: &Journal, keep: Duration, now: Timestamp) -> Result<u64, LedgerError> {
    let mut dropped = 0;
    loop {
        // Some at a time, so that requests of today get their turns between.
        match journal.drop_old_requests(now.before(keep)).await? {
            0 => return Ok(dropped),
            some => dropped += some,
        }
    }
}

/// Retires at each period until `stop` is ready; without `keep`, everything is kept.
pub async fn run(journal: Journal, keep: Option<Duration>, stop: impl Future<Output = ()>) {
    let Some(keep) = keep else { return };
    every(PERIOD, stop, || async {
        if let Err(error) = retire(&journal, keep, Timestamp::from(SystemTime::now())).await {
            RetireFailed { error: &error }.emit();
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use domain::{Usage, UsageEnd, UsageSource};
    use ledger::{Hold, Settlement, UsageQuery};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(number: i64) -> Timestamp {
        Timestamp::from_millis(number * 86_400_000)
    }

    #[tokio::test]
    async fn old_requests_go_and_their_sums_stay() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let usage = Usage { input_uncached: 10, output: 5, ..Usage::default() };
        for (request, at) in [("old", day(1)), ("new", day(90))] {
            journal.hold(Hold::new(request.into(), "local".into(), "tiny".into(), usage, at)).await.unwrap();
            let (end, source) = (UsageEnd::Complete, UsageSource::Measured);
            journal.settle(Settlement { request: request.into(), usage, end, source, at }).await.unwrap();
        }
        let before = journal.usage(&UsageQuery::default()).await.unwrap();
        assert_eq!(retire(&journal, 30 * DAY, day(91)).await.unwrap(), 1);
        assert_eq!(retire(&journal, 30 * DAY, day(91)).await.unwrap(), 0);
        let kept = journal.requests(&["old".into(), "new".into()]).await.unwrap();
        assert_eq!(kept.iter().map(|row| row.held.hold.request.to_string()).collect::<Vec<_>>(), ["new"]);
        assert_eq!(journal.usage(&UsageQuery::default()).await.unwrap(), before);
        assert!(journal.check_integrity().await.unwrap().is_sound());
    }
}
