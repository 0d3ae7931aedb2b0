//! Which limits are in force for an account, a task and an end user?

use std::collections::HashMap;
use std::sync::Arc;

use domain::Account;

use super::{Limit, LimitId, Scope};
use crate::account::{self, ROOT};
use crate::{TaskPath, Timestamp};

/// The limits in force, found by the accounts and tasks that a request lies in: one look for each level, however many
/// limits there are. At most [`Limits::MAX`].
#[derive(Clone, Debug, Default)]
pub struct Limits {
    by_id: HashMap<LimitId, Arc<Limit>>,
    by_account: HashMap<Account, Vec<LimitId>>,
    by_task: HashMap<TaskPath, Vec<LimitId>>,
}

impl Limits {
    /// Half a KiB each: 50 MiB at most.
    pub const MAX: usize = 100_000;

    /// Puts a limit in, replaces it, or takes it out when it has ended.
    pub fn put(&mut self, limit: Limit, now: Timestamp) {
        self.remove(limit.id);
        if !limit.is_in_force(now) {
            return;
        }
        match &limit.scope {
            Scope::Account(owner) | Scope::Each { owner, .. } => {
                self.by_account.entry(owner.clone()).or_default().push(limit.id);
            }
            Scope::Task(task) => self.by_task.entry(task.clone()).or_default().push(limit.id),
        }
        self.by_id.insert(limit.id, Arc::new(limit));
    }

    pub fn get(&self, id: LimitId) -> Option<&Arc<Limit>> {
        self.by_id.get(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the limits that a request falls under, each with whose use it adds up; the outermost first.
    pub fn applying(
        &self,
        account: &Account,
        task: Option<&TaskPath>,
        end_user: Option<&str>,
    ) -> Vec<(Arc<Limit>, Arc<str>)> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut accounts: Vec<Account> = account::ancestors(account).collect();
        accounts.push(Account::new(ROOT));
        accounts.reverse();
        accounts.push(account.clone());
        let mut ids: Vec<LimitId> = Vec::new();
        let mut add = |found: Option<&Vec<LimitId>>| {
            for id in found.into_iter().flatten() {
                if !ids.contains(id) {
                    ids.push(*id);
                }
            }
        };
        accounts.iter().for_each(|account| add(self.by_account.get(account)));
        task.into_iter().flat_map(TaskPath::ancestors).for_each(|task| add(self.by_task.get(&task)));
        ids.iter()
            .filter_map(|id| {
                let limit = &self.by_id[id];
                let subject = limit.scope.subject(account, task, end_user)?;
                Some((limit.clone(), subject.into()))
            })
            .collect()
    }

    fn remove(&mut self, id: LimitId) {
        let Some(old) = self.by_id.remove(&id) else { return };
        match &old.scope {
            Scope::Account(owner) | Scope::Each { owner, .. } => take_out(&mut self.by_account, owner, id),
            Scope::Task(task) => take_out(&mut self.by_task, task, id),
        }
    }
}

fn take_out<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Vec<LimitId>>, key: &K, id: LimitId) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Action, Amount, Measure};

    fn limit(id: i64, scope: &str) -> Limit {
        Limit {
            id: LimitId(id),
            name: format!("limit {id}"),
            scope: scope.parse().unwrap(),
            measure: Measure::Requests,
            amount: Amount(1),
            window: "day".parse().unwrap(),
            action: Action::Refuse,
            thresholds: Vec::new(),
            created_at: Timestamp::default(),
            ended_at: None,
        }
    }

    fn applying(limits: &Limits, account: &str, task: Option<&str>) -> Vec<(i64, String)> {
        let task = task.map(|task| TaskPath::parse(task).unwrap());
        let found = limits.applying(&account.into(), task.as_ref(), Some("u-1"));
        found.into_iter().map(|(limit, subject)| (limit.id.0, subject.to_string())).collect()
    }

    #[test]
    fn all_limits_above_a_request_apply_and_none_beside_it() {
        let mut limits = Limits::default();
        for (id, scope) in [
            (1, "acme"),
            (2, "acme/research"),
            (3, "acme/sales"),
            (4, "/"),
            (5, "each end_user of acme"),
            (6, "task acme/run-1"),
            (7, "task acme/run-2"),
            (8, "each account of acme"),
        ] {
            limits.put(limit(id, scope), Timestamp::default());
        }
        let mut found = applying(&limits, "acme/research/bot", Some("acme/run-1/plan"));
        found.sort();
        let expected = [(1, ""), (2, ""), (4, ""), (5, "u-1"), (6, ""), (8, "research")];
        assert_eq!(found, expected.map(|(id, subject)| (id, subject.to_owned())));
        assert_eq!(applying(&limits, "other", None), [(4, String::new())]);
    }

    #[test]
    fn a_limit_that_has_changed_is_there_once_and_one_that_has_ended_is_gone() {
        let mut limits = Limits::default();
        limits.put(limit(1, "acme"), Timestamp::default());
        limits.put(Limit { amount: Amount(9), ..limit(1, "acme") }, Timestamp::default());
        assert_eq!(applying(&limits, "acme", None).len(), 1);
        assert_eq!(limits.get(LimitId(1)).unwrap().amount, Amount(9));
        let ended = Limit { ended_at: Some(Timestamp::default()), ..limit(1, "acme") };
        limits.put(ended, Timestamp::from_millis(1));
        assert!(limits.is_empty() && applying(&limits, "acme", None).is_empty());
    }
}
