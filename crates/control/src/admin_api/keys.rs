//! What can be done with keys: make, list, rotate, revoke?

use std::time::Duration;

use axum::extract::State;
use domain::Account;
use ledger::account::{self, ROOT};
use ledger::{
    Deed, Key, KeyId, KeyQuery, KeyRecord, LedgerError, NewKey, Pattern, Role, Rotation, ScopeKind, Scopes,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accounts::within;
use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb, segment};
use super::wire::{Answer, Json, Page, Path, Query, maybe_instant, page_limit};

/// How long a rotated key opens beside its successor, unless told otherwise: a day to bring the new one everywhere.
const OVERLAP_SECONDS_DEFAULT: u64 = 86_400;
/// A key that shall open for longer was not meant to be rotated. 90 days.
const OVERLAP_SECONDS_MAX: u64 = 90 * 86_400;

/// A key, without its secret, which nobody has but its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    pub id: String,
    pub name: String,
    /// What its requests are booked to, and the top of what its role reaches.
    pub account: String,
    pub role: RoleWord,
    pub scopes: ScopeLists,
    pub state: StateWord,
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The key that made it; `null` for one that was made on the server's machine.
    #[schema(required)]
    pub created_by: Option<String>,
    #[schema(required, format = DateTime)]
    pub expires_at: Option<String>,
    #[schema(required, format = DateTime)]
    pub revoked_at: Option<String>,
    /// The key whose place it took.
    #[schema(required)]
    pub rotated_from: Option<String>,
}

/// A key with its secret: shown this once, and kept nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewSecret {
    pub key: KeyView,
    pub secret: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Role)]
pub enum RoleWord {
    Member,
    Viewer,
    Admin,
    Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = KeyState)]
pub enum StateWord {
    Active,
    Expired,
    Revoked,
}

/// What a key is narrowed to: lists of names, each of which may end with `*`. A list that is left out allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Scopes)]
pub struct ScopeLists {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["main", "gpt-5*"]), nullable = false, min_items = 1, max_items = 64)]
    pub models: Option<Vec<ScopePattern>>,
    /// Paths: `/v1/chat/completions`, `/v1/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 64)]
    pub endpoints: Option<Vec<ScopePattern>>,
    /// Where answers come from; `local` is this server's own engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 64)]
    pub routes: Option<Vec<ScopePattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 64)]
    pub regions: Option<Vec<ScopePattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 64)]
    pub service_tiers: Option<Vec<ScopePattern>>,
}

/// A name, or the beginning of names with a `*` at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(
    pattern = "^([^*\\u0000-\\u001f\\u007f-\\u009f]{1,200}|[^*\\u0000-\\u001f\\u007f-\\u009f]{0,199}[*])$"
)]
pub struct ScopePattern(pub String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What people call it; one of each name in an account.
    #[schema(
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub name: String,
    /// Which must be there; `/` is the root, for owners of the whole server.
    #[schema(
        example = "acme/research",
        pattern = "^/$|^[A-Za-z0-9._@+-]{1,64}(/[A-Za-z0-9._@+-]{1,64}){0,7}$"
    )]
    pub account: String,
    /// Member without it: it calls models, and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleWord>,
    #[serde(default)]
    pub scopes: ScopeLists,
    /// After this it opens no more; never without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListKeys {
    /// Keys of this account and of all below it; without it, all that the key may see.
    pub within: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows of the page: 1 to 1,000, 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

pub struct ShowKey {
    pub id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the old secret opens beside the new one: a day without it, 90 days at most, 0 ends it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 7_776_000)]
    pub overlap_seconds: Option<u64>,
}

pub struct ReplaceKey {
    pub id: String,
    pub rotation: RotateKey,
}

pub struct RevokeKey {
    pub id: String,
}

impl Verb for CreateKey {
    type Reply = NewSecret;

    fn call(&self) -> Call {
        Call::post("/admin/v1/keys", self)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<NewSecret, AdminError> {
        let account = if self.account == ROOT { ROOT.into() } else { account::account(&self.account)? };
        let role = self.role.map_or(Role::Member, Role::from);
        actor.may(Deed::ChangeKey(&account, role))?;
        let scopes = Scopes::from(self.scopes);
        narrower(&scopes, actor)?;
        check_account(desk, &account, role).await?;
        let (now, random) = (desk.now(), desk.random()?);
        let expires_at = maybe_instant("expires_at", self.expires_at.as_ref())?;
        let created_by = actor.key.clone();
        let new = NewKey { name: self.name, account, role, scopes, expires_at, created_by, random, at: now };
        Ok(NewSecret::of(desk.journal.create_key(new).await?, now))
    }
}

impl Verb for ListKeys {
    type Reply = Page<KeyView>;

