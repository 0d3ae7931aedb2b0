//! Does this process live, and which ones that share the ledger do not?

use std::time::{Duration, SystemTime};

use ledger::{Held, Journal, LedgerError, LossReason, Timestamp};

use super::every;
use crate::events::{BeatFailed, HoldExpired};

/// Several beats fit in the silence after which a process is taken for dead, so one that is late is no harm.
pub const PERIOD: Duration = Duration::from_secs(2);

/// Closes every hold that dead processes left open: to be called once, before the first request is served.
pub async fn bury_the_dead(journal: &Journal, now: Timestamp) -> Result<Vec<Held>, LedgerError> {
    let mut lost = Vec::new();
    loop {
        let closed = beat(journal, now).await?;
        if closed.is_empty() {
            return Ok(lost);
        }
        lost.extend(closed);
    }
}

/// Says that this process lives; returns what was closed because others do not.
pub async fn beat(journal: &Journal, now: Timestamp) -> Result<Vec<Held>, LedgerError> {
    let closed = journal.beat(now).await?;
    for held in &closed {
        HoldExpired { held, reason: LossReason::ProcessLost }.emit();
    }
    Ok(closed)
}

/// Beats at each period until `stop` is ready.
pub async fn run(journal: Journal, period: Duration, stop: impl Future<Output = ()>) {
    every(period, stop, || async {
        if let Err(error) = beat(&journal, Timestamp::from(SystemTime::now())).await {
            BeatFailed { error: &error }.emit();
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use domain::{Usage, UsageEnd, UsageSource};
    use ledger::{Hold, How, Settlement};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[tokio::test]
    async fn a_new_server_closes_what_its_predecessor_left_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let journal = Journal::open(&path).await.unwrap();
        let estimate = Usage { input_uncached: 10, output: 10, ..Usage::default() };
        for request in ["lost", "ended"] {
            let hold = Hold::new(request.into(), "local".into(), "tiny".into(), estimate, at(1));
            journal.hold(hold).await.unwrap();
        }
        let (end, source) = (UsageEnd::Complete, UsageSource::Measured);
        let settlement =
            Settlement { request: "ended".into(), usage: Usage::default(), end, source, at: at(2) };
        journal.settle(settlement).await.unwrap();
        journal.close().await;

        let journal = Journal::open(&path).await.unwrap();
        let lost = bury_the_dead(&journal, at(3)).await.unwrap();
        assert_eq!(lost.iter().map(|held| held.hold.request.to_string()).collect::<Vec<_>>(), ["lost"]);
        let row = journal.requests(&["lost".into()]).await.unwrap().remove(0);
        let expect = How::Lost { reason: LossReason::ProcessLost, estimate: Some(estimate) };
        assert_eq!(row.ending.unwrap().how, expect);
        assert!(bury_the_dead(&journal, at(4)).await.unwrap().is_empty());
        assert!(journal.check_integrity().await.unwrap().is_sound());
    }
}
