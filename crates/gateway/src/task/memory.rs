//! What does this process remember of the tasks that are alive?
//!
//! Whatever must last is in the book: a task's owner, its state, its budgets. Here is what is cheap to learn again: who goes in
//! circles, and how full budgets were when a hold last looked.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use domain::{ChatMessage, Money, Usage};
use ledger::{EndOutcome, Measure, Scope, Standing, TaskPath, TaskRecord, TaskState, Timestamp};
use parking_lot::Mutex;

use super::loops::{Finding, Memory, Patience};
use super::stage::Gauge;

/// Tasks remembered, some 2 KiB each. One that is forgotten is looked up again, and its agent's circles are seen later.
const TASKS_MAX: usize = 4_096;

/// The tasks seen lately, each under its own path.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<TaskPath, Seen>>);

struct Seen {
    /// From the run to the task itself.
    chain: Vec<TaskRecord>,
    read_at: Instant,
    used_at: Instant,
    loops: Memory,
    meters: Vec<Meter>,
}

/// A budget as a hold last found it.
struct Meter {
    limit: i64,
    measure: Measure,
    amount: i64,
    used: i64,
    /// What was used when this process first looked, and the turns since: together they say how large a turn is.
    used_first: i64,
    turns: i64,
    /// What the last hold that ended had reserved.
    reserved: i64,
    /// Which task of the chain it belongs to: its clock began with that.
    level: usize,
}

impl Remembered {
    /// Returns the task's records, if they were read not longer ago than this.
    pub fn chain(&self, path: &TaskPath, reuse: Duration) -> Option<Vec<TaskRecord>> {
        let mut seen = self.0.lock();
        let task = seen.get_mut(path).filter(|task| task.read_at.elapsed() < reuse)?;
        task.used_at = Instant::now();
        Some(task.chain.clone())
    }

    /// Notes what the book says of a task. Whoever was let go on by a person begins afresh.
    pub fn read(&self, path: &TaskPath, chain: Vec<TaskRecord>) {
        let now = Instant::now();
        let mut tasks = self.0.lock();
        if tasks.len() >= TASKS_MAX && !tasks.contains_key(path) {
            forget_oldest(&mut tasks);
        }
        let fresh = || Seen {
            chain: Vec::new(),
            read_at: now,
            used_at: now,
            loops: Memory::default(),
            meters: Vec::new(),
        };
        let seen = tasks.entry(path.clone()).or_insert_with(fresh);
        let approvals = |chain: &[TaskRecord]| {
            let approved = chain.iter().filter(|task| task.state == TaskState::Approved);
            approved.map(|task| task.state_at).max()
        };
        if approvals(&chain) > approvals(&seen.chain) {
            seen.loops.forgive();
            seen.meters.clear();
        }
        (seen.chain, seen.read_at, seen.used_at) = (chain, now, now);
    }

    /// Notes the request's messages; returns in which circle its agent goes.
    pub fn judge(&self, path: &TaskPath, messages: &[ChatMessage], patience: &Patience) -> Option<Finding> {
        self.0.lock().get_mut(path)?.loops.judge(messages, patience)
    }

    /// Notes how the task's budgets stand with a hold that was just opened.
    pub fn held(&self, path: &TaskPath, standings: &[Standing]) {
        let mut tasks = self.0.lock();
        let Some(seen) = tasks.get_mut(path) else { return };
        for standing in standings {
            let Some(level) = level(&standing.limit.scope) else { continue };
            if standing.limit.measure == Measure::Depth {
                continue; // Where a task stands uses nothing up.
            }
            let (limit, amount) = (standing.limit.id.0, standing.limit.amount.0);
            let used = amount - standing.remaining.0;
            match seen.meters.iter_mut().find(|meter| meter.limit == limit) {
                Some(meter) => {
                    (meter.amount, meter.used) = (amount, used);
                    meter.turns += 1;
                }
                None => {
                    let measure = standing.limit.measure;
                    // This hold is not what was used before it, but what it will use is not known yet.
                    let used_first = standing.spent.0;
                    seen.meters.push(Meter {
                        limit,
                        measure,
                        amount,
                        used,
                        used_first,
                        turns: 1,
                        reserved: 0,
                        level,
                    });
                }
            }
        }
    }

