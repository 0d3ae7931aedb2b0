//! How much may a task use, by the word of whoever starts it and by policy?
//!
//! `x-baseload-task-budget: usd=0.50, tokens=20000, calls=40, seconds=600, depth=4`. What a client asks for tightens what
//! policy allows and never loosens it. Pure.

use dialect::BadRequest;
use domain::Money;
use ledger::budget::{Amount, NewLimit};
use ledger::{Action, Measure, Scope, TaskPath, Timestamp, Window};

pub const HEADER: &str = "x-baseload-task-budget";

/// What a task with everything inside of it may use; what is not said is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskBudget {
    pub usd: Option<Money>,
    pub tokens: Option<u64>,
    pub calls: Option<u64>,
    pub seconds: Option<u64>,
    /// Levels below the run itself, which is the first.
    pub depth: Option<u64>,
}

impl TaskBudget {
    /// Reads the header's words, or says which of them means nothing.
    pub fn read(text: &str) -> Result<Self, BadRequest> {
        let mut budget = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| bad(part, "expected name=value"))?;
            let (name, value) = (name.trim(), value.trim());
            let whole = || {
                let number = value.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok());
                number.ok_or_else(|| bad(part, "expected a whole number"))
            };
            let is_new = match name {
                "usd" => {
                    let money =
                        value.parse::<Money>().map_err(|_| bad(part, "expected an amount such as 0.50"))?;
                    budget.usd.replace(money).is_none()
                }
                "tokens" => budget.tokens.replace(whole()?).is_none(),
                "calls" => budget.calls.replace(whole()?).is_none(),
                "seconds" => budget.seconds.replace(whole()?).is_none(),
                "depth" => budget.depth.replace(whole()?).is_none(),
                // A misspelt budget must not be silently no budget.
                _ => return Err(bad(part, "the names are usd, tokens, calls, seconds and depth")),
            };
            if !is_new {
                return Err(bad(part, "it is said twice"));
            }
        }
        Ok(budget)
    }

    /// Returns the smaller of both, measure by measure.
    pub fn tightened(self, other: Self) -> Self {
        fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            usd: smaller(self.usd, other.usd),
            tokens: smaller(self.tokens, other.tokens),
            calls: smaller(self.calls, other.calls),
            seconds: smaller(self.seconds, other.seconds),
            depth: smaller(self.depth, other.depth),
        }
    }

    /// Returns each measure that is limited, in the measure's own unit.
    pub fn amounts(&self) -> Vec<(Measure, Amount)> {
        let count = |count: u64| Amount(i64::try_from(count).unwrap_or(i64::MAX));
        let amounts = [
            (Measure::Money, self.usd.map(|usd| Amount::of_money(usd).unwrap_or(Amount(i64::MAX)))),
            (Measure::Tokens, self.tokens.map(count)),
            (Measure::Calls, self.calls.map(count)),
            (Measure::WallClock, self.seconds.map(|seconds| count(seconds.saturating_mul(1_000)))),
            (Measure::Depth, self.depth.map(count)),
        ];
        amounts.into_iter().filter_map(|(measure, amount)| Some((measure, amount?))).collect()
    }

    /// Returns the limits that hold a task to this budget.
    pub fn limits(&self, task: &TaskPath, at: Timestamp) -> Vec<NewLimit> {
        let limit = |(measure, amount)| NewLimit {
            name: None,
            scope: Scope::Task(task.clone()),
            measure,
            amount,
            window: Window::Total,
            action: Action::Refuse,
            thresholds: Vec::new(),
            at,
        };
        self.amounts().into_iter().map(limit).collect()
    }
}

fn bad(part: &str, why: &str) -> BadRequest {
    let part: String = part.chars().take(64).collect();
    BadRequest::new(format!("the header {HEADER} cannot be read at {part:?}: {why}"))
        .at(HEADER)
        .code("invalid_task_budget")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_read_as_it_is_written() {
        let budget = TaskBudget::read("usd=0.50, tokens=20000,calls = 40 , seconds=600, depth=4").unwrap();
        assert_eq!(budget.usd, Some("0.5".parse().unwrap()));
        assert_eq!(
            (budget.tokens, budget.calls, budget.seconds, budget.depth),
            (Some(20_000), Some(40), Some(600), Some(4))
        );
        assert_eq!(
            TaskBudget::read("calls=3").unwrap(),
            TaskBudget { calls: Some(3), ..TaskBudget::default() }
        );
        assert_eq!(budget.amounts()[3], (Measure::WallClock, Amount(600_000)));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name_and_never_ignored() {
        for (text, word) in [
            ("usd=0.5, token=5", "\"token=5\""),
            ("usd", "expected name=value"),
            ("calls=-1", "a whole number"),
            ("calls=99999999999999999999", "a whole number"),
            ("usd=-1", "an amount"),
            ("usd=free", "an amount"),
            ("calls=1, calls=9", "said twice"),
        ] {
            let refused = TaskBudget::read(text).unwrap_err();
            assert!(refused.message.contains(word), "{}", refused.message);
            assert_eq!(refused.param.as_deref(), Some(HEADER));
        }
    }

    #[test]
    fn a_client_tightens_policy_and_never_loosens_it() {
        let policy = TaskBudget::read("usd=1, calls=50").unwrap();
        let asked = TaskBudget::read("usd=5, calls=10, tokens=100").unwrap();
        assert_eq!(policy.tightened(asked), TaskBudget::read("usd=1, calls=10, tokens=100").unwrap());
    }
}
