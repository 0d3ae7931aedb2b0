//! Who asks, on whose account, and may they ask for this?

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::{Account, ModelName, Tenant};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ledger::{Circumstances, Deed, FoundKey, Journal, KeyRecord, KeyState, LedgerError, ScopeKind};
use parking_lot::Mutex;

use crate::admit::now;
use crate::app::App;
use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::router::Admission;

/// The account of callers without a key, where those are served.
pub const LOCAL_ACCOUNT: &str = "local";

/// Whether a caller must show a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysPolicy {
    /// Only this machine can reach the server. Callers need no key and are booked to [`LOCAL_ACCOUNT`]; a key that the
    /// ledger knows books to its own account; any other word is ignored, because client libraries insist on sending one.
    LoopbackOpen,
    /// Every caller shows a key that the ledger knows.
    KeysRequired,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub account: Account,
    /// Whose cache and whose queue: one account's callers share both.
    pub tenant: Tenant,
    /// What the caller showed; `None` is somebody on this machine where no key is needed.
    pub key: Option<Arc<KeyRecord>>,
}

/// What a key cannot be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The role of the key.
    Role,
    /// The name in the list of a scope.
    Scope(ScopeKind),
}

/// Returns who may pass, as far as the endpoint alone decides it: everybody, a caller, a caller who may call models, the
/// holder of a key. The one door of every endpoint; the router puts it there.
pub async fn admit(
    app: &App,
    admission: Admission,
    endpoint: &str,
    headers: &HeaderMap,
) -> Result<Option<Caller>, Refusal> {
    let caller = match admission {
        Admission::Open => return Ok(None),
        Admission::Key => caller(app, headers).await?,
        Admission::Held => {
            let caller = caller(app, headers).await?;
            caller.may_call_models()?;
            caller
        }
        Admission::Role => {
            let caller = caller(app, headers).await?;
            if caller.key.is_none() {
                return Err(if shown_key(headers).is_some() {
                    Refusal::KeyUnknown
                } else {
                    Refusal::KeyMissing
                });
            }
            caller
        }
    };
    caller.check(ScopeKind::Endpoint, endpoint)?;
    Ok(Some(caller))
}

impl Caller {
    fn local() -> Self {
        Self { account: LOCAL_ACCOUNT.into(), tenant: Tenant::new(LOCAL_ACCOUNT), key: None }
    }

    fn with_key(key: Arc<KeyRecord>) -> Self {
        Self { account: key.account.clone(), tenant: Tenant::new(key.account.as_str()), key: Some(key) }
    }

    /// Refuses a model that the key is not made for.
    pub fn check_model(&self, model: &ModelName) -> Result<(), Refusal> {
        self.check(ScopeKind::Model, model.as_str())
    }

    /// Refuses a way of answering that the key is not made for. A region that nobody can tell is not one of those allowed.
    pub fn check_way(&self, way: &Circumstances) -> Result<(), Refusal> {
        self.check(ScopeKind::Route, way.provider.as_str())?;
        self.check(ScopeKind::ServiceTier, way.service_tier.name())?;
        self.check(ScopeKind::Region, way.region.as_ref().map_or("", |region| region.as_str()))
    }

    fn may_call_models(&self) -> Result<(), Refusal> {
        match &self.key {
            Some(key) if !key.role.may(&key.account, Deed::CallModels) => {
                let (lack, name) = (Lack::Role, key.role.word().to_owned());
                Err(Refusal::NotAllowed { lack, name, allowed: vec!["member".into(), "admin".into()] })
            }
            _ => Ok(()),
        }
    }

    fn check(&self, kind: ScopeKind, name: &str) -> Result<(), Refusal> {
        match &self.key {
            Some(key) if !key.scopes.allow(kind, name) => {
                let allowed = key.scopes.list(kind).unwrap_or_default().iter().map(ToString::to_string);
                let (lack, name, allowed) = (Lack::Scope(kind), name.to_owned(), allowed.collect());
                Err(Refusal::NotAllowed { lack, name, allowed })
            }
            _ => Ok(()),
        }
    }
}

async fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let found = match shown_key(headers) {
        Some(secret) => match app.keys.known(secret).filter(|_| serves_unasked(app)) {
            Some(known) => Ok(Some(known)),
            None => find(app, secret).await,
        },
        None => Ok(None),
    };
    let unavailable = |_: LedgerError| Refusal::LedgerUnavailable { retry_after: app.limits.retry_after };
    match (found.map_err(unavailable)?, app.keys_policy) {
        (Some(found), _) => live(found),
        (None, KeysPolicy::LoopbackOpen) => Ok(Caller::local()),
        (None, KeysPolicy::KeysRequired) if shown_key(headers).is_some() => Err(Refusal::KeyUnknown),
        (None, KeysPolicy::KeysRequired) => Err(Refusal::KeyMissing),
    }
}

/// While the ledger rests and requests go to the spool, a key is what it was when it was last looked up.
fn serves_unasked(app: &App) -> bool {
    app.spool.is_some() && app.breaker.is_resting(Instant::now())
}

async fn find(app: &App, secret: &str) -> Result<Option<Found>, LedgerError> {
    match app.keys.find(&app.journal, secret).await {
        Err(error) if error.is_retryable() && app.spool.is_some() => {
            app.keys.known(secret).map(Some).ok_or(error)
        }
        found => found,
    }
}

/// Whoever shows a secret may be told what became of its key. One that ended is refused on loopback too: its holder believes
/// that it is booked to its account.
fn live(found: Found) -> Result<Caller, Refusal> {
    let now = now();
    match (found.record.state(now), found.closed) {
        (KeyState::Revoked, _) => Err(Refusal::KeyRevoked),
        (KeyState::Expired, _) => Err(Refusal::KeyExpired { at: found.record.expires_at.unwrap_or(now) }),
        (KeyState::Active, Some(account)) => Err(Refusal::AccountClosed { account }),
        (KeyState::Active, None) => Ok(Caller::with_key(found.record)),
    }
}

/// Returns the key that the caller shows, as OpenAI's clients do, or as Anthropic's do.
fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    let secret = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())?;
    (!secret.is_empty()).then_some(secret)
}

/// No key of ours is longer; a longer word need not be looked up.
const SECRET_BYTES_MAX: usize = 256;

/// Keys found lately. Only keys that exist are kept, so guesses cannot push them out.
pub struct KeyCache {
    reuse: Duration,
    keys_max: usize,
    found: Mutex<HashMap<Box<str>, (Found, Instant)>>,
    /// Counts how often all was forgotten, so that a lookup that was under way meanwhile is not remembered.
    forgotten: AtomicU64,
}

/// A [`FoundKey`] that many requests share.
#[derive(Clone)]
struct Found {
    record: Arc<KeyRecord>,
    closed: Option<Account>,
}

impl KeyCache {
    pub fn new(limits: &Limits) -> Self {
        Self {
            reuse: limits.key_reuse,
            keys_max: limits.keys_cached,
            found: Mutex::default(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Looks up every key anew from here on: what was revoked, closed or changed through this server holds at once.
    pub fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.found.lock().clear();
    }

    /// Returns a key that was found lately, however long ago.
    fn known(&self, secret: &str) -> Option<Found> {
        self.found.lock().get(secret).map(|(found, _)| found.clone())
    }

    async fn find(&self, journal: &Journal, secret: &str) -> Result<Option<Found>, LedgerError> {
        if secret.len() > SECRET_BYTES_MAX {
            return Ok(None);
        }
        if let Some((found, at)) = self.found.lock().get(secret)
            && at.elapsed() < self.reuse
        {
            return Ok(Some(found.clone()));
        }
        let (asked_at, forgotten) = (Instant::now(), self.forgotten.load(Ordering::SeqCst));
        let key = journal.find_key(secret).await?;
        let key = key.map(|FoundKey { record, closed }| Found { record: Arc::new(record), closed });
        let mut found = self.found.lock();
        match &key {
            Some(key) if self.forgotten.load(Ordering::SeqCst) == forgotten => {
                // A second old at most, so starting afresh costs a lookup a key.
                if found.len() >= self.keys_max {
                    found.clear();
                }
                found.insert(secret.into(), (key.clone(), asked_at));
            }
            _ => {
                found.remove(secret);
            }
        }
        Ok(key)
    }
}
