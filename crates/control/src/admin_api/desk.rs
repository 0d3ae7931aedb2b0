//! Where are verbs performed, and may whoever asks do that?

use std::sync::Arc;
use std::time::SystemTime;

use domain::Account;
use ledger::account::ROOT;
use ledger::{Deed, Journal, KeyId, KeyRecord, Role, Scopes, Timestamp};

use super::configuration::Configuration;
use super::decisions::DecisionLog;
use super::error::AdminError;

/// The ledger, and the edge that verbs need. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    pub journal: Journal,
    /// Called after every change of who may come in, so that it holds at once in this process.
    keys_changed: Arc<dyn Fn() + Send + Sync>,
    /// Where decisions are kept; none where no server runs and none has left any.
    decisions: Option<Arc<dyn DecisionLog>>,
    /// What the server was told to do; none where no server runs.
    configuration: Option<Arc<dyn Fn() -> Configuration + Send + Sync>>,
}

/// Whoever asks.
#[derive(Clone, Debug)]
pub struct Actor {
    pub role: Role,
    /// The top of the subtree that it may act in.
    pub account: Account,
    /// What it may give away: a key cannot make one that reaches further.
    pub scopes: Scopes,
    /// `None`: who runs commands on the machine of the ledger, and could write its file as well.
    pub key: Option<KeyId>,
}

impl Desk {
    pub fn new(journal: Journal) -> Self {
        Self { journal, keys_changed: Arc::new(|| ()), decisions: None, configuration: None }
    }

    /// Returns the desk that can tell why requests went where they went.
    pub fn deciding(self, decisions: Arc<dyn DecisionLog>) -> Self {
        Self { decisions: Some(decisions), ..self }
    }

    /// Returns the desk that can tell what its server was told to do.
    pub fn configured(self, configuration: impl Fn() -> Configuration + Send + Sync + 'static) -> Self {
        Self { configuration: Some(Arc::new(configuration)), ..self }
    }

    pub fn decisions(&self) -> Result<Arc<dyn DecisionLog>, AdminError> {
        let missing = || AdminError::NotFound { what: "log of decisions", name: "of this server".into() };
        self.decisions.clone().ok_or_else(missing)
    }

    pub fn configuration(&self) -> Result<Configuration, AdminError> {
        let missing = || AdminError::NotFound { what: "running server", name: "here".into() };
        self.configuration.as_ref().map(|configuration| configuration()).ok_or_else(missing)
    }

    pub fn telling(self, keys_changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self { keys_changed: Arc::new(keys_changed), ..self }
    }

    pub fn tell_keys_changed(&self) {
        (self.keys_changed)();
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    /// Returns what a new secret is made of, from the operating system's generator.
    pub fn random(&self) -> Result<[u8; 32], AdminError> {
        let mut random = [0; 32];
        rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut random)
            .map_err(|_| AdminError::Internal("the operating system gives no randomness".into()))?;
        Ok(random)
    }
}

impl Actor {
    /// Whoever runs commands beside the ledger's own file owns everything.
    pub fn operator() -> Self {
        Self { role: Role::Owner, account: ROOT.into(), scopes: Scopes::EVERYTHING, key: None }
    }

    pub fn holding(key: &KeyRecord) -> Self {
        Self {
            role: key.role,
            account: key.account.clone(),
            scopes: key.scopes.clone(),
            key: Some(key.id.clone()),
        }
    }

    pub fn can(&self, deed: Deed<'_>) -> bool {
        self.role.may(&self.account, deed)
    }

    /// Refuses with what is missing. Decided before anything is looked up, so that a refusal says nothing of what there is.
    pub fn may(&self, deed: Deed<'_>) -> Result<(), AdminError> {
        if self.can(deed) {
            return Ok(());
        }
        Err(AdminError::NotAllowed { role: self.role, account: self.account.clone(), deed: said(deed) })
    }
}

fn said(deed: Deed<'_>) -> String {
    match deed {
        Deed::CallModels => "call models".into(),
        Deed::Read(account) => format!("read what is booked to {account}"),
        Deed::ChangeAccount(account) => format!("change the account {account}"),
        Deed::ChangeKey(account, role) => format!("change keys of {account} with the role {role}"),
        Deed::ChangeLimit(account) => format!("change limits on {account}"),
        Deed::ChangeTask(account) => format!("change tasks of {account}"),
        Deed::RunServer => "change what concerns all accounts".into(),
        Deed::ReadServer => "read what concerns all accounts".into(),
    }
}
