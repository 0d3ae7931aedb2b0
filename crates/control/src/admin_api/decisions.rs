//! Why was a request answered by whom it was answered by?

use std::sync::Arc;

use axum::extract::State;
use domain::{Account, RequestId};
use ledger::account::is_within;
use ledger::{Deed, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::accounts::within;
use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb, segment};
use super::wire::{Answer, Path, Query, maybe_instant, page_limit};

/// Where decisions are kept. What it returns are [`DecisionView`]s.
pub trait DecisionLog: Send + Sync {
    /// May read a file: it is called where that may take a while.
    fn find(&self, request: &RequestId) -> Option<Value>;
    /// Returns the latest of those that were asked for, the latest first.
    fn list(&self, wanted: &DecisionQuery) -> Vec<Value>;
}

/// Which decisions, of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionQuery {
    pub within: Account,
    pub since: Option<Timestamp>,
    pub model: Option<String>,
    pub unit: Option<String>,
    pub limit: usize,
}

/// One request's way to whoever answered it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Decision)]
pub struct DecisionView {
    #[schema(format = DateTime)]
    pub at: String,
    #[schema(example = "req-1f0c2a7b3d4e5f60718293a4b5c6d7e8")]
    pub request: String,
    pub account: String,
    /// What the client wrote as its model.
    pub asked: String,
    #[serde(default)]
    #[schema(required)]
    pub route: Option<String>,
    /// What the request needed of whoever answers it.
    #[serde(default)]
    pub needs: Vec<String>,
    #[serde(default)]
    #[schema(required)]
    pub data_class: Option<String>,
    /// The residency rules that held, with what they admit.
    #[serde(default)]
    pub residency: Vec<String>,
    /// `cost`, `latency` or `listed`.
    pub order: String,
    /// Those that may answer in the order in which they are tried, then those that may not.
    pub candidates: Vec<CandidateView>,
    /// Candidates beyond those that are kept.
    #[serde(default)]
    pub candidates_left_out: usize,
    /// `model@provider`; `null` where nobody may answer.
    #[serde(default)]
    #[schema(required)]
    pub chosen: Option<String>,
    #[serde(default)]
    pub attempts: Vec<AttemptView>,
}

/// A unit that could have answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Candidate)]
pub struct CandidateView {
    #[schema(example = "claude-sonnet-5.5@anthropic")]
    pub unit: String,
    pub verdict: VerdictWord,
    #[serde(default)]
    #[schema(required)]
    pub reason: Option<String>,
    /// Everywhere that it may process what it is sent; none is unknown.
    #[serde(default)]
    pub processes_in: Vec<String>,
    /// USD for this request, as a decimal string.
    #[serde(default)]
    #[schema(required)]
    pub cost_usd: Option<String>,
    /// Milliseconds to the first token, and from token to token, as predicted.
    #[serde(default)]
    #[schema(required)]
    pub ttft_ms: Option<f64>,
    #[serde(default)]
    #[schema(required)]
    pub tpot_ms: Option<f64>,
    /// That the route's wishes are met.
    #[serde(default)]
    #[schema(required)]
    pub probability: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Verdict)]
pub enum VerdictWord {
    Chosen,
    Eligible,
    Rejected,
}

/// One call to a unit, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    pub unit: String,
    #[schema(example = "answered")]
    pub outcome: String,
    #[serde(default)]
    #[schema(required)]
    pub reason: Option<String>,
    /// What the provider answered with, over HTTP.
    #[serde(default)]
    #[schema(required)]
    pub status: Option<u16>,
    #[serde(default)]
    #[schema(required)]
    pub ttft_ms: Option<f64>,
    #[serde(default)]
    #[schema(required)]
    pub total_ms: Option<f64>,
    #[serde(default)]
    #[schema(required)]
    pub cost_usd: Option<String>,
}

/// Decisions, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionList {
    pub data: Vec<DecisionView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDecisions {
    /// Those of this account and all below it; without it, all that the key may see.
    pub within: Option<String>,
    /// From this instant on: `2026-11-20T23:13:05Z`.
    pub since: Option<String>,
    /// What the client wrote as its model, or the route's name.
    pub model: Option<String>,
    /// Those that chose or tried this unit: `model@provider`.
    pub unit: Option<String>,
    /// The latest so many: 1 to 1,000, 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShowDecision {
    pub request: String,
}

impl Verb for ListDecisions {
    type Reply = DecisionList;

    fn call(&self) -> Call {
        Call::get("/admin/v1/decisions")
            .with("within", self.within.clone())
            .with("since", self.since.clone())
            .with("model", self.model.clone())
            .with("unit", self.unit.clone())
            .with("limit", self.limit)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<DecisionList, AdminError> {
        let query = DecisionQuery {
            within: within(actor, self.within.as_deref())?,
            since: maybe_instant("since", self.since.as_ref())?,
            model: self.model,
            unit: self.unit,
            limit: page_limit(self.limit)?,
        };
        let found = ask(desk, move |log| log.list(&query)).await?;
        let data = found.into_iter().map(view).collect::<Result<Vec<_>, _>>()?;
        Ok(DecisionList { data })
    }
}

impl Verb for ShowDecision {
    type Reply = DecisionView;

