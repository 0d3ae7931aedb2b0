//! Which of this server's open holds have lost their work, and must be closed?

use std::time::{Duration, SystemTime};

use domain::RequestId;
use ledger::{Held, Journal, LedgerError, LossReason, Timestamp};

use super::every;
use crate::events::{HoldExpired, SweepFailed};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepOptions {
    pub period: Duration,
    /// Younger holds are left alone, whoever knows them: between a hold and the start of its work there is a moment in
    /// which only the ledger knows of it. Any multiple of the longest such moment will do; this only delays a report.
    pub age_min: Duration,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self { period: Duration::from_secs(60), age_min: Duration::from_secs(120) }
    }
}

/// Holds closed in one transaction: few enough to stay far inside the time limit of a call, and to let requests in between.
const HOLDS_PER_CALL: usize = 500;

/// Closes the holds that are old enough and that the running gateway no longer knows: work that ended without telling the
/// ledger, which is a defect somewhere, but must not reserve anything for ever.
pub async fn sweep(
    journal: &Journal,
    now: Timestamp,
    age_min: Duration,
    is_alive: impl Fn(&RequestId) -> bool,
) -> Result<Vec<Held>, LedgerError> {
    let mut open = journal.own_open_holds().await?;
    open.retain(|held| held.hold.at <= now.before(age_min) && !is_alive(&held.hold.request));
    expire(journal, requests(open), LossReason::Forgotten, now).await
}

/// Sweeps at each period until `stop` is ready. A sweep that fails is reported, and the next one tries again.
pub async fn run(
    journal: Journal,
    options: SweepOptions,
    is_alive: impl Fn(&RequestId) -> bool,
    stop: impl Future<Output = ()>,
) {
    every(options.period, stop, || async {
        let now = Timestamp::from(SystemTime::now());
        if let Err(error) = sweep(&journal, now, options.age_min, &is_alive).await {
            SweepFailed { error: &error }.emit();
        }
    })
    .await;
}

/// A request that ended since it was listed stays as it ended.
async fn expire(
    journal: &Journal,
    requests: Vec<RequestId>,
    reason: LossReason,
    now: Timestamp,
) -> Result<Vec<Held>, LedgerError> {
    let mut expired = Vec::new();
    for part in requests.chunks(HOLDS_PER_CALL) {
        for held in journal.expire_holds(part.to_vec(), reason, now).await? {
            HoldExpired { held: &held, reason }.emit();
            expired.push(held);
        }
    }
    Ok(expired)
}

fn requests(holds: Vec<Held>) -> Vec<RequestId> {
    holds.into_iter().map(|held| held.hold.request).collect()
}

#[cfg(test)]
mod tests {
    use domain::Usage;
    use ledger::{Hold, How};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    async fn hold(journal: &Journal, request: &str, seconds: i64) {
        let (account, model) = ("local".into(), "tiny".into());
        let hold = Hold::new(request.into(), account, model, ESTIMATE, at(seconds));
        journal.hold(hold).await.unwrap();
    }

    const ESTIMATE: Usage = Usage {
        input_uncached: 10,
        output: 10,
        cache_read: 0,
        cache_write_5m: 0,
        cache_write_1h: 0,
        reasoning: 0,
        compute_us: 0,
    };

    async fn how(journal: &Journal, request: &str) -> Option<How> {
        let row = journal.requests(&[request.into()]).await.unwrap().remove(0);
        row.ending.map(|ending| ending.how)
    }

    fn names(holds: Vec<Held>) -> Vec<String> {
        requests(holds).iter().map(RequestId::to_string).collect()
    }

    #[tokio::test]
    async fn a_sweep_closes_what_is_old_and_unknown_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        hold(&journal, "old-forgotten", 0).await;
        hold(&journal, "old-alive", 0).await;
        hold(&journal, "young", 950).await;
        let is_alive = |request: &RequestId| request.as_str() == "old-alive";
        let swept = sweep(&journal, at(1_000), Duration::from_secs(120), is_alive).await.unwrap();
        assert_eq!(names(swept), ["old-forgotten"]);
        assert_eq!(
            how(&journal, "old-forgotten").await,
            Some(How::Lost { reason: LossReason::Forgotten, estimate: Some(ESTIMATE) })
        );
        assert_eq!(how(&journal, "old-alive").await, None);
        assert_eq!(how(&journal, "young").await, None);
        assert!(journal.check_integrity().await.unwrap().is_sound());
    }

    #[tokio::test]
    async fn the_sweeper_goes_on_until_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let options = SweepOptions { period: Duration::from_millis(5), age_min: Duration::from_secs(120) };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let sweeper = tokio::spawn(run(journal.clone(), options, |_| false, async {
            let _ = stopped.await;
        }));
        // Held in 1970, after the sweeper began: only a later sweep can find it.
        hold(&journal, "forgotten", 0).await;
        while how(&journal, "forgotten").await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send(()).unwrap();
        sweeper.await.unwrap();
    }
}
