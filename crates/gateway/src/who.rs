//! Who asks, and on whose account?

use std::collections::HashMap;
use std::time::{Duration, Instant};

use domain::{Account, Tenant};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ledger::{Journal, LedgerError};
use parking_lot::Mutex;

use crate::app::App;
use crate::limits::Limits;
use crate::refusal::Refusal;

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
}

impl Caller {
    fn new(account: Account) -> Self {
        Self { tenant: Tenant::new(account.as_str()), account }
    }
}

/// Returns the caller, or why there is none that may be served.
pub async fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let account = match shown_key(headers) {
        Some(secret) => app.keys.find(&app.journal, secret).await,
        None => Ok(None),
    };
    let unavailable = |_: LedgerError| Refusal::LedgerUnavailable { retry_after: app.limits.retry_after };
    match (account.map_err(unavailable), app.keys_policy) {
        (Ok(Some(account)), _) => Ok(Caller::new(account)),
        (Ok(None), KeysPolicy::LoopbackOpen) => Ok(Caller::new(LOCAL_ACCOUNT.into())),
        (Ok(None), KeysPolicy::KeysRequired) if shown_key(headers).is_some() => Err(Refusal::KeyUnknown),
        (Ok(None), KeysPolicy::KeysRequired) => Err(Refusal::KeyMissing),
        (Err(refusal), _) => Err(refusal),
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
    found: Mutex<HashMap<Box<str>, (Account, Instant)>>,
}

impl KeyCache {
    pub fn new(limits: &Limits) -> Self {
        Self { reuse: limits.key_reuse, keys_max: limits.keys_cached, found: Mutex::default() }
    }

    async fn find(&self, journal: &Journal, secret: &str) -> Result<Option<Account>, LedgerError> {
        if secret.len() > SECRET_BYTES_MAX {
            return Ok(None);
        }
        if let Some((account, at)) = self.found.lock().get(secret)
            && at.elapsed() < self.reuse
        {
            return Ok(Some(account.clone()));
        }
        let asked_at = Instant::now();
        let account = journal.find_key(secret).await?.map(|key| key.account);
        let mut found = self.found.lock();
        match &account {
            Some(account) => {
                // A second old at most, so starting afresh costs a lookup a key.
                if found.len() >= self.keys_max {
                    found.clear();
                }
                found.insert(secret.into(), (account.clone(), asked_at));
            }
            None => {
                found.remove(secret);
            }
        }
        Ok(account)
    }
}
