//! Which limits does the file declare, and who is told when one is nearly spent?

use domain::Money;
use ledger::{Action, Amount, Measure, NewLimit, Scope, Timestamp, Window};
use serde::Deserialize;

/// One `[[limit]]`. Those of the file are brought about at the start; one that the file does not name any more ends then.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSetting {
    /// What refusals and reports call it; without it, its measure, scope and window.
    #[serde(default)]
    pub name: Option<String>,
    /// An account (`acme/research`, or `/` for everybody), `task acme/run-42`, or `each end_user of acme`.
    pub scope: String,
    /// money, tokens, requests, concurrency; for tasks also wall_clock, calls and depth.
    pub measure: String,
    /// USD in quotes for money (`"25.00"`), seconds for wall_clock, else a count.
    pub amount: AmountSetting,
    /// minute, hour, day, week, month, `rolling 5h` or total (the default).
    #[serde(default)]
    pub window: Option<String>,
    /// Whose clock on the wall a calendar window follows; UTC without it.
    #[serde(default)]
    pub zone: Option<String>,
    /// refuse (the default), warn, or `downgrade MODEL`.
    #[serde(default)]
    pub action: Option<String>,
    /// Percentages of the amount at which an alert is raised.
    #[serde(default)]
    pub thresholds: Vec<u8>,
}

/// Money is written as text, so that no float ever touches it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum AmountSetting {
    Usd(String),
    Count(i64),
}

/// Where alerts go. The secret that signs them is in the environment, as `BASELOAD_WEBHOOK_SECRET`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// `https://…`; without it, alerts are only logged.
    pub webhook: Option<String>,
}

impl LimitSetting {
    /// Returns the limit, or what about it means nothing.
    pub fn limit(&self, at: Timestamp) -> Result<NewLimit, String> {
        let named = |error: String| format!("the limit on {} of {}: {error}", self.measure, self.scope);
        self.read(at).map_err(named)
    }

    fn read(&self, at: Timestamp) -> Result<NewLimit, String> {
        let measure: Measure = self.measure.parse().map_err(text)?;
        let limit = NewLimit {
            name: self.name.clone(),
            scope: self.scope.parse::<Scope>().map_err(text)?,
            measure,
            amount: self.amount(measure)?,
            window: Window::parse(self.window.as_deref().unwrap_or("total"), self.zone.as_deref())
                .map_err(text)?,
            action: self.action.as_deref().map_or(Ok(Action::Refuse), str::parse).map_err(text)?,
            thresholds: self.thresholds.clone(),
            at,
        };
        limit.check().map_err(text)?;
        Ok(limit)
    }

    fn amount(&self, measure: Measure) -> Result<Amount, String> {
        match (&self.amount, measure) {
            (AmountSetting::Usd(usd), Measure::Money) => {
                Amount::of_money(usd.parse::<Money>().map_err(text)?).map_err(text)
            }
            (AmountSetting::Count(_), Measure::Money) => {
                Err("write its amount in quotes, in USD: \"25.00\"".into())
            }
            (AmountSetting::Usd(_), _) => Err("write its amount as a whole number, without quotes".into()),
            (AmountSetting::Count(seconds), Measure::WallClock) => Ok(Amount(seconds.saturating_mul(1_000))),
            (AmountSetting::Count(count), _) => Ok(Amount(*count)),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<NewLimit, String> {
        toml::from_str::<LimitSetting>(toml).map_err(text)?.limit(Timestamp::from_millis(0))
    }

    #[test]
    fn a_limit_reads_as_it_is_meant() {
        let limit = read(
            "scope = 'acme/research'\nmeasure = 'money'\namount = '25.50'\nwindow = 'month'\nzone = 'Europe/Berlin'\n\
             thresholds = [80, 100]",
        )
        .unwrap();
        assert_eq!(limit.amount.money().to_string(), "25.50");
        assert_eq!(limit.name(), "money of acme/research per month in Europe/Berlin");
        let limit =
            read("scope = 'task acme/run-1'\nmeasure = 'wall_clock'\namount = 60\naction = 'warn'").unwrap();
        assert_eq!((limit.amount, limit.action), (Amount(60_000), Action::Warn));
    }

    #[test]
    fn a_mistake_is_refused_by_name_and_never_ignored() {
        let refusal = |toml: &str| read(toml).unwrap_err();
        assert!(refusal("scope = 'a'\nmeasure = 'money'\namount = 25").contains("in quotes"));
        assert!(refusal("scope = 'a'\nmeasure = 'tokens'\namount = '25'").contains("without quotes"));
        assert!(refusal("scope = 'a'\nmeasure = 'dollars'\namount = 25").contains("choose money"));
        assert!(
            refusal("scope = 'a'\nmeasure = 'tokens'\namount = 5\nmax_budget = 3").contains("max_budget")
        );
        assert!(
            refusal("scope = 'a'\nmeasure = 'tokens'\namount = 5\nwindow = 'daily'").contains("minute, hour")
        );
        assert!(refusal("scope = 'a'\nmeasure = 'calls'\namount = 5").contains("for tasks"));
    }
}
