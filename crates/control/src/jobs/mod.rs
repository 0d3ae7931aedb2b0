//! How a job is run: at an interval, until told to stop, never cut in the middle.

pub mod alerts;
pub mod expire_holds;
pub mod heartbeat;
pub mod retire;
pub mod tend;

use std::pin::pin;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// Runs the job at once and then at each interval, until `stop` is ready. A run that has begun is finished first; one that
/// takes longer than the interval delays the next instead of being followed by a burst.
pub async fn every<Run: Future<Output = ()>>(
    period: Duration,
    stop: impl Future<Output = ()>,
    mut job: impl FnMut() -> Run,
) {
    let mut stop = pin!(stop);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            _ = ticks.tick() => job().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_job_runs_at_once_and_again_until_it_is_stopped() {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let (runs, tell) = (Cell::new(0), Cell::new(Some(tell)));
        let stop = async move {
            let _ = told.await;
        };
        every(Duration::from_millis(1), stop, || async {
            runs.set(runs.get() + 1);
            if runs.get() == 3 {
                let _ = tell.take().unwrap().send(());
            }
        })
        .await;
        assert_eq!(runs.get(), 3);
    }

    #[tokio::test]
    async fn a_run_that_has_begun_is_finished() {
        let finished = Cell::new(false);
        let stop = tokio::time::sleep(Duration::from_millis(5));
        every(Duration::from_secs(60), stop, || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            finished.set(true);
        })
        .await;
        assert!(finished.get());
    }

    #[tokio::test]
    async fn a_job_that_is_stopped_before_it_begins_never_runs() {
        every(Duration::from_millis(1), std::future::ready(()), || async { panic!("it ran") }).await;
    }
}
