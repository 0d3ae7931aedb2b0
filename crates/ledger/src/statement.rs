//! What was used and what it cost, as rows that people and programs can read.

mod text;

use std::fmt;

use domain::{Account, ModelName, Money, Usage, UsageEnd};

pub use self::text::{csv, json, table};
use crate::time::Day;
use crate::{Ending, Held, ReleaseReason, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    Account,
    Model,
    /// The UTC day of the hold.
    Day,
    End,
}

/// Which requests, by the time of their hold (`since` included, `until` not), and how they are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    pub by: Vec<Dimension>,
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Default for UsageQuery {
    fn default() -> Self {
        Self { by: Vec::new(), since: Timestamp::MIN, until: Timestamp::MAX }
    }
}

/// Where a request has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestEnd {
    Open,
    Settled(UsageEnd),
    Released(ReleaseReason),
    /// Closed after a loss: its usage is unknown.
    Lost,
}

/// The sums of one group; a dimension that was not asked for is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    pub account: Option<Account>,
    pub model: Option<ModelName>,
    pub day: Option<Day>,
    pub end: Option<RequestEnd>,
    /// Every request that was held, whatever became of it.
    pub requests: u64,
    /// Those that are still under way; their tokens are not in `usage`.
    pub open_requests: u64,
    /// Those of which nobody can say what they used; their tokens are not in `usage`.
    pub unknown_requests: u64,
    /// Those that used tokens for which there was no price; their tokens are in `usage`, their cost is not in `cost`.
    pub unpriced_requests: u64,
    pub usage: Usage,
    /// What the priced requests cost.
    pub cost: Money,
}

/// One request with its end, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    pub held: Held,
    pub ending: Option<Ending>,
}

/// Returns the sums of all rows, in no group.
pub fn total(rows: &[UsageRow]) -> UsageRow {
    rows.iter().fold(UsageRow::default(), |total, row| UsageRow {
        requests: total.requests + row.requests,
        open_requests: total.open_requests + row.open_requests,
        unknown_requests: total.unknown_requests + row.unknown_requests,
        unpriced_requests: total.unpriced_requests + row.unpriced_requests,
        usage: Usage {
            input_uncached: total.usage.input_uncached + row.usage.input_uncached,
            cache_read: total.usage.cache_read + row.usage.cache_read,
            cache_write_5m: total.usage.cache_write_5m + row.usage.cache_write_5m,
            cache_write_1h: total.usage.cache_write_1h + row.usage.cache_write_1h,
            output: total.usage.output + row.usage.output,
            reasoning: total.usage.reasoning + row.usage.reasoning,
            compute_us: total.usage.compute_us + row.usage.compute_us,
        },
        cost: total.cost + row.cost,
        ..UsageRow::default()
    })
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
        })
    }
}

/// The name that the columns of reports and the command line use.
impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dimension::Account => "account",
            Dimension::Model => "model",
            Dimension::Day => "day",
            Dimension::End => "end",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage is grouped by account, model, day or end; got {0:?}")]
pub struct UnknownDimension(String);

impl std::str::FromStr for Dimension {
    type Err = UnknownDimension;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Account, Self::Model, Self::Day, Self::End]
            .into_iter()
            .find(|dimension| dimension.to_string() == name)
            .ok_or_else(|| UnknownDimension(name.to_owned()))
    }
}
