//! What may be used, by whom, of what, and what happens beyond it?

use std::fmt;

use domain::{Account, ModelName, Money};

use super::window::{Window, WindowError};
use crate::account::ROOT;
use crate::{TaskPath, TaskPathError, Timestamp};

/// The number of a row in the table of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub i64);

/// A limit as it is in force. All limits whose scope a request falls under apply to it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub id: LimitId,
    /// What refusals and reports call it; unique among the limits in force.
    pub name: String,
    pub scope: Scope,
    pub measure: Measure,
    pub amount: Amount,
    pub window: Window,
    pub action: Action,
    /// Percentages of the amount at which an alert is raised, rising.
    pub thresholds: Vec<u8>,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// A limit to be set. One of the same name that is in force gets the new amount, action and thresholds, and keeps what is
/// spent; its scope, measure and window must be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLimit {
    /// `None`: named after its scope, measure and window.
    pub name: Option<String>,
    pub scope: Scope,
    pub measure: Measure,
    pub amount: Amount,
    pub window: Window,
    pub action: Action,
    pub thresholds: Vec<u8>,
    pub at: Timestamp,
}

/// Whose use is added up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// An account with everything below it.
    Account(Account),
    /// A task with everything inside of it.
    Task(TaskPath),
    /// Of everything that an account and those below it pay: each one for itself.
    Each { owner: Account, every: Every },
}

/// What a limit of [`Scope::Each`] tells apart. It holds for those that nobody has named before, from their first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Every {
    /// The accounts directly below the owner.
    Account,
    /// The client's own names for its end users; requests without one share one.
    EndUser,
    /// Whole runs, by their root; requests without a task are not counted.
    Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    Money,
    /// Input, cached or not, and output.
    Tokens,
    Requests,
    /// Requests under way.
    Concurrency,
    /// From the task's first request to now; tasks only.
    WallClock,
    /// Requests of a task; tasks only.
    Calls,
    /// Levels of a task's path; tasks only.
    Depth,
}

/// How much, in the unit of its measure: picodollars, tokens, requests, milliseconds or levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub i64);

/// What happens to a request that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Refuse,
    /// Only this model may go on; what it uses is counted and never refused by this limit.
    Downgrade(ModelName),
    /// Nothing: it is counted, and alerts are raised.
    Warn,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error(transparent)]
    Task(#[from] TaskPathError),
    #[error("a limit on {measure} is for tasks: set it on a task, or on each task of an account")]
    TasksOnly { measure: Measure },
    #[error("a limit on {measure} has no window, because it is never used up; use the window `total`")]
    NoWindow { measure: Measure },
    #[error("the amount of a limit is {given}; it must not be negative")]
    Negative { given: i64 },
    #[error(
        "a money limit holds at most {} USD; set limits of that size on several accounts",
        Money::from_pico(i64::MAX.into())
    )]
    TooMuchMoney,
    #[error("thresholds are at most {THRESHOLDS_MAX} rising percentages from 1 to 100; got {given:?}")]
    Thresholds { given: Vec<u8> },
    #[error("a limit's name has 1 to {NAME_CHARACTERS_MAX} printable characters; got {given:?}")]
    Name { given: String },
    #[error("the account {given:?} is no path of accounts, such as acme/research")]
    Account { given: String },
    #[error("the limit {name:?} is in force for another {what}; end it first, or choose another name")]
    Different { name: String, what: &'static str },
    #[error("there is no limit {name:?} in force")]
    NoSuchLimit { name: String },
    #[error("{limits} limits are in force, as many as there may be; end some of them")]
    TooMany { limits: usize },
    #[error("{given:?} is no {what}; {advice}")]
    Unreadable { what: &'static str, given: String, advice: &'static str },
}

const THRESHOLDS_MAX: usize = 8;
const NAME_CHARACTERS_MAX: usize = 200;

impl Limit {
    /// Whether this limit can refuse requests for this model; if not, it only counts them.
    pub fn binds(&self, model: &ModelName) -> bool {
        match &self.action {
            Action::Refuse => true,
            Action::Downgrade(to) => to != model,
            Action::Warn => false,
        }
    }

