//! What can be done with limits: set, list with how they stand, end?

use axum::extract::State;
use domain::{Account, Money};
use ledger::account::{ROOT, is_within};
use ledger::budget::{Amount, Limit, LimitError, Measure, NewLimit, Scope, Standing};
use ledger::{Deed, LedgerError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accounts::within;
use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb};
use super::wire::{Answer, Json, Page, Query, page_limit};

/// A limit, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Limit)]
pub struct LimitView {
    /// Unique among the limits in force.
    pub name: String,
    /// An account with all below it, `task PATH`, or `each account|end_user|task of ACCOUNT`.
    #[schema(example = "acme/research")]
    pub scope: String,
    /// money, tokens, requests, concurrency; of tasks also wall_clock, calls, depth.
    pub measure: String,
    /// In USD for money, in milliseconds for wall_clock, else a count; a string, so that it stays exact.
    #[schema(example = "250.00")]
    pub amount: String,
    /// minute, hour, day, week, month, total, or a rolling span; a calendar's windows with their time zone.
    pub window: String,
    /// `refuse`, `warn`, or `downgrade MODEL`.
    pub action: String,
    /// Percentages at which an alert is raised.
    pub thresholds: Vec<u8>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(required, format = DateTime)]
    pub ended_at: Option<String>,
    /// How it stands in the window of this moment: one, or one for each that it tells apart and that has used something.
    pub standings: Vec<StandingView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Standing)]
