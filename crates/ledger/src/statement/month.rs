//! What does each cost centre owe for a month?
//!
//! *Showback* tells what was used; *chargeback* is what finance books, under the terms that were agreed with each provider:
//! their discounts and commitments are shared out in proportion to list cost, to the last picodollar. A month that is closed
//! is kept as it was told. What is booked to it later, or priced otherwise later, changes new views and never that one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use domain::Money;
use serde::{Deserialize, Serialize};

use super::{ChargeRow, Used};
use crate::Timestamp;
use crate::price::{Bill, Provider, Terms};

/// A month of the UTC calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(jiff::civil::Date);

/// A month's charges by cost centre, and the lines that they are the sums of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthStatement {
    pub month: Month,
    /// When it was closed; `None` is a view of what is booked now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed_at: Option<String>,
    /// Whose prices, where they are not those in force when the work was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repriced_with: Option<String>,
    pub cost_centres: Vec<CostCentreLine>,
    pub bills: Vec<Bills>,
    pub lines: Vec<MonthLine>,
}

/// What one cost centre owes. `None` is everything that no cost centre was named for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostCentreLine {
    pub cost_centre: Option<String>,
    pub priced: Used,
    /// Its share of what is due to all providers.
    #[serde(with = "usd")]
    pub due: Money,
}

/// One provider's month under its terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bills {
    pub provider: String,
    #[serde(flatten)]
    pub bill: Bill,
}

/// What one account used of one model at one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthLine {
    pub cost_centre: Option<String>,
    pub account: String,
    pub provider: String,
    pub model: String,
    pub tier: String,
    /// `priced`, `unpriced`, or `estimated`; or `saved` or `saved_unpriced`, which nobody owes.
    pub kind: String,
    pub used: Used,
}

/// Cost centre, account, provider, model, service tier, kind.
type LineKey = (Option<String>, String, String, String, String, String);

/// Returns the statement of a month's charges, with the terms that apply to each provider.
pub fn statement(month: Month, charges: &[ChargeRow], terms: &BTreeMap<Provider, Terms>) -> MonthStatement {
    let mut lines: BTreeMap<LineKey, Used> = BTreeMap::new();
    for charge in charges {
        let key = (
            charge.cost_centre.clone(),
            charge.account.to_string(),
            charge.circumstances.provider.to_string(),
            charge.model.clone(),
            charge.circumstances.service_tier.to_string(),
            charge.kind().to_owned(),
        );
        let used = lines.entry(key).or_default();
        *used = used.and(&charge.used);
    }
    let line = |((cost_centre, account, provider, model, tier, kind), used)| MonthLine {
        cost_centre,
        account,
        provider,
        model,
        tier,
        kind,
        used,
    };
    let lines: Vec<MonthLine> = lines.into_iter().map(line).collect();
    let (cost_centres, bills) = shared_out(&lines, terms);
    MonthStatement { month, closed_at: None, repriced_with: None, cost_centres, bills, lines }
}

impl ChargeRow {
    pub fn kind(&self) -> &'static str {
        match (self.is_estimated, self.price) {
            _ if self.is_saved && self.price.is_none() => "saved_unpriced",
            _ if self.is_saved => "saved",
            (true, _) => "estimated",
            (false, None) => "unpriced",
            (false, Some(_)) => "priced",
        }
    }
}