    fn call(&self) -> Call {
        Call::get(format!("/admin/v1/decisions/{}", segment(&self.request)))
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<DecisionView, AdminError> {
        actor.may(Deed::Read(&actor.account))?;
        let request = RequestId::new(self.request.as_str());
        let found = ask(desk, move |log| log.find(&request)).await?.map(view).transpose()?;
        // Somebody else's is told as one that is not there, so that nobody learns which requests there are.
        found
            .filter(|decision| is_within(&decision.account.as_str().into(), &actor.account))
            .ok_or(AdminError::NotFound { what: "decision about the request", name: self.request })
    }
}

async fn ask<T: Send + 'static>(
    desk: &Desk,
    question: impl FnOnce(&dyn DecisionLog) -> T + Send + 'static,
) -> Result<T, AdminError> {
    let log: Arc<dyn DecisionLog> = desk.decisions()?;
    let asking = tokio::task::spawn_blocking(move || question(log.as_ref()));
    asking.await.map_err(|error| AdminError::Internal(error.to_string()))
}

fn view(decision: Value) -> Result<DecisionView, AdminError> {
    serde_json::from_value(decision).map_err(|error| AdminError::Internal(format!("a decision in another shape: {error}")))
}

/// List decisions, the latest first
///
/// The last of this server: those that it has in memory. Older ones are found by their request.
#[utoipa::path(get, path = "/admin/v1/decisions", operation_id = "list_decisions", tag = "decisions", params(ListDecisions),
    responses((status = 200, body = DecisionList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ListDecisions>,
) -> Result<Answer<DecisionList>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// Show why a request went where it went
///
/// Every unit that could have answered, what it would have cost, how fast it was thought to be, and why it was chosen or not.
#[utoipa::path(get, path = "/admin/v1/decisions/{request}", operation_id = "show_decision", tag = "decisions",
    params(("request" = String, Path, description = "The request's id: its `x-request-id`")),
    responses((status = 200, body = DecisionView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn show(
    State(desk): State<Desk>,
    actor: Actor,
    Path(request): Path<String>,
) -> Result<Answer<DecisionView>, AdminError> {
    ShowDecision { request }.perform(&desk, &actor).await.map(Answer::ok)
}

#[cfg(test)]
mod tests {
    use ledger::{Role, Scopes};
    use serde_json::json;

    use super::*;

    struct Log(Vec<Value>);

    impl DecisionLog for Log {
        fn find(&self, request: &RequestId) -> Option<Value> {
            self.0.iter().find(|decision| decision["request"] == request.as_str()).cloned()
        }
        fn list(&self, wanted: &DecisionQuery) -> Vec<Value> {
            let account = |decision: &&Value| {
                is_within(&decision["account"].as_str().unwrap().into(), &wanted.within)
            };
            self.0.iter().filter(account).take(wanted.limit).cloned().collect()
        }
    }

    async fn desk(folder: &tempfile::TempDir) -> Desk {
        let decision = |request: &str, account: &str| {
            json!({
                "at": "2026-11-21T10:00:00.000Z", "request": request, "account": account, "asked": "smart", "order": "cost",
                "candidates": [{"unit": "m@p", "verdict": "chosen"}], "chosen": "m@p"
            })
        };
        let journal = ledger::Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        Desk::new(journal).deciding(Arc::new(Log(vec![decision("req-1", "acme/eu"), decision("req-2", "other")])))
    }

    fn actor(role: Role, account: &str) -> Actor {
        Actor { role, account: account.into(), scopes: Scopes::EVERYTHING, key: None }
    }

    #[tokio::test]
    async fn a_decision_is_seen_from_its_own_account_and_above_and_is_nothing_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let desk = desk(&folder).await;
        let show = async |request: &str, role, account| {
            ShowDecision { request: request.into() }.perform(&desk, &actor(role, account)).await
        };
        for above in ["acme/eu", "acme", "/"] {
            assert_eq!(show("req-1", Role::Viewer, above).await.unwrap().chosen.as_deref(), Some("m@p"));
        }
        let (other, none) = (show("req-2", Role::Owner, "acme").await, show("req-9", Role::Owner, "acme").await);
        assert!(matches!(other, Err(AdminError::NotFound { .. })), "{other:?}");
        assert_eq!(
            other.unwrap_err().to_string().replace("req-2", "req-9"),
            none.unwrap_err().to_string(),
            "nobody learns what there is elsewhere"
        );
        assert!(matches!(show("req-1", Role::Member, "acme/eu").await, Err(AdminError::NotAllowed { .. })));
    }

    #[tokio::test]
    async fn a_list_holds_the_subtree_that_was_asked_for_and_refuses_another() {
        let folder = tempfile::tempdir().unwrap();
        let desk = desk(&folder).await;
        let list = async |within: Option<&str>, account| {
            let verb = ListDecisions { within: within.map(str::to_owned), ..ListDecisions::default() };
            verb.perform(&desk, &actor(Role::Viewer, account)).await.map(|list| list.data.len())
        };
        assert_eq!(list(None, "/").await, Ok(2));
        assert_eq!(list(None, "acme").await, Ok(1));
        assert_eq!(list(Some("acme/us"), "acme").await, Ok(0));
        assert!(matches!(list(Some("other"), "acme").await, Err(AdminError::NotAllowed { .. })));
        let without = Desk::new(desk.journal.clone());
        let missing = ListDecisions::default().perform(&without, &actor(Role::Viewer, "/")).await;
        assert!(matches!(missing, Err(AdminError::NotFound { .. })), "{missing:?}");
    }
}
