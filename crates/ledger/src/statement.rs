//! What was used and what it cost, as rows that people and programs can read.
//!
//! Three kinds of use are never added up with each other: what is *priced*, what is *unpriced* (counted, but no price was in
//! force for it), and what is *estimated* (a process died, or a provider was silent: an upper bound). A sum that mixed them
//! would be a number that nobody could explain. What is *saved* is no use at all, and stands beside them.

mod columns;
mod focus;
mod month;
mod parquet;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use domain::{Account, Money, Usage, UsageEnd};
use serde::{Deserialize, Serialize};

pub use self::focus::{
    FOCUS_VERSION, FocusRow, Issuer, billed as focus_billed, csv as focus_csv, parquet as focus_parquet,
    rows as focus_rows,
};
pub(crate) use self::month::usd;
pub use self::month::{Bills, CostCentreLine, Month, MonthLine, MonthStatement, NotAMonth, statement};
pub use self::parquet::parquet;
pub use self::text::{aligned, csv, json, month_csv, month_table, table};
use crate::price::Circumstances;
use crate::{Ending, Held, PriceId, ReleaseReason, SavedBy, Timestamp};

/// By what the sums can be grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// The nearest account at or above the payer that is of this kind.
    Organisation,
    Team,
    App,
    User,
    /// The nearest cost centre at or above the payer.
    CostCentre,
    Account,
    Model,
    /// The whole task.
    Task,
    /// The UTC day of the hold.
    Day,
    /// The UTC month of the hold.
    Month,
    End,
    Provider,
    Tier,
    Region,
}

/// Which requests, by the time of their hold (`since` included, `until` not), and how they are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    pub by: Vec<Dimension>,
    pub since: Timestamp,
    pub until: Timestamp,
    /// Only what is booked to this account and to all below it.
    pub within: Option<Account>,
}

impl Default for UsageQuery {
    fn default() -> Self {
        Self { by: Vec::new(), since: Timestamp::MIN, until: Timestamp::MAX, within: None }
    }
}

/// Where a request has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestEnd {
    Open,
    Settled(UsageEnd),
    Released(ReleaseReason),
    /// Closed after a loss: what was held is booked as an estimate.
    Lost,
    /// Answered with what was there.
    Saved(SavedBy),
}

/// The sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// What the group is called in each dimension asked for, in that order; empty where it has none.
    pub names: Vec<String>,
    pub sums: UsageSums,
}

/// Requests, and what they used, by how sure we are of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageSums {
    /// Every request that was held, whatever became of it.
    pub requests: u64,
    /// Those that are still under way.
    pub open_requests: u64,
    /// Those of which nobody can say what they used.
    pub unknown_requests: u64,
    pub priced: Used,
    /// Its cost is always zero, because there is none.
    pub unpriced: Used,
    /// At most this much was used.
    pub estimated: Used,
    /// Those of the estimated requests that have no price; their cost is not in `estimated`.
    pub estimated_unpriced_requests: u64,
    /// What was not used, because an answer was given again; its cost is what that would have been.
    pub saved: Used,
    /// Those of them that have no price; what they are worth is not in `saved`.
    pub saved_unpriced_requests: u64,
}

/// What some requests used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub requests: u64,
    pub usage: Usage,
    #[serde(rename = "cost_usd", with = "month::usd")]
    pub cost: Money,
}

/// One request with its end, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    pub held: Held,
    pub ending: Option<Ending>,
}

/// Sums of requests that were charged alike: what an invoice's line, or an export's row, is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRow {
    /// The UTC day of the holds, as its first instant.
    pub day: Timestamp,
    pub account: Account,
    pub cost_centre: Option<String>,
    pub model: String,
    pub circumstances: Circumstances,
    /// The version that priced them; `None` is unpriced.
    pub price: Option<PriceId>,
    /// The input tokens that each of them exceeded, and that its rates are those above of; 0 for the standard ones.
    pub above_input_tokens: u64,
    pub is_estimated: bool,
    /// It was not used and is not owed: `used` is what would have been.
    pub is_saved: bool,
    pub used: Used,
}

impl UsageRow {
    /// Returns the sums of all rows, in no group.
    pub fn total(rows: &[UsageRow]) -> UsageSums {
        rows.iter().fold(UsageSums::default(), |total, row| total.and(&row.sums))
    }