    fn call(&self) -> Call {
        Call::get("/admin/v1/keys")
            .with("within", self.within.clone())
            .with("cursor", self.cursor.clone())
            .with("limit", self.limit)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Page<KeyView>, AdminError> {
        let within = within(actor, self.within.as_deref())?;
        let (limit, now) = (page_limit(self.limit)?, desk.now());
        let query = KeyQuery {
            within: Some(within).filter(|top| top.as_str() != ROOT),
            after: self.cursor.map(KeyId),
            limit: limit + 1,
        };
        let rows = desk.journal.keys(&query).await?;
        Ok(Page::of(rows, limit, |row| row.id.0.clone(), |row| KeyView::of(row, now)))
    }
}

impl Verb for ShowKey {
    type Reply = KeyView;

    fn call(&self) -> Call {
        Call::get(path(&self.id))
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<KeyView, AdminError> {
        Ok(KeyView::of(find(desk, actor, &self.id).await?, desk.now()))
    }
}

impl Verb for ReplaceKey {
    type Reply = NewSecret;

    fn call(&self) -> Call {
        Call::post(format!("{}/rotate", path(&self.id)), &self.rotation)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<NewSecret, AdminError> {
        let seconds = self.rotation.overlap_seconds.unwrap_or(OVERLAP_SECONDS_DEFAULT);
        if seconds > OVERLAP_SECONDS_MAX {
            let most = format!("overlap_seconds is at most {OVERLAP_SECONDS_MAX}; make a second key instead");
            return Err(AdminError::bad("overlap_seconds", most));
        }
        let old = find(desk, actor, &self.id).await?;
        actor.may(Deed::ChangeKey(&old.account, old.role))?;
        // Its new secret is as good as a new key.
        narrower(&old.scopes, actor)?;
        let (at, random) = (desk.now(), desk.random()?);
        let overlap = Duration::from_secs(seconds);
        let rotation = Rotation { id: old.id, overlap, created_by: actor.key.clone(), at };
        let key = desk.journal.rotate_key(rotation, &random).await?;
        desk.tell_keys_changed();
        Ok(NewSecret::of(key, at))
    }
}

impl Verb for RevokeKey {
    type Reply = KeyView;

