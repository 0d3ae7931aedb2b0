//! What was used in a subtree, and what did it cost?

use axum::extract::State;
use ledger::{Dimension, Timestamp, UsageQuery, statement};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::accounts::within;
use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb};
use super::wire::{Answer, Query, maybe_instant};

/// Sums by group, and of all. Each row has a field for each dimension asked for, counts of requests, and what is `priced`,
/// `unpriced` and `estimated` apart, and `saved` beside them, with `cost_usd` as a decimal string: as
/// `baseload usage --format json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<Map<String, Value>>,
    #[schema(value_type = Object)]
    pub total: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowUsage {
    /// What is booked to this account and to all below it; without it, all that the key may see.
    pub within: Option<String>,
    /// Comma-separated: `organisation`, `team`, `app`, `user`, `cost_centre`, `account`, `model`, `task`, `day`, `month`, `end`,
    /// `provider`, `tier`, `region`; `account` without it.
    pub by: Option<String>,
    /// From this instant on.
    #[param(format = DateTime)]
    pub since: Option<String>,
    /// To before this instant.
    #[param(format = DateTime)]
    pub until: Option<String>,
}

impl Verb for ShowUsage {
    type Reply = Usage;

    fn call(&self) -> Call {
        Call::get("/admin/v1/usage")
            .with("within", self.within.clone())
            .with("by", self.by.clone())
            .with("since", self.since.clone())
            .with("until", self.until.clone())
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Usage, AdminError> {
        let top = within(actor, self.within.as_deref())?;
        let by = dimensions(self.by.as_deref().unwrap_or("account"))?;
        let query = UsageQuery {
            by: by.clone(),
            since: maybe_instant("since", self.since.as_ref())?.unwrap_or(Timestamp::MIN),
            until: maybe_instant("until", self.until.as_ref())?.unwrap_or(Timestamp::MAX),
            within: Some(top),
        };
        let rows = desk.journal.usage(&query).await?;
        let text = statement::json(&rows, &by);
        serde_json::from_str(&text).map_err(|error| AdminError::Internal(format!("a statement: {error}")))
    }
}

fn dimensions(words: &str) -> Result<Vec<Dimension>, AdminError> {
    let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|error| AdminError::bad("by", error))).collect()
}

/// Show what was used, and what it cost
#[utoipa::path(get, path = "/admin/v1/usage", operation_id = "get_usage", tag = "usage", params(ShowUsage),
    responses((status = 200, body = Usage), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn show(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ShowUsage>,
) -> Result<Answer<Usage>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}
