//! What does an operator let agents do?

use domain::{Account, ModelName};

use super::budget::TaskBudget;
use super::loops::Patience;
use super::stage::Thresholds;

/// The same for all tasks of this server, but for budgets, which accounts may have of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskPolicy {
    /// What every run may use that says nothing, and the most that one may ask for.
    pub budget: TaskBudget,
    /// Budgets of the runs that an account, or one below it, opens; the nearest account's takes the place of `budget`.
    pub accounts: Vec<(Account, TaskBudget)>,
    pub thresholds: Thresholds,
    /// What requests of a task get that has little left; `None` leaves them their own.
    pub downgrade_to: Option<ModelName>,
    pub loops: LoopPolicy,
    /// Traces become tasks only where this is set; a server whose clients trace every request would have one for each.
    pub ignore_traceparent: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopPolicy {
    pub patience: Patience,
    pub then: LoopDeed,
}

/// What a loop leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopDeed {
    /// A header that says so: clients' histories are their own, and a wrong guess must not end work.
    #[default]
    Warn,
    HandBack,
    Stop,
}

impl TaskPolicy {
    /// Returns the budget of a run that this account opens.
    pub fn budget_of(&self, account: &Account) -> TaskBudget {
        let above = self.accounts.iter().filter(|(owner, _)| ledger::account::is_within(account, owner));
        let nearest = above.max_by_key(|(owner, _)| owner.as_str().len());
        nearest.map_or(self.budget, |(_, budget)| *budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_accounts_budget_takes_the_place_of_the_general_one() {
        let calls = |calls| TaskBudget { calls: Some(calls), ..TaskBudget::default() };
        let policy = TaskPolicy {
            budget: calls(50),
            accounts: vec![("acme".into(), calls(20)), ("acme/research".into(), calls(200))],
            ..TaskPolicy::default()
        };
        for (account, expected) in
            [("acme/research/bot", 200), ("acme/sales", 20), ("acme2", 50), ("local", 50)]
        {
            assert_eq!(policy.budget_of(&account.into()).calls, Some(expected), "{account}");
        }
    }
}