    /// Notes by how much less was used than the hold had promised, or more.
    pub fn settled(&self, path: &TaskPath, outcome: &EndOutcome) {
        let mut tasks = self.0.lock();
        let Some(seen) = tasks.get_mut(path).filter(|_| !outcome.repeated) else { return };
        let pico = |money: Option<Money>| money.and_then(Money::entry_pico).unwrap_or(0);
        let tokens = |usage: Option<Usage>| usage.map_or(0, |usage| usage.total() as i64);
        let (held, ending) = (&outcome.held, &outcome.ending);
        for meter in &mut seen.meters {
            let (reserved, used) = match meter.measure {
                Measure::Money => (pico(held.amount()), pico(ending.cost)),
                Measure::Tokens => (tokens(Some(held.hold.estimate)), tokens(ending.usage())),
                _ => (0, 0),
            };
            meter.reserved = reserved;
            meter.used -= reserved - used;
        }
    }

    /// Returns how full the task's budgets are, as far as this process knows.
    pub fn gauges(&self, path: &TaskPath, now: Timestamp) -> Vec<Gauge> {
        let tasks = self.0.lock();
        let Some(seen) = tasks.get(path) else { return Vec::new() };
        let gauge = |meter: &Meter| {
            let used = match (meter.measure, seen.chain.get(meter.level)) {
                (Measure::WallClock, Some(task)) => now.millis().saturating_sub(task.created_at.millis()),
                _ => meter.used,
            };
            let usual = match meter.measure {
                Measure::WallClock => 0,
                _ => (meter.used - meter.used_first).max(0) / meter.turns.max(1),
            };
            Gauge { measure: meter.measure, amount: meter.amount, used, usual, reserved: meter.reserved }
        };
        seen.meters.iter().map(gauge).collect()
    }
}

/// Returns which record of a chain a budget belongs to: the run is the first.
fn level(scope: &Scope) -> Option<usize> {
    match scope {
        Scope::Task(task) => Some(task.depth().saturating_sub(2)),
        scope => scope.is_of_tasks().then_some(0),
    }
}

/// An eighth at once, so that a full memory is not searched for every new task.
fn forget_oldest(tasks: &mut HashMap<TaskPath, Seen>) {
    let mut ages: Vec<Instant> = tasks.values().map(|task| task.used_at).collect();
    ages.sort_unstable();
    let before = ages[ages.len() / 8];
    tasks.retain(|_, task| task.used_at > before);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, state: TaskState, state_at: i64) -> TaskRecord {
        TaskRecord {
            path: TaskPath::parse(path).unwrap(),
            account: "acme".into(),
            state,
            reason: None,
            created_at: Timestamp::default(),
            state_at: Timestamp::from_millis(state_at),
        }
    }

    #[test]
    fn memory_is_bounded_and_the_longest_unused_is_forgotten_first() {
        let remembered = Remembered::default();
        let path = |number: usize| TaskPath::parse(&format!("acme/run-{number}")).unwrap();
        for number in 0..TASKS_MAX {
            remembered.read(&path(number), vec![record("acme/run", TaskState::Running, 0)]);
        }
        let long = Duration::from_secs(60);
        assert!(remembered.chain(&path(0), long).is_some());
        for number in TASKS_MAX..2 * TASKS_MAX {
            remembered.read(&path(number), vec![record("acme/run", TaskState::Running, 0)]);
            remembered.chain(&path(0), long);
        }
        assert!(remembered.0.lock().len() <= TASKS_MAX);
        assert!(remembered.chain(&path(0), long).is_some());
        assert!(remembered.chain(&path(1), long).is_none());
    }

    #[test]
    fn an_approval_forgives_circles_once() {
        let remembered = Remembered::default();
        let path = TaskPath::parse("acme/run").unwrap();
        remembered.read(&path, vec![record("acme/run", TaskState::Running, 0)]);
        let patience = Patience { same_request: 2, ..Patience::default() };
        let judge = || remembered.judge(&path, &[], &patience);
        assert!(judge().is_none());
        assert!(judge().is_some());
        remembered.read(&path, vec![record("acme/run", TaskState::Approved, 5)]);
        assert!(judge().is_none());
        remembered.read(&path, vec![record("acme/run", TaskState::Approved, 5)]);
        assert!(judge().is_some());
    }
}
