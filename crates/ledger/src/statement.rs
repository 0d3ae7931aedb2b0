//! What was used and what it cost, as rows that people and programs can read.

use domain::{Account, ModelName, Money, Usage, UsageEnd};

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
