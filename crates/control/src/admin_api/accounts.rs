//! What can be done with accounts: make, describe, close, list?

use axum::extract::State;
use domain::Account;
use ledger::account::{self, ROOT, ancestors, is_within};
use ledger::{AccountChange, AccountKind, AccountQuery, AccountRecord, Deed, LedgerError, NewAccount};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb, segment};
use super::wire::{Answer, Json, Page, Path, Query, page_limit, present};

/// An account, as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView {
    /// The path: `acme/research/chatbot`.
    #[schema(example = "acme/research")]
    pub account: String,
    /// `null` for an account that nobody described.
    #[schema(required)]
    pub kind: Option<Kind>,
    #[schema(required)]
    pub display_name: Option<String>,
    #[schema(required)]
    pub cost_centre: Option<String>,
    /// `null` for an account that nobody described.
    #[schema(required, format = DateTime)]
    pub created_at: Option<String>,
    /// Since when it, and all below it, is served no more.
    #[schema(required, format = DateTime)]
    pub closed_at: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AccountKind)]
pub enum Kind {
    Organisation,
    Team,
    App,
    User,
    Service,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// The path. At most 8 segments, each of 1 to 64 letters, digits and `. _ @ + -`.
    #[schema(example = "acme/research", pattern = "^[A-Za-z0-9._@+-]{1,64}(/[A-Za-z0-9._@+-]{1,64}){0,7}$")]
    pub account: String,
    /// What it is; without it, what usually stands at its depth: organisation, team, app, user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub cost_centre: Option<String>,
    /// Make what is missing above it, too; without this, a misspelt parent is refused.
    #[serde(default)]
    pub parents: bool,
}

/// What changes; a field that is left out stays, `null` takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateAccount {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub display_name: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub cost_centre: Option<Option<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAccounts {
    /// This account and all below it; without it, all that the key may see.
    pub within: Option<String>,
    /// Closed ones, too.
    #[serde(default)]
    pub closed: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows of the page: 1 to 1,000, 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

pub struct ShowAccount {
    pub account: String,
}

pub struct ChangeAccount {
    pub account: String,
    pub update: UpdateAccount,
}

/// Serve an account no more, or serve it again.
pub struct CloseAccount {
    pub account: String,
    pub closed: bool,
}

impl Verb for CreateAccount {
    type Reply = AccountView;

    fn call(&self) -> Call {
        Call::post("/admin/v1/accounts", self)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<AccountView, AdminError> {
        let account = account::account(&self.account)?;
        actor.may(Deed::ChangeAccount(&account))?;
        let mut above: Vec<Account> = ancestors(&account).collect();
        above.reverse();
        for parent in above {
            match desk.journal.account(&parent).await? {
                Some(record) if record.closed_at.is_some() => {
                    return Err(LedgerError::AccountClosed { account: parent }.into());
                }
                Some(_) => {}
                // Who may not make it, may not make it on the way either.
                None if self.parents && actor.can(Deed::ChangeAccount(&parent)) => {
                    let kind = AccountKind::usual_at(&parent);
                    let (display_name, cost_centre, at) = (None, None, desk.now());
                    let new = NewAccount { account: parent, kind, display_name, cost_centre, at };
                    desk.journal.create_account(new).await?;
                }
                None => return Err(LedgerError::NoSuchAccount { account: parent }.into()),
            }
        }
        let kind = self.kind.map_or(AccountKind::usual_at(&account), AccountKind::from);
        let (display_name, cost_centre, at) = (self.display_name, self.cost_centre, desk.now());
        let new = NewAccount { account, kind, display_name, cost_centre, at };
        Ok(desk.journal.create_account(new).await?.into())
    }
}

impl Verb for ListAccounts {
    type Reply = Page<AccountView>;

    fn call(&self) -> Call {
        Call::get("/admin/v1/accounts")
            .with("within", self.within.clone())
            .with("closed", self.closed.then_some(true))
            .with("cursor", self.cursor.clone())
            .with("limit", self.limit)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Page<AccountView>, AdminError> {
        let within = within(actor, self.within.as_deref())?;
        let limit = page_limit(self.limit)?;
        let query = AccountQuery {
            within: Some(within).filter(|top| top.as_str() != ROOT),
            after: self.cursor.map(Account::new),
            limit: limit + 1,
            with_closed: self.closed,
        };
        let rows = desk.journal.accounts(&query).await?;
        Ok(Page::of(rows, limit, |row| row.account.to_string(), AccountView::from))
    }
}

impl Verb for ShowAccount {
    type Reply = AccountView;

    fn call(&self) -> Call {
        Call::get(path(&self.account))
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<AccountView, AdminError> {
        let account = account::account(&self.account)?;
        actor.may(Deed::Read(&account))?;
        let found = desk.journal.account(&account).await?;
        Ok(found.ok_or(LedgerError::NoSuchAccount { account })?.into())
    }
}

impl Verb for ChangeAccount {
    type Reply = AccountView;

    fn call(&self) -> Call {
        Call::patch(path(&self.account), &self.update)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<AccountView, AdminError> {
        let account = account::account(&self.account)?;
        actor.may(Deed::ChangeAccount(&account))?;
        let UpdateAccount { kind, display_name, cost_centre } = self.update;
        let change = AccountChange { kind: kind.map(AccountKind::from), display_name, cost_centre };
        Ok(desk.journal.change_account(account, change).await?.into())
    }
}

impl Verb for CloseAccount {
    type Reply = AccountView;