    pub fn is_in_force(&self, at: Timestamp) -> bool {
        self.ended_at.is_none_or(|ended_at| at < ended_at)
    }
}

impl NewLimit {
    pub fn name(&self) -> String {
        let of = || format!("{} of {} per {}", self.measure, self.scope, self.window);
        self.name.clone().unwrap_or_else(of)
    }

    /// Refuses what could not be counted, or would not mean what it seems to mean.
    pub fn check(&self) -> Result<(), LimitError> {
        let measure = self.measure;
        let name = self.name();
        if name.is_empty() || name.chars().count() > NAME_CHARACTERS_MAX || name.chars().any(char::is_control)
        {
            return Err(LimitError::Name { given: name });
        }
        if self.amount.0 < 0 {
            return Err(LimitError::Negative { given: self.amount.0 });
        }
        if measure.is_of_tasks() && !self.scope.is_of_tasks() {
            return Err(LimitError::TasksOnly { measure });
        }
        let is_level = matches!(measure, Measure::Concurrency | Measure::WallClock | Measure::Depth);
        if is_level && self.window != Window::Total {
            return Err(LimitError::NoWindow { measure });
        }
        let rises = self.thresholds.is_sorted_by(|a, b| a < b);
        let in_range = self.thresholds.iter().all(|percent| (1..=100).contains(percent));
        if !rises || !in_range || self.thresholds.len() > THRESHOLDS_MAX {
            return Err(LimitError::Thresholds { given: self.thresholds.clone() });
        }
        match &self.scope {
            Scope::Account(owner) | Scope::Each { owner, .. }
                if owner.as_str() != ROOT && owner.as_str().split('/').any(str::is_empty) =>
            {
                Err(LimitError::Account { given: owner.to_string() })
            }
            _ => Ok(()),
        }
    }
}

impl Scope {
    pub fn is_of_tasks(&self) -> bool {
        matches!(self, Self::Task(_) | Self::Each { every: Every::Task, .. })
    }

    /// Returns whose use is added up when this account pays for this task and end user: the empty name where the scope has
    /// only one; nothing where the request does not fall under it.
    pub fn subject<'a>(
        &self,
        account: &'a Account,
        task: Option<&'a TaskPath>,
        end_user: Option<&'a str>,
    ) -> Option<&'a str> {
        match self {
            Self::Account(owner) => below(account, owner).map(|_| ""),
            Self::Task(scope) => task?.is_within(scope).then_some(""),
            Self::Each { owner, every } => {
                let below = below(account, owner)?;
                match every {
                    Every::Account => below.split('/').next().filter(|name| !name.is_empty()),
                    Every::EndUser => Some(end_user.unwrap_or_default()),
                    Every::Task => task.map(TaskPath::root),
                }
            }
        }
    }

    /// Returns how deep a task lies under this scope, which itself is the first level.
    pub fn depth(&self, task: &TaskPath) -> i64 {
        let top = match self {
            Self::Task(scope) => scope.depth(),
            Self::Account(_) | Self::Each { .. } => task.root().split('/').count(),
        };
        (task.depth() + 1).saturating_sub(top) as i64
    }
}

/// Returns what of `account` lies below `owner`: nothing at all where it is elsewhere, the empty path for itself.
fn below<'a>(account: &'a Account, owner: &Account) -> Option<&'a str> {
    if owner.as_str() == ROOT {
        return Some(account.as_str());
    }
    let rest = account.as_str().strip_prefix(owner.as_str())?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

impl Measure {
    pub fn is_of_tasks(self) -> bool {
        matches!(self, Self::WallClock | Self::Calls | Self::Depth)
    }

    /// Returns the amount with its unit, as people read it.
    pub fn show(self, amount: Amount) -> String {
        let Amount(count) = amount;
        match self {
            Self::Money => format!("{} USD", Money::from_pico(count.into())),
            Self::Tokens => format!("{count} tokens"),
            Self::Requests => format!("{count} requests"),
            Self::Concurrency => format!("{count} requests at once"),
            Self::WallClock => format!("{}.{:03} s", count / 1_000, (count % 1_000).abs()),
            Self::Calls => format!("{count} calls"),
            Self::Depth => format!("{count} levels"),
        }
    }
}

