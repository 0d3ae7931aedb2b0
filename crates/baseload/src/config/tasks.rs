//! What may agents do, in the words of a configuration file?

use domain::{Account, ModelName, Money};
use gateway::{LoopDeed, LoopPolicy, Patience, TaskBudget, TaskPolicy, Thresholds};
use serde::{Deserialize, Deserializer, de};

/// `[tasks]`: what a run of an agent may use, and what it gets on its way to the end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// What each run may use, with all inside of it; what is left out is not limited.
    pub budget: BudgetSettings,
    /// Percent of a budget from which answers carry a warning; 100 never does.
    pub warn_percent: u8,
    /// Percent from which `downgrade_to` answers.
    pub downgrade_percent: u8,
    /// Percent from which a task gets its one last turn, without tools.
    pub hand_back_percent: u8,
    /// The cheaper model; without it, none takes another's place.
    pub downgrade_to: Option<ModelName>,
    pub loops: LoopSettings,
    /// Whether a W3C trace is a task.
    pub traceparent: bool,
    /// Budgets of the runs of some accounts, in the place of the general one.
    #[serde(rename = "account")]
    pub accounts: Vec<AccountTasks>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSettings {
    /// Written as a string, so that no float ever touches money: `usd = "0.50"`.
    #[serde(deserialize_with = "read_money")]
    pub usd: Option<Money>,
    pub tokens: Option<u64>,
    pub calls: Option<u64>,
    pub seconds: Option<u64>,
    pub depth: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountTasks {
    pub account: Account,
    pub budget: BudgetSettings,
}

/// How often something may repeat before it is a loop; 0 never calls it one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoopSettings {
    pub same_call: usize,
    pub ping_pong: usize,
    pub same_request: usize,
    pub no_progress: usize,
    /// `warn`, `hand_back` or `stop`.
    pub then: LoopThen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopThen {
    #[default]
    Warn,
    HandBack,
    Stop,
}

impl Default for TaskSettings {
    fn default() -> Self {
        let Thresholds { warn_percent, downgrade_percent, hand_back_percent } = Thresholds::default();
        Self {
            budget: BudgetSettings::default(),
            warn_percent,
            downgrade_percent,
            hand_back_percent,
            downgrade_to: None,
            loops: LoopSettings::default(),
            traceparent: true,
            accounts: Vec::new(),
        }
    }
}

impl Default for LoopSettings {
    fn default() -> Self {
        let Patience { same_call, ping_pong, same_request, no_progress } = Patience::default();
        Self { same_call, ping_pong, same_request, no_progress, then: LoopThen::Warn }
    }
}

impl TaskSettings {
    /// Refuses what parses but cannot work.
    pub fn check(&self) -> Result<(), String> {
        let stages = [self.warn_percent, self.downgrade_percent, self.hand_back_percent];
        if !stages.is_sorted() || stages[0] == 0 || stages[2] > 100 {
            return Err(format!(
                "tasks: warn_percent, downgrade_percent and hand_back_percent must rise from 1 to 100; got {stages:?}"
            ));
        }
        for AccountTasks { account, .. } in &self.accounts {
            ledger::account::account(account.as_str()).map_err(|error| format!("tasks.account: {error}"))?;
        }
        Ok(())
    }

    pub fn policy(&self) -> TaskPolicy {
        let LoopSettings { same_call, ping_pong, same_request, no_progress, then } = self.loops;
        TaskPolicy {
            budget: self.budget.into(),
            accounts: self
                .accounts
                .iter()
                .map(|tasks| (tasks.account.clone(), tasks.budget.into()))
                .collect(),
            thresholds: Thresholds {
                warn_percent: self.warn_percent,
                downgrade_percent: self.downgrade_percent,
                hand_back_percent: self.hand_back_percent,
            },
            downgrade_to: self.downgrade_to.clone(),
            loops: LoopPolicy {
                patience: Patience { same_call, ping_pong, same_request, no_progress },
                then: match then {
                    LoopThen::Warn => LoopDeed::Warn,
                    LoopThen::HandBack => LoopDeed::HandBack,
                    LoopThen::Stop => LoopDeed::Stop,
                },
            },
            ignore_traceparent: !self.traceparent,
        }
    }
}

impl From<BudgetSettings> for TaskBudget {
    fn from(BudgetSettings { usd, tokens, calls, seconds, depth }: BudgetSettings) -> Self {
        TaskBudget { usd, tokens, calls, seconds, depth }
    }
}

fn read_money<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Money>, D::Error> {
    struct MoneyText;
    impl de::Visitor<'_> for MoneyText {
        type Value = Money;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an amount of USD in quotes, such as \"0.50\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Money, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(MoneyText).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TaskSettings, String> {
        let settings: TaskSettings = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        settings.check().map(|()| settings)
    }

    #[test]
    fn what_is_not_said_limits_nothing_and_warns_of_loops() {
        let policy = read("").unwrap().policy();
        assert_eq!(policy, TaskPolicy::default());
        assert_eq!(policy.budget, TaskBudget::default());
    }

    #[test]
    fn budgets_are_for_all_runs_or_for_an_accounts() {
        let settings = read(
            "budget = { usd = \"0.50\", calls = 50, depth = 4 }\n\
             loops = { same_call = 4, then = \"stop\" }\n\
             [[account]]\naccount = \"acme/research\"\nbudget = { tokens = 1000000 }",
        );
        let policy = settings.unwrap().policy();
        assert_eq!(policy.budget.usd, Some("0.5".parse().unwrap()));
        assert_eq!(policy.budget_of(&"acme/research/bot".into()).tokens, Some(1_000_000));
        assert_eq!((policy.loops.patience.same_call, policy.loops.then), (4, LoopDeed::Stop));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert!(read("budget = { usd = 0.5 }").unwrap_err().contains("an amount of USD in quotes"));
        assert!(read("budget = { dollars = 1 }").unwrap_err().contains("unknown field `dollars`"));
        assert!(read("warn_percent = 95\ndowngrade_percent = 90").unwrap_err().contains("must rise"));
        assert!(read("[[account]]\naccount = \"a//b\"\nbudget = {}").unwrap_err().contains("tasks.account"));
    }
}