    fn call(&self) -> Call {
        Call::order(format!("{}/{}", path(&self.account), if self.closed { "close" } else { "reopen" }))
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<AccountView, AdminError> {
        let account = account::account(&self.account)?;
        actor.may(Deed::ChangeAccount(&account))?;
        let closed_at = self.closed.then(|| desk.now());
        let record = desk.journal.close_account(account, closed_at).await?;
        desk.tell_keys_changed();
        Ok(record.into())
    }
}

/// Returns the account that a list is narrowed to: what was asked for, or all that the actor may see.
pub fn within(actor: &Actor, asked: Option<&str>) -> Result<Account, AdminError> {
    let account = match asked {
        Some(path) if path != ROOT => account::account(path)?,
        Some(_) => ROOT.into(),
        None => actor.account.clone(),
    };
    actor.may(Deed::Read(&account))?;
    debug_assert!(is_within(&account, &actor.account));
    Ok(account)
}

fn path(account: &str) -> String {
    format!("/admin/v1/accounts/{}", segment(account))
}

impl From<AccountRecord> for AccountView {
    fn from(record: AccountRecord) -> Self {
        Self {
            account: record.account.to_string(),
            kind: record.kind.map(Kind::from),
            display_name: record.display_name,
            cost_centre: record.cost_centre,
            created_at: record.created_at.map(|at| at.to_string()),
            closed_at: record.closed_at.map(|at| at.to_string()),
        }
    }
}

impl From<AccountKind> for Kind {
    fn from(kind: AccountKind) -> Self {
        match kind {
            AccountKind::Organisation => Self::Organisation,
            AccountKind::Team => Self::Team,
            AccountKind::App => Self::App,
            AccountKind::User => Self::User,
            AccountKind::Service => Self::Service,
        }
    }
}

impl From<Kind> for AccountKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Organisation => Self::Organisation,
            Kind::Team => Self::Team,
            Kind::App => Self::App,
            Kind::User => Self::User,
            Kind::Service => Self::Service,
        }
    }
}

/// Make an account
///
/// What lies above it must be there already, unless `parents` is set.
#[utoipa::path(post, path = "/admin/v1/accounts", operation_id = "create_account", tag = "accounts",
    request_body = CreateAccount,
    responses((status = 201, body = AccountView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn create(
    State(desk): State<Desk>,
    actor: Actor,
    Json(verb): Json<CreateAccount>,
) -> Result<Answer<AccountView>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::created)
}

/// List accounts, in the order of their paths
#[utoipa::path(get, path = "/admin/v1/accounts", operation_id = "list_accounts", tag = "accounts", params(ListAccounts),
    responses((status = 200, body = Page<AccountView>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ListAccounts>,
) -> Result<Answer<Page<AccountView>>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// Show one account
#[utoipa::path(get, path = "/admin/v1/accounts/{account}", operation_id = "get_account", tag = "accounts",
    params(("account" = String, Path, pattern = "^[A-Za-z0-9._@+-]{1,64}(/[A-Za-z0-9._@+-]{1,64}){0,7}$", description = "The path, percent-encoded: `acme%2Fresearch`")),
    responses((status = 200, body = AccountView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn show(
    State(desk): State<Desk>,
    actor: Actor,
    Path(account): Path<String>,
) -> Result<Answer<AccountView>, AdminError> {
    ShowAccount { account }.perform(&desk, &actor).await.map(Answer::ok)
}

/// Describe an account anew
#[utoipa::path(patch, path = "/admin/v1/accounts/{account}", operation_id = "update_account", tag = "accounts",
    params(("account" = String, Path, pattern = "^[A-Za-z0-9._@+-]{1,64}(/[A-Za-z0-9._@+-]{1,64}){0,7}$", description = "The path, percent-encoded: `acme%2Fresearch`")),
    request_body = UpdateAccount,
    responses((status = 200, body = AccountView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn change(
    State(desk): State<Desk>,
    actor: Actor,
    Path(account): Path<String>,
    Json(update): Json<UpdateAccount>,
) -> Result<Answer<AccountView>, AdminError> {
    ChangeAccount { account, update }.perform(&desk, &actor).await.map(Answer::ok)
}

/// Close an account
///
/// Its keys, and those of all accounts below it, open no more. What was booked stays.
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/close", operation_id = "close_account", tag = "accounts",
    params(("account" = String, Path, pattern = "^[A-Za-z0-9._@+-]{1,64}(/[A-Za-z0-9._@+-]{1,64}){0,7}$", description = "The path, percent-encoded: `acme%2Fresearch`")),
    responses((status = 200, body = AccountView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn close(
    State(desk): State<Desk>,
    actor: Actor,
    Path(account): Path<String>,
) -> Result<Answer<AccountView>, AdminError> {
    CloseAccount { account, closed: true }.perform(&desk, &actor).await.map(Answer::ok)
}

/// Serve a closed account again
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/reopen", operation_id = "reopen_account", tag = "accounts",
    params(("account" = String, Path, pattern = "^[A-Za-z0-9._@+-]{1,64}(/[A-Za-z0-9._@+-]{1,64}){0,7}$", description = "The path, percent-encoded: `acme%2Fresearch`")),
    responses((status = 200, body = AccountView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn reopen(
    State(desk): State<Desk>,
    actor: Actor,
    Path(account): Path<String>,
) -> Result<Answer<AccountView>, AdminError> {
    CloseAccount { account, closed: false }.perform(&desk, &actor).await.map(Answer::ok)
}