    fn call(&self) -> Call {
        Call::order(format!("{}/revoke", path(&self.id)))
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<KeyView, AdminError> {
        let key = find(desk, actor, &self.id).await?;
        actor.may(Deed::ChangeKey(&key.account, key.role))?;
        let (id, now) = (key.id, desk.now());
        let revoked = desk.journal.revoke_key(id, now).await?;
        desk.tell_keys_changed();
        Ok(KeyView::of(revoked, now))
    }
}

/// Returns a key that the actor may see; any other is not there, as far as it can tell.
async fn find(desk: &Desk, actor: &Actor, id: &str) -> Result<KeyRecord, AdminError> {
    // A member sees no key at all, and is told so whatever the name.
    actor.may(Deed::Read(&actor.account))?;
    let found = desk.journal.key(&KeyId(id.to_owned())).await?;
    found
        .filter(|key| actor.can(Deed::Read(&key.account)))
        .ok_or_else(|| LedgerError::NoSuchKey { id: id.chars().take(64).collect() }.into())
}

fn narrower(scopes: &Scopes, actor: &Actor) -> Result<(), AdminError> {
    match scopes.beyond(&actor.scopes) {
        None => Ok(()),
        Some(kind) => Err(AdminError::WiderScope { scope: kind.word() }),
    }
}

/// A key opens for an account that is there and served, or for the root, where only roles make sense.
async fn check_account(desk: &Desk, account: &Account, role: Role) -> Result<(), AdminError> {
    if account.as_str() == ROOT {
        return match role {
            Role::Member => Err(AdminError::bad(
                "account",
                "a member calls models, and nothing can be booked to the root",
            )),
            _ => Ok(()),
        };
    }
    match desk.journal.account(account).await? {
        None => Err(LedgerError::NoSuchAccount { account: account.clone() }.into()),
        Some(record) if record.closed_at.is_some() => {
            Err(LedgerError::AccountClosed { account: account.clone() }.into())
        }
        Some(_) => Ok(()),
    }
}

fn path(id: &str) -> String {
    format!("/admin/v1/keys/{}", segment(id))
}

impl KeyView {
    pub fn of(record: KeyRecord, now: Timestamp) -> Self {
        Self {
            state: match record.state(now) {
                ledger::KeyState::Active => StateWord::Active,
                ledger::KeyState::Expired => StateWord::Expired,
                ledger::KeyState::Revoked => StateWord::Revoked,
            },
            id: record.id.0,
            name: record.name,
            account: record.account.to_string(),
            role: record.role.into(),
            scopes: record.scopes.into(),
            created_at: record.created_at.to_string(),
            created_by: record.created_by.map(|key| key.0),
            expires_at: record.expires_at.map(|at| at.to_string()),
            revoked_at: record.revoked_at.map(|at| at.to_string()),
            rotated_from: record.rotated_from.map(|key| key.0),
        }
    }
}

impl NewSecret {
    fn of(key: Key, now: Timestamp) -> Self {
        Self { secret: key.secret.reveal().to_owned(), key: KeyView::of(key.record, now) }
    }
}

/// A secret is never printed by accident.
impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSecret").field("key", &self.key).finish_non_exhaustive()
    }
}

impl From<Role> for RoleWord {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Viewer => Self::Viewer,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

impl From<RoleWord> for Role {
    fn from(role: RoleWord) -> Self {
        match role {
            RoleWord::Member => Self::Member,
            RoleWord::Viewer => Self::Viewer,
            RoleWord::Admin => Self::Admin,
            RoleWord::Owner => Self::Owner,
        }
    }
}

impl From<ScopeLists> for Scopes {
    fn from(lists: ScopeLists) -> Self {
        fn patterns(names: Option<Vec<ScopePattern>>) -> Option<Vec<Pattern>> {
            names.map(|names| names.into_iter().map(|ScopePattern(name)| Pattern::new(name)).collect())
        }
        Self {
            models: patterns(lists.models),
            endpoints: patterns(lists.endpoints),
            routes: patterns(lists.routes),
            regions: patterns(lists.regions),
            service_tiers: patterns(lists.service_tiers),
        }
    }
}

impl From<Scopes> for ScopeLists {
    fn from(scopes: Scopes) -> Self {
        let names = |kind: ScopeKind| {
            let patterns = scopes.list(kind)?.iter();
            Some(patterns.map(|pattern| ScopePattern(pattern.as_str().to_owned())).collect())
        };
        Self {
            models: names(ScopeKind::Model),
            endpoints: names(ScopeKind::Endpoint),
            routes: names(ScopeKind::Route),
            regions: names(ScopeKind::Region),
            service_tiers: names(ScopeKind::ServiceTier),
        }
    }
}

/// Make a key
///
/// The secret is in the answer and nowhere else. A repeated request cannot make a second key: its name is taken.
#[utoipa::path(post, path = "/admin/v1/keys", operation_id = "create_key", tag = "keys", request_body = CreateKey,
    responses((status = 201, body = NewSecret), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn create(
    State(desk): State<Desk>,
    actor: Actor,
    Json(verb): Json<CreateKey>,
) -> Result<Answer<NewSecret>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::created)
}

/// List keys, in the order of their making
#[utoipa::path(get, path = "/admin/v1/keys", operation_id = "list_keys", tag = "keys", params(ListKeys),
    responses((status = 200, body = Page<KeyView>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ListKeys>,
) -> Result<Answer<Page<KeyView>>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// Show one key
#[utoipa::path(get, path = "/admin/v1/keys/{id}", operation_id = "get_key", tag = "keys",
    params(("id" = String, Path, description = "The key's id, `key-…`")),
    responses((status = 200, body = KeyView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn show(
    State(desk): State<Desk>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Answer<KeyView>, AdminError> {
    ShowKey { id }.perform(&desk, &actor).await.map(Answer::ok)
}

/// Give a key a new secret
///
/// The answer is a new key with the same name, account, role and scopes; the old one opens for the overlap, then expires.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "keys",
    params(("id" = String, Path, description = "The key's id, `key-…`")), request_body = RotateKey,
    responses((status = 201, body = NewSecret), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn rotate(
    State(desk): State<Desk>,
    actor: Actor,
    Path(id): Path<String>,
    Json(rotation): Json<RotateKey>,
) -> Result<Answer<NewSecret>, AdminError> {
    ReplaceKey { id, rotation }.perform(&desk, &actor).await.map(Answer::created)
}

/// Revoke a key
///
/// It opens no more: at once on this server, within a second on others of the same ledger. Revoking twice is no error.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/revoke", operation_id = "revoke_key", tag = "keys",
    params(("id" = String, Path, description = "The key's id, `key-…`")),
    responses((status = 200, body = KeyView), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn revoke(
    State(desk): State<Desk>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Answer<KeyView>, AdminError> {
    RevokeKey { id }.perform(&desk, &actor).await.map(Answer::ok)
}