pub struct StandingView {
    /// Which one, of a limit that tells several apart; empty where there is only one.
    pub subject: String,
    #[schema(format = DateTime)]
    pub window_start: String,
    /// `null`: never.
    #[schema(required, format = DateTime)]
    pub resets_at: Option<String>,
    pub spent: String,
    /// Promised to requests under way.
    pub held: String,
    pub remaining: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLimit {
    /// After its scope, measure and window, without it. One of the same name that is in force gets the new amount, action and
    /// thresholds, and keeps what is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An account with all below it, `task PATH`, or `each account|end_user|task of ACCOUNT`.
    #[schema(example = "acme/research")]
    pub scope: String,
    /// money, tokens, requests, concurrency; of tasks also wall_clock, calls, depth.
    #[schema(example = "money")]
    pub measure: String,
    /// In USD for money, in milliseconds for wall_clock, else a count.
    #[schema(example = "250.00")]
    pub amount: String,
    /// `total` without it: what is spent never comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "month")]
    pub window: Option<String>,
    /// `refuse` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(default)]
    pub thresholds: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListLimits {
    /// Limits on this account and on all below it; without it, all that the key may see.
    pub within: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows of the page: 1 to 1,000, 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndLimit {
    pub name: String,
}

impl Verb for SetLimit {
    type Reply = LimitView;

    fn call(&self) -> Call {
        Call::post("/admin/v1/limits", self)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<LimitView, AdminError> {
        let scope: Scope = read("scope", &self.scope)?;
        // Before anything else is read: a stranger's account is not judged by the rest of the request.
        actor.may(Deed::ChangeLimit(&payer(&scope)))?;
        check_owner(desk, &scope).await?;
        let measure: Measure = read("measure", &self.measure)?;
        let new = NewLimit {
            name: self.name,
            scope,
            measure,
            amount: amount(measure, &self.amount)?,
            window: read("window", self.window.as_deref().unwrap_or("total"))?,
            action: read("action", self.action.as_deref().unwrap_or("refuse"))?,
            thresholds: self.thresholds,
            at: desk.now(),
        };
        Ok(LimitView::of(&desk.journal.set_limit(new).await?, &[]))
    }
}

impl Verb for ListLimits {
    type Reply = Page<LimitView>;

    fn call(&self) -> Call {
        Call::get("/admin/v1/limits")
            .with("within", self.within.clone())
            .with("cursor", self.cursor.clone())
            .with("limit", self.limit)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Page<LimitView>, AdminError> {
        let top = within(actor, self.within.as_deref())?;
        let rows = page_limit(self.limit)?;
        let after = self.cursor.map(|cursor| cursor.parse::<i64>()).transpose();
        let after =
            after.map_err(|_| AdminError::bad("cursor", "cursor must be a next_cursor of this list"))?;
        let mut limits = desk.journal.limits(None).await?;
        limits.retain(|limit| is_within(&payer(&limit.scope), &top));
        limits.retain(|limit| after.is_none_or(|after| limit.id.0 > after));
        limits.sort_by_key(|limit| limit.id);
        limits.truncate(rows + 1);
        let narrowed = Some(&top).filter(|top| top.as_str() != ROOT);
        let standings = desk.journal.standings(narrowed, desk.now()).await?;
        Ok(Page::of(limits, rows, |limit| limit.id.0.to_string(), |limit| LimitView::of(&limit, &standings)))
    }
}

impl Verb for EndLimit {
    type Reply = LimitView;

    fn call(&self) -> Call {
        Call::post("/admin/v1/limits/end", self)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<LimitView, AdminError> {
        actor.may(Deed::Read(&actor.account))?;
        let limits = desk.journal.limits(None).await?;
        let found = limits.into_iter().find(|limit| limit.name == self.name);
        let Some(limit) = found.filter(|limit| actor.can(Deed::Read(&payer(&limit.scope)))) else {
            let name = self.name.chars().take(200).collect();
            return Err(LedgerError::BadLimit(LimitError::NoSuchLimit { name }).into());
        };
        actor.may(Deed::ChangeLimit(&payer(&limit.scope)))?;
        let ended = desk.journal.end_limit(&limit.name, desk.now()).await?;
        Ok(LimitView::of(&ended, &[]))
    }
}

/// Returns the account whose say a limit is. The path of a task begins with its organisation's, so that tasks lie in the tree of
/// accounts as accounts do.
fn payer(scope: &Scope) -> Account {
    match scope {
        Scope::Account(account) | Scope::Each { owner: account, .. } => account.clone(),
        Scope::Task(path) => Account::new(path.as_str()),
    }
}

/// A limit on a misspelt account would hold nobody back.
async fn check_owner(desk: &Desk, scope: &Scope) -> Result<(), AdminError> {
    match scope {
        Scope::Account(account) | Scope::Each { owner: account, .. } if account.as_str() != ROOT => {
            let account = ledger::account::account(account.as_str())?;
            match desk.journal.account(&account).await? {
                Some(_) => Ok(()),
                None => Err(LedgerError::NoSuchAccount { account }.into()),
            }
        }
        _ => Ok(()),
    }
}

fn read<T: std::str::FromStr>(param: &str, text: &str) -> Result<T, AdminError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| AdminError::bad(param, error))
}

fn amount(measure: Measure, text: &str) -> Result<Amount, AdminError> {
    match measure {
        Measure::Money => {
            let money: Money = read("amount", text)?;
            Amount::of_money(money).map_err(|error| AdminError::bad("amount", error))
        }
        _ => text.parse().map(Amount).map_err(|_| {
            AdminError::bad(
                "amount",
                format!("an amount of {measure} is a whole number; got {:?}", short(text)),
            )
        }),
    }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

fn shown(measure: Measure, amount: Amount) -> String {
    match measure {
        Measure::Money => amount.money().to_string(),
        _ => amount.0.to_string(),
    }
}

impl LimitView {
    fn of(limit: &Limit, standings: &[Standing]) -> Self {
        let of_this = standings.iter().filter(|standing| standing.limit.id == limit.id);
        Self {
            name: limit.name.clone(),
            scope: limit.scope.to_string(),
            measure: limit.measure.to_string(),
            amount: shown(limit.measure, limit.amount),
            window: limit.window.to_string(),
            action: limit.action.to_string(),
            thresholds: limit.thresholds.clone(),
            created_at: limit.created_at.to_string(),
            ended_at: limit.ended_at.map(|at| at.to_string()),
            standings: of_this.map(StandingView::of).collect(),
        }
    }
}

impl StandingView {
    fn of(standing: &Standing) -> Self {
        let measure = standing.limit.measure;
        Self {
            subject: standing.subject.clone(),
            window_start: standing.window_start.to_string(),
            resets_at: standing.resets_at.map(|at| at.to_string()),
            spent: shown(measure, standing.spent),
            held: shown(measure, standing.held),
            remaining: shown(measure, standing.remaining),
        }
    }
}

/// Set a limit, or change the one of the same name
#[utoipa::path(post, path = "/admin/v1/limits", operation_id = "set_limit", tag = "limits", request_body = SetLimit,
    responses((status = 201, body = LimitView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn set(
    State(desk): State<Desk>,
    actor: Actor,
    Json(verb): Json<SetLimit>,
) -> Result<Answer<LimitView>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::created)
}

/// List the limits in force, with how they stand
#[utoipa::path(get, path = "/admin/v1/limits", operation_id = "list_limits", tag = "limits", params(ListLimits),
    responses((status = 200, body = Page<LimitView>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ListLimits>,
) -> Result<Answer<Page<LimitView>>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// End a limit
#[utoipa::path(post, path = "/admin/v1/limits/end", operation_id = "end_limit", tag = "limits", request_body = EndLimit,
    responses((status = 200, body = LimitView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn end(
    State(desk): State<Desk>,
    actor: Actor,
    Json(verb): Json<EndLimit>,
) -> Result<Answer<LimitView>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}