    /// Returns one row for each combination of names.
    pub(crate) fn grouped(rows: impl IntoIterator<Item = UsageRow>) -> Vec<UsageRow> {
        let mut groups: BTreeMap<Vec<String>, UsageSums> = BTreeMap::new();
        for row in rows {
            let sums = groups.entry(row.names).or_default();
            *sums = sums.and(&row.sums);
        }
        groups.into_iter().map(|(names, sums)| UsageRow { names, sums }).collect()
    }
}

impl UsageSums {
    pub fn and(&self, other: &UsageSums) -> UsageSums {
        UsageSums {
            requests: self.requests + other.requests,
            open_requests: self.open_requests + other.open_requests,
            unknown_requests: self.unknown_requests + other.unknown_requests,
            priced: self.priced.and(&other.priced),
            unpriced: self.unpriced.and(&other.unpriced),
            estimated: self.estimated.and(&other.estimated),
            estimated_unpriced_requests: self.estimated_unpriced_requests + other.estimated_unpriced_requests,
            saved: self.saved.and(&other.saved),
            saved_unpriced_requests: self.saved_unpriced_requests + other.saved_unpriced_requests,
        }
    }
    /// Returns all tokens that are counted or estimated, priced or not: for those who ask how much, and not how dear.
    pub fn usage(&self) -> Usage {
        self.priced.and(&self.unpriced).and(&self.estimated).usage
    }
}

impl Used {
    pub fn and(&self, other: &Used) -> Used {
        let (a, b) = (&self.usage, &other.usage);
        Used {
            requests: self.requests + other.requests,
            usage: Usage {
                input_uncached: a.input_uncached + b.input_uncached,
                cache_read: a.cache_read + b.cache_read,
                cache_write_5m: a.cache_write_5m + b.cache_write_5m,
                cache_write_1h: a.cache_write_1h + b.cache_write_1h,
                output: a.output + b.output,
                reasoning: a.reasoning + b.reasoning,
                compute_us: a.compute_us + b.compute_us,
            },
            cost: self.cost + other.cost,
        }
    }
    pub fn is_nothing(&self) -> bool {
        *self == Used::default()
    }
}

/// The request's end in one word, as the statements print it.
impl fmt::Display for RequestEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestEnd::Open => "open",
            RequestEnd::Settled(UsageEnd::Complete) => "complete",
            RequestEnd::Settled(UsageEnd::Truncated) => "truncated",
            RequestEnd::Settled(UsageEnd::CancelledDrained) => "cancelled_drained",
            RequestEnd::Settled(UsageEnd::CancelledAborted) => "cancelled_aborted",
            RequestEnd::Settled(UsageEnd::ErrorBilled) => "error_billed",
            RequestEnd::Settled(UsageEnd::Unknown) => "unknown",
            RequestEnd::Released(ReleaseReason::Refused) => "refused",
            RequestEnd::Released(ReleaseReason::ClientLeft) => "client_left",
            RequestEnd::Released(ReleaseReason::Failed) => "failed",
            RequestEnd::Lost => "lost",
            RequestEnd::Saved(SavedBy::Cache) => "cached",
            RequestEnd::Saved(SavedBy::Twin) => "joined",
        })
    }
}

impl Dimension {
    pub const ALL: [Dimension; 14] = [
        Self::Organisation,
        Self::Team,
        Self::App,
        Self::User,
        Self::CostCentre,
        Self::Account,
        Self::Model,
        Self::Task,
        Self::Day,
        Self::Month,
        Self::End,
        Self::Provider,
        Self::Tier,
        Self::Region,
    ];

    /// Returns the name that the columns of reports and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Organisation => "organisation",
            Dimension::Team => "team",
            Dimension::App => "app",
            Dimension::User => "user",
            Dimension::CostCentre => "cost_centre",
            Dimension::Account => "account",
            Dimension::Model => "model",
            Dimension::Task => "task",
            Dimension::Day => "day",
            Dimension::Month => "month",
            Dimension::End => "end",
            Dimension::Provider => "provider",
            Dimension::Tier => "tier",
            Dimension::Region => "region",
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "usage is grouped by organisation, team, app, user, cost_centre, account, model, task, day, month, end, provider, tier \
     or region; got {0:?}"
)]
pub struct UnknownDimension(String);

impl std::str::FromStr for Dimension {
    type Err = UnknownDimension;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let same = |dimension: &Self| dimension.name() == name.replace('-', "_");
        Self::ALL.into_iter().find(same).ok_or_else(|| UnknownDimension(name.to_owned()))
    }
}
