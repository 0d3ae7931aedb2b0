//! What may the holder of a key do?
//!
//! | | member | viewer | admin | owner |
//! |---|---|---|---|---|
//! | call models | yes | no | yes | yes |
//! | read accounts, keys, limits, usage, tasks of its subtree | no | yes | yes | yes |
//! | change what lies below its account; keys and tasks of its account too | no | no | yes | yes |
//! | change its account itself and the limits on it; make owners | no | no | no | yes |
//!
//! A subtree is the account of the key and all below it. An admin cannot raise the limits that it works under: so a team gets
//! an admin, and whoever gave the team its budget keeps the say over it. Prices, and the health of the ledger as a whole,
//! belong to nobody's subtree: they take an owner of the root.

use std::fmt;
use std::str::FromStr;

use domain::Account;

use crate::account::{ROOT, is_below, is_within};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Calls models. What every key was before there were roles.
    #[default]
    Member,
    /// Looks at everything in its subtree, spends nothing: for dashboards and auditors.
    Viewer,
    /// Runs what lies below its account.
    Admin,
    /// Decides over its account, and who else may.
    Owner,
}

/// Something that a key's holder wants to do, and to which account. Each names its least role in [`Role::may`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    CallModels,
    /// Look at accounts, keys, limits, usage, tasks.
    Read(&'a Account),
    /// Make an account below, describe it, close it.
    ChangeAccount(&'a Account),
    /// Make, rotate or revoke a key of this account that has this role.
    ChangeKey(&'a Account, Role),
    /// Set or end a limit on this account.
    ChangeLimit(&'a Account),
    /// Approve more for a task, or stop it.
    ChangeTask(&'a Account),
    /// What concerns all accounts at once: prices, the ledger's own health.
    RunServer,
    /// Look at what is the same for all accounts: prices.
    ReadServer,
}

impl Role {
    pub const ALL: [Role; 4] = [Self::Member, Self::Viewer, Self::Admin, Self::Owner];

    /// Whether a key with this role, of the account `own`, may do it.
    pub fn may(self, own: &Account, deed: Deed<'_>) -> bool {
        let (is_admin, is_owner) = (self >= Self::Admin, self == Self::Owner);
        match deed {
            // Nothing can be booked to the root.
            Deed::CallModels => self != Self::Viewer && own.as_str() != ROOT,
            Deed::Read(account) => self >= Self::Viewer && is_within(account, own),
            Deed::ChangeAccount(account) | Deed::ChangeLimit(account) => {
                (is_admin && is_below(account, own)) || (is_owner && is_within(account, own))
            }
            Deed::ChangeKey(account, role) => is_admin && is_within(account, own) && role <= self,
            Deed::ChangeTask(account) => is_admin && is_within(account, own),
            Deed::RunServer => is_owner && own.as_str() == ROOT,
            Deed::ReadServer => self >= Self::Viewer,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.word() == word);
        found.ok_or_else(|| format!("{word:?} is no role; it is member, viewer, admin or owner"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_above_is_what_is_decided() {
        let own: Account = "acme/research".into();
        let (above, beside, below) = ("acme".into(), "acme/sales".into(), "acme/research/bot".into());
        let may = |deed: Deed<'_>| Role::ALL.map(|role| role.may(&own, deed));
        assert_eq!(may(Deed::CallModels), [true, false, true, true]);
        assert_eq!(may(Deed::Read(&own)), [false, true, true, true]);
        assert_eq!(may(Deed::Read(&below)), [false, true, true, true]);
        assert_eq!(may(Deed::ChangeAccount(&below)), [false, false, true, true]);
        assert_eq!(may(Deed::ChangeAccount(&own)), [false, false, false, true]);
        assert_eq!(may(Deed::ChangeLimit(&below)), [false, false, true, true]);
        assert_eq!(may(Deed::ChangeLimit(&own)), [false, false, false, true]);
        assert_eq!(may(Deed::ChangeKey(&own, Role::Member)), [false, false, true, true]);
        assert_eq!(may(Deed::ChangeKey(&own, Role::Owner)), [false, false, false, true]);
        assert_eq!(may(Deed::ChangeTask(&below)), [false, false, true, true]);
        assert_eq!(may(Deed::RunServer), [false; 4]);
        assert_eq!(may(Deed::ReadServer), [false, true, true, true]);
        for outside in [&above, &beside] {
            for deed in [
                Deed::Read(outside),
                Deed::ChangeAccount(outside),
                Deed::ChangeKey(outside, Role::Member),
                Deed::ChangeLimit(outside),
                Deed::ChangeTask(outside),
            ] {
                assert_eq!(may(deed), [false; 4], "{deed:?}");
            }
        }
    }

    #[test]
    fn the_root_runs_the_server_and_calls_no_models() {
        let root: Account = ROOT.into();
        assert!(Role::Owner.may(&root, Deed::RunServer) && !Role::Admin.may(&root, Deed::RunServer));
        assert!(Role::Owner.may(&root, Deed::ChangeAccount(&"acme".into())));
        assert!(!Role::Owner.may(&root, Deed::CallModels));
    }
}