/// Bills each provider as a whole, and shares what is due among the cost centres.
fn shared_out(lines: &[MonthLine], terms: &BTreeMap<Provider, Terms>) -> (Vec<CostCentreLine>, Vec<Bills>) {
    let priced = || lines.iter().filter(|line| line.kind == "priced");
    let names: BTreeSet<&Option<String>> = lines.iter().map(|line| &line.cost_centre).collect();
    let mut centres: Vec<CostCentreLine> = names
        .into_iter()
        .map(|name| {
            let own = priced().filter(|line| line.cost_centre == *name);
            let used = own.fold(Used::default(), |sum, line| sum.and(&line.used));
            CostCentreLine { cost_centre: name.clone(), priced: used, due: Money::ZERO }
        })
        .collect();
    let providers: BTreeSet<&str> = priced().map(|line| line.provider.as_str()).collect();
    let mut bills = Vec::new();
    for provider in providers {
        let part = |centre: &CostCentreLine| {
            priced()
                .filter(|line| line.provider == provider && line.cost_centre == centre.cost_centre)
                .map(|line| line.used.cost)
                .sum::<Money>()
        };
        let parts: Vec<Money> = centres.iter().map(part).collect();
        let list = parts.iter().copied().sum();
        let bill = terms.get(&Provider::from(provider)).cloned().unwrap_or_default().bill(list);
        for (centre, share) in centres.iter_mut().zip(bill.shares(&parts)) {
            centre.due += share;
        }
        bills.push(Bills { provider: provider.to_owned(), bill });
    }
    (centres, bills)
}

impl MonthStatement {
    pub fn title(&self) -> String {
        let state = match (&self.repriced_with, &self.closed_at) {
            (Some(sheet), _) => format!("view at the prices of {sheet}; nothing is booked by it"),
            (None, Some(at)) => format!("closed {at}"),
            (None, None) => "open: what is booked until now".to_owned(),
        };
        format!("Statement of {} ({state})", self.month)
    }
    pub fn total(&self) -> Used {
        self.cost_centres.iter().fold(Used::default(), |sum, line| sum.and(&line.priced))
    }
    pub fn due(&self) -> Money {
        self.cost_centres.iter().map(|line| line.due).sum()
    }
    pub fn unpriced(&self) -> Used {
        self.of_kind("unpriced")
    }
    pub fn estimated(&self) -> Used {
        self.of_kind("estimated")
    }
    /// Returns what answers that were given again would have used and cost; those without a price are not in it.
    pub fn saved(&self) -> Used {
        self.of_kind("saved")
    }
    pub fn saved_unpriced(&self) -> Used {
        self.of_kind("saved_unpriced")
    }
    /// Returns priced use that no cost centre was named for.
    pub fn unallocated(&self) -> Used {
        self.cost_centres
            .iter()
            .find(|line| line.cost_centre.is_none())
            .map(|line| line.priced)
            .unwrap_or_default()
    }
    fn of_kind(&self, kind: &str) -> Used {
        let lines = self.lines.iter().filter(|line| line.kind == kind);
        lines.fold(Used::default(), |sum, line| sum.and(&line.used))
    }

    /// Returns the text in which a closed month is kept.
    pub fn to_text(&self) -> String {
        format!("{}\n", serde_json::to_string_pretty(self).expect("a statement is names and numbers"))
    }
    pub fn from_text(text: &str) -> Result<Self, crate::LedgerError> {
        serde_json::from_str(text)
            .map_err(|error| crate::LedgerError::Damaged(format!("a statement is unreadable: {error}")))
    }
}

impl Month {
    pub fn of(at: Timestamp) -> Self {
        let date =
            jiff::Timestamp::from_millisecond(at.millis().clamp(-62_135_596_800_000, 253_402_207_200_000))
                .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date())
                .expect("a clamped instant is inside the calendar");
        Self(date.first_of_month())
    }
    pub fn start(self) -> Timestamp {
        midnight(self.0)
    }
    /// Returns the first instant after it.
    pub fn end(self) -> Timestamp {
        midnight(self.next().0)
    }
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(jiff::Span::new().months(1)))
    }
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(jiff::Span::new().months(1)))
    }
}

fn midnight(date: jiff::civil::Date) -> Timestamp {
    let start = date.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp().as_millisecond());
    Timestamp::from_millis(start.unwrap_or(i64::MAX))
}

/// `2026-10`
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04}-{:02}", self.0.year(), self.0.month()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a month is written as 2026-10; got {0:?}")]
pub struct NotAMonth(String);

impl FromStr for Month {
    type Err = NotAMonth;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let day = format!("{text}-01").parse().ok().filter(|_| text.len() == 7);
        day.map(Self).ok_or_else(|| NotAMonth(text.to_owned()))
    }
}

