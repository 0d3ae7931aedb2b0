//! In which one way did an answer end, and what follows from that?

use std::time::{Duration, Instant};

use domain::{ModelName, RequestId, UsageEnd};
use fleet::{Fault, Outcome};
use ledger::{Action, Measure, ReleaseReason, Standing};

use tokio::time::Instant as TokioInstant;

use super::outlet::Deaf;
use crate::app::App;
use crate::metrics::Finished;
use crate::refusal::Refusal;
use crate::visit::Visit;

/// The one way in which an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Complete,
    ClientLeft,
    SlowReader,
    TooLong,
    /// The drain is over, or the engine stops.
    Cut,
    Failed(String),
    EngineLost,
    /// The upstream broke, stalled or failed after its answer had begun.
    UpstreamBroke(String),
    /// A limit has no room for more; what was held is delivered.
    BudgetExhausted,
    /// The hold was taken from us, or cannot grow for want of a ledger.
    HoldLost,
}

impl End {
    pub fn usage_end(&self) -> UsageEnd {
        match self {
            Self::Complete => UsageEnd::Complete,
            Self::ClientLeft | Self::SlowReader => UsageEnd::CancelledAborted,
            Self::TooLong | Self::Cut | Self::BudgetExhausted | Self::HoldLost => UsageEnd::Truncated,
            Self::Failed(_) | Self::EngineLost | Self::UpstreamBroke(_) => UsageEnd::ErrorBilled,
        }
    }
    pub fn release_reason(&self) -> ReleaseReason {
        match self {
            Self::ClientLeft | Self::SlowReader => ReleaseReason::ClientLeft,
            _ => ReleaseReason::Failed,
        }
    }
    /// Tells the log of decisions of an answer that began well and did not end so.
    pub fn amend(&self, app: &App, request: &RequestId) {
        if *self != Self::Complete {
            let word = self.word().to_owned();
            app.decisions.amend(request, |record| {
                record.attempts.last_mut().into_iter().for_each(|last| last.outcome.clone_from(&word));
            });
        }
    }

    /// Returns what it says of the unit that answered.
    pub fn outcome(&self, output_tokens: u64) -> Outcome {
        match self {
            Self::Complete | Self::BudgetExhausted => Outcome::Answered { output_tokens },
            Self::Failed(_) => Outcome::Failed(Fault::Server),
            Self::EngineLost | Self::UpstreamBroke(_) => Outcome::Failed(Fault::Reset),
            _ => Outcome::Cancelled { output_tokens },
        }
    }
    pub fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::SlowReader => "slow_reader",
            Self::TooLong => "request_timeout",
            Self::Cut => "cut_by_shutdown",
            Self::Failed(_) => "engine_failed_request",
            Self::EngineLost => "engine_lost",
            Self::UpstreamBroke(_) => "upstream_broke",
            Self::BudgetExhausted => "budget_exhausted",
            Self::HoldLost => "hold_lost",
        }
    }
    pub fn finished(&self) -> Finished {
        match self {
            Self::Failed(_) | Self::EngineLost | Self::UpstreamBroke(_) => Finished::Error,
            _ => Finished::Abort,
        }
    }
}

impl From<Deaf> for End {
    fn from(deaf: Deaf) -> Self {
        match deaf {
            Deaf::Gone => Self::ClientLeft,
            Deaf::Slow => Self::SlowReader,
        }
    }
}

pub fn refusal_of(end: &End, app: &App, model: &ModelName) -> Option<Refusal> {
    let limits = &app.limits;
    match end {
        End::Complete | End::BudgetExhausted => None,
        End::HoldLost => Some(Refusal::HoldLost { retry_after: limits.retry_after }),
        End::ClientLeft | End::SlowReader => Some(Refusal::SlowReader { limit: limits.slow_reader_timeout }),
        End::TooLong => Some(Refusal::TooLong { limit: limits.request_timeout }),
        End::Cut => Some(Refusal::Draining { retry_after: limits.retry_after }),
        End::Failed(why) => Some(Refusal::WorkFailed { why: why.clone() }),
        End::UpstreamBroke(why) => Some(Refusal::UpstreamBroke { why: why.clone() }),
        End::EngineLost => {
            let model = model.clone();
            Some(Refusal::EngineDown { model, why: "it died while it worked on this request".into() })
        }
    }
}

/// Until when an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    pub at: TokioInstant,
    /// A task's time ends the answer, before the server's own limit does.
    is_budget: bool,
}

impl Deadline {
    pub fn of(app: &App, visit: &Visit, standings: &[Standing]) -> Self {
        let limit = visit.arrived + app.limits.request_timeout;
        let left = wall_clock_left(standings).map(|left| Instant::now() + left);
        let is_budget = left.is_some_and(|end| end < limit);
        Self { at: TokioInstant::from_std(left.map_or(limit, |end| end.min(limit))), is_budget }
    }

    /// Returns the end that this was: one that took too long may have been its task's.
    pub fn judge(&self, relayed: Result<(), End>) -> End {
        match relayed {
            Ok(()) => End::Complete,
            Err(End::TooLong) if self.is_budget => End::BudgetExhausted,
            Err(end) => end,
        }
    }
}

/// Returns how long the answer may take by its task's limits on time.
fn wall_clock_left(standings: &[Standing]) -> Option<Duration> {
    let clocks = standings.iter().filter(|standing| {
        standing.limit.measure == Measure::WallClock && standing.limit.action == Action::Refuse
    });
    clocks.map(|standing| Duration::from_millis(standing.remaining.0.unsigned_abs())).min()
}
