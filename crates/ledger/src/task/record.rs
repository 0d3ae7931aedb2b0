//! What is known of a task, and what may become of it?
//!
//! ```text
//!              hand back                 request
//!   running ─────────────▶ handing back ─────────▶ refused, until approved
//!     │  ▲ approve            │    │ stop
//!     │  └────────────────────┘    ▼
//!     └───── stop ──────────▶ stopped ── approve ─▶ approved (as running)
//! ```
//! What stops a task stops everything inside of it. A hand-back is each task's own: every sub-agent gets one turn to say what
//! it knows.

use domain::{Account, Money, Usage};

use super::TaskPath;
use crate::Timestamp;
use crate::budget::{Measure, NewLimit};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    Running,
    /// Its one turn without tools was given; what comes after it is refused.
    HandingBack,
    /// A person or a policy ended it.
    Stopped,
    /// It runs because a person let it go on.
    Approved,
}

/// A task as it is kept. What it used is not kept with it: that is summed from its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    pub path: TaskPath,
    /// Who opened it. It and the accounts below it may add requests to it.
    pub account: Account,
    pub state: TaskState,
    /// Why it is in this state, for people and for the agent.
    pub reason: Option<String>,
    pub created_at: Timestamp,
    /// When it came into this state.
    pub state_at: Timestamp,
}

/// The first request of a task, seen by this process: everything that it is inside of is opened with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    pub path: TaskPath,
    pub account: Account,
    /// What the task itself may use, where it is new; a task that is there keeps what it has.
    pub limits: Vec<NewLimit>,
    pub at: Timestamp,
}

/// What is done to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskDeed {
    /// Gives the one turn in which it hands back what it knows.
    HandBack,
    Stop,
    /// Lets it and all inside of it go on, with so much more than it had.
    Approve(Vec<(Measure, i64)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskChange {
    pub path: TaskPath,
    pub deed: TaskDeed,
    pub reason: Option<String>,
    pub at: Timestamp,
}

/// Which runs, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskQuery {
    /// Those that this account opened, or one below it.
    pub within: Option<Account>,
    /// Those that have a task in this state.
    pub state: Option<TaskState>,
    pub limit: usize,
}

impl TaskState {
    pub const ALL: [TaskState; 4] = [Self::Running, Self::HandingBack, Self::Stopped, Self::Approved];

    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::HandingBack => "handing back",
            Self::Stopped => "stopped",
            Self::Approved => "approved",
        }
    }

    /// Whether requests of the task are served as they come.
    pub fn is_going(self) -> bool {
        matches!(self, Self::Running | Self::Approved)
    }

    /// Returns the state after a deed; nothing where the deed comes too late: of two requests that both want the last turn,
    /// one gets it.
    pub fn after(self, deed: &TaskDeed) -> Option<TaskState> {
        match deed {
            TaskDeed::HandBack => self.is_going().then_some(Self::HandingBack),
            TaskDeed::Stop => (self != Self::Stopped).then_some(Self::Stopped),
            TaskDeed::Approve(_) => Some(Self::Approved),
        }
    }
}

/// What requests of a task came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskSums {
    pub calls: u64,
    /// Those of `calls` that are under way.
    pub open_calls: u64,
    /// Those that used something that has no price: it is not in `cost`.
    pub unpriced_calls: u64,
    pub usage: Usage,
    pub cost: Money,
    /// From each call's beginning to its end, added up.
    pub busy_ms: u64,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
}

impl TaskSums {
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.open_calls += other.open_calls;
        self.unpriced_calls += other.unpriced_calls;
        self.usage = Usage {
            input_uncached: self.usage.input_uncached + other.usage.input_uncached,
            cache_read: self.usage.cache_read + other.usage.cache_read,
            cache_write_5m: self.usage.cache_write_5m + other.usage.cache_write_5m,
            cache_write_1h: self.usage.cache_write_1h + other.usage.cache_write_1h,
            output: self.usage.output + other.usage.output,
            reasoning: self.usage.reasoning + other.usage.reasoning,
            compute_us: self.usage.compute_us + other.usage.compute_us,
        };
        self.cost += other.cost;
        self.busy_ms += other.busy_ms;
        self.first_at = [self.first_at, other.first_at].into_iter().flatten().min();
        self.last_at = self.last_at.max(other.last_at);
    }

    /// Returns how long it took from the first call to the end of the last.
    pub fn elapsed_ms(&self) -> u64 {
        match (self.first_at, self.last_at) {
            (Some(first), Some(last)) => last.millis().saturating_sub(first.millis()).max(0) as u64,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_turn_is_given_once_until_a_person_approves() {
        let after = |state: TaskState, deed| state.after(&deed);
        let approve = || TaskDeed::Approve(Vec::new());
        assert_eq!(after(TaskState::Running, TaskDeed::HandBack), Some(TaskState::HandingBack));
        assert_eq!(after(TaskState::HandingBack, TaskDeed::HandBack), None);
        assert_eq!(after(TaskState::Stopped, TaskDeed::HandBack), None);
        assert_eq!(after(TaskState::HandingBack, approve()), Some(TaskState::Approved));
        assert_eq!(after(TaskState::Approved, TaskDeed::HandBack), Some(TaskState::HandingBack));
    }

    #[test]
    fn a_stop_holds_until_a_person_approves() {
        for state in TaskState::ALL {
            let stopped = state.after(&TaskDeed::Stop).unwrap_or(state);
            assert_eq!(stopped, TaskState::Stopped);
            assert!(!stopped.is_going());
        }
        assert_eq!(TaskState::Stopped.after(&TaskDeed::Approve(Vec::new())), Some(TaskState::Approved));
    }
}