impl Serialize for Month {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Money in statements is decimal text: a JSON number may become a float on its way.
pub(crate) mod usd {
    use domain::Money;
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::price::Usd;

    pub fn serialize<S: Serializer>(money: &Money, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(money)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(|Usd(money)| money).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use domain::Usage;

    use super::*;
    use crate::PriceId;
    use crate::price::{Circumstances, TermsText, Usd};

    fn charge(cost_centre: Option<&str>, account: &str, provider: &str, usd: &str) -> ChargeRow {
        let Usd(cost) = usd.parse().unwrap();
        ChargeRow {
            day: "2026-10".parse::<Month>().unwrap().start(),
            account: account.into(),
            cost_centre: cost_centre.map(str::to_owned),
            model: "m".into(),
            circumstances: Circumstances { provider: provider.into(), ..Circumstances::default() },
            price: Some(PriceId(1)),
            above_input_tokens: 0,
            is_estimated: false,
            is_saved: false,
            used: Used { requests: 1, usage: Usage { output: 10, ..Usage::default() }, cost },
        }
    }

    fn october(charges: &[ChargeRow], terms: &str) -> MonthStatement {
        let terms = toml::from_str::<TermsText>(terms).unwrap().terms().unwrap();
        statement("2026-10".parse().unwrap(), charges, &BTreeMap::from([("openai".into(), terms)]))
    }

    #[test]
    fn each_cost_centre_owes_its_share_of_what_is_due() {
        let charges = [
            charge(Some("K1"), "acme/a", "openai", "600"),
            charge(Some("K2"), "acme/b", "openai", "300"),
            charge(None, "acme/c", "openai", "100"),
            charge(Some("K2"), "acme/b", "local", "7"),
        ];
        let statement = october(&charges, "volume = [{ from = '500', times = '0.8' }]");
        let due: Vec<_> = statement
            .cost_centres
            .iter()
            .map(|line| (line.cost_centre.as_deref(), line.due.to_string()))
            .collect();
        // 500 + 500 × 0.8 = 900 of 1000 at this provider; the other has no terms.
        assert_eq!(
            due,
            [(None, "90.00".into()), (Some("K1"), "540.00".into()), (Some("K2"), "277.00".into())]
        );
        assert_eq!(statement.due().to_string(), "907.00");
        assert_eq!(statement.unallocated().cost.to_string(), "100.00");
    }

    #[test]
    fn unpriced_and_estimated_use_is_told_and_owed_by_nobody() {
        let mut unpriced = charge(Some("K1"), "acme/a", "openai", "0");
        unpriced.price = None;
        let mut estimated = charge(Some("K1"), "acme/a", "openai", "3");
        estimated.is_estimated = true;
        let statement = october(&[unpriced, estimated, charge(Some("K1"), "acme/a", "openai", "1")], "");
        assert_eq!(statement.due().to_string(), "1.00");
        assert_eq!(
            (statement.unpriced().requests, statement.estimated().cost.to_string()),
            (1, "3.00".into())
        );
    }

    #[test]
    fn a_closed_month_comes_back_from_its_text() {
        let mut statement = october(&[charge(None, "acme/a", "openai", "0.000000000001")], "committed = '5'");
        statement.closed_at = Some("2026-11-02T00:00:00.000Z".into());
        assert_eq!(MonthStatement::from_text(&statement.to_text()), Ok(statement));
    }

    #[test]
    fn months_are_calendar_months() {
        let month: Month = "2026-12".parse().unwrap();
        assert_eq!(
            (month.next().to_string(), month.before().to_string()),
            ("2027-01".into(), "2026-11".into())
        );
        assert_eq!(month.end(), month.next().start());
        assert_eq!(Month::of(month.start()), month);
        assert_eq!(Month::of(Timestamp::from_millis(month.start().millis() - 1)), month.before());
        for wrong in ["2026", "2026-13", "2026-1", "2026-10-01", "last"] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
    }
}