impl Amount {
    pub fn of_money(money: Money) -> Result<Self, LimitError> {
        money.entry_pico().map(Self).ok_or(LimitError::TooMuchMoney)
    }
    pub fn money(self) -> Money {
        Money::from_pico(self.0.into())
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Money => "money",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::Concurrency => "concurrency",
            Self::WallClock => "wall_clock",
            Self::Calls => "calls",
            Self::Depth => "depth",
        })
    }
}

impl std::str::FromStr for Measure {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let all = [
            Self::Money,
            Self::Tokens,
            Self::Requests,
            Self::Concurrency,
            Self::WallClock,
            Self::Calls,
            Self::Depth,
        ];
        all.into_iter().find(|measure| measure.to_string() == text).ok_or_else(|| LimitError::Unreadable {
            what: "measure",
            given: text.to_owned(),
            advice: "choose money, tokens, requests, concurrency, wall_clock, calls or depth",
        })
    }
}

/// `acme/research`, `task acme/run-42/plan`, `each end_user of acme`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account) => write!(f, "{account}"),
            Self::Task(task) => write!(f, "task {task}"),
            Self::Each { owner, every } => write!(f, "each {every} of {owner}"),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account => "account",
            Self::EndUser => "end_user",
            Self::Task => "task",
        })
    }
}

impl std::str::FromStr for Every {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        match text {
            "account" => Ok(Self::Account),
            "end_user" => Ok(Self::EndUser),
            "task" => Ok(Self::Task),
            other => Err(LimitError::Unreadable {
                what: "thing that a limit can tell apart",
                given: other.to_owned(),
                advice: "choose account, end_user or task",
            }),
        }
    }
}

/// What [`Scope`] is displayed as.
impl std::str::FromStr for Scope {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let wrong = || LimitError::Unreadable {
            what: "scope",
            given: text.to_owned(),
            advice: "write an account, `task acme/run-42`, or `each end_user of acme`",
        };
        if let Some(task) = text.strip_prefix("task ") {
            return Ok(Self::Task(TaskPath::parse(task)?));
        }
        if let Some(rest) = text.strip_prefix("each ") {
            let (every, owner) = rest.split_once(" of ").ok_or_else(wrong)?;
            return Ok(Self::Each { owner: owner.into(), every: every.parse()? });
        }
        if text.is_empty() || text.contains(' ') { Err(wrong()) } else { Ok(Self::Account(text.into())) }
    }
}

/// `refuse`, `warn`, `downgrade small`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse => f.write_str("refuse"),
            Self::Downgrade(to) => write!(f, "downgrade {to}"),
            Self::Warn => f.write_str("warn"),
        }
    }
}

/// What [`Action`] is displayed as.
impl std::str::FromStr for Action {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        match (text, text.strip_prefix("downgrade ").map(str::trim)) {
            ("refuse", _) => Ok(Self::Refuse),
            ("warn", _) => Ok(Self::Warn),
            (_, Some(model)) if !model.is_empty() => Ok(Self::Downgrade(model.into())),
            _ => Err(LimitError::Unreadable {
                what: "action",
                given: text.to_owned(),
                advice: "choose refuse, warn, or `downgrade MODEL`",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(scope: &str, account: &str, task: Option<&str>, user: Option<&str>) -> Option<String> {
        let scope: Scope = scope.parse().unwrap();
        let task = task.map(|task| TaskPath::parse(task).unwrap());
        scope.subject(&account.into(), task.as_ref(), user).map(str::to_owned)
    }

    #[test]
    fn a_limit_counts_the_account_and_all_below_it_and_no_neighbour() {
        for (account, falls_under) in [
            ("acme", true),
            ("acme/research", true),
            ("acme/research/bot", true),
            ("acme2", false),
            ("a", false),
        ] {
            assert_eq!(subject("acme", account, None, None).is_some(), falls_under, "{account}");
        }
    }

    #[test]
    fn a_limit_on_a_task_counts_its_whole_tree_and_no_task_that_only_begins_alike() {
        let scope = "task acme/run-1/plan";
        for (task, falls_under) in [
            ("acme/run-1/plan/search", true),
            ("acme/run-1/plan", true),
            ("acme/run-1", false),
            ("acme/run-1/planet", false),
            ("stranger/run-1/plan", false),
        ] {
            assert_eq!(subject(scope, "acme/bot", Some(task), None).is_some(), falls_under, "{task}");
        }
        assert_eq!(subject(scope, "acme", None, None), None);
        let depth =
            |scope: &str, task: &str| scope.parse::<Scope>().unwrap().depth(&TaskPath::parse(task).unwrap());
        assert_eq!(depth(scope, "acme/run-1/plan"), 1);
        assert_eq!(depth(scope, "acme/run-1/plan/search/deeper"), 3);
        assert_eq!(depth("each task of acme", "acme/run-1/plan"), 2);
    }

    #[test]
    fn a_limit_on_the_root_counts_everybody() {
        assert_eq!(subject("/", "acme/a", None, None), Some(String::new()));
        assert_eq!(subject("each account of /", "acme/a", None, None).as_deref(), Some("acme"));
    }

    #[test]
    fn each_one_is_told_apart_without_having_been_named() {
        let each = |every: &str, account: &str, task, user| {
            subject(&format!("each {every} of acme"), account, task, user)
        };
        assert_eq!(each("account", "acme/a/b", None, None).as_deref(), Some("a"));
        assert_eq!(each("account", "acme", None, None), None, "the owner itself is not below itself");
        assert_eq!(each("end_user", "acme", None, Some("u-7")).as_deref(), Some("u-7"));
        assert_eq!(each("end_user", "acme", None, None).as_deref(), Some(""), "the nameless share one");
        assert_eq!(each("task", "acme/a", Some("acme/run-1/x"), None).as_deref(), Some("acme/run-1"));
        assert_eq!(each("task", "acme/a", None, None), None);
    }

    #[test]
    fn limits_that_could_not_be_counted_are_refused_by_name() {
        let limit = |change: &dyn Fn(&mut NewLimit)| {
            let mut limit = NewLimit {
                name: None,
                scope: Scope::Account("acme".into()),
                measure: Measure::Money,
                amount: Amount(1),
                window: "month".parse().unwrap(),
                action: Action::Refuse,
                thresholds: vec![50, 80, 100],
                at: Timestamp::default(),
            };
            change(&mut limit);
            limit.check().map_err(|error| error.to_string())
        };
        let refusal = |change: &dyn Fn(&mut NewLimit)| limit(change).unwrap_err();
        assert_eq!(limit(&|_| ()), Ok(()));
        assert!(refusal(&|limit| limit.measure = Measure::Depth).contains("for tasks"));
        assert!(refusal(&|limit| limit.measure = Measure::Concurrency).contains("`total`"));
        assert!(refusal(&|limit| limit.amount = Amount(-1)).contains("negative"));
        assert!(refusal(&|limit| limit.thresholds = vec![80, 50]).contains("rising"));
        assert!(refusal(&|limit| limit.thresholds = vec![0]).contains("from 1 to 100"));
        assert!(refusal(&|limit| limit.name = Some(String::new())).contains("printable"));
        assert!(refusal(&|limit| limit.scope = Scope::Account("acme//x".into())).contains("no path"));
    }

    #[test]
    fn scopes_actions_and_measures_are_written_as_they_are_read() {
        for scope in
            ["acme/research", "task acme/run-42/plan", "each end_user of acme", "each task of local", "/"]
        {
            assert_eq!(scope.parse::<Scope>().unwrap().to_string(), scope);
        }
        for action in ["refuse", "warn", "downgrade small"] {
            assert_eq!(action.parse::<Action>().unwrap().to_string(), action);
        }
        for wrong in ["", "two words", "each moon of acme", "task ??"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
        assert!("downgrade ".parse::<Action>().is_err());
        assert_eq!("wall_clock".parse::<Measure>().unwrap(), Measure::WallClock);
    }
}
