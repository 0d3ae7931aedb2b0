//! How a caller proves who pays: API keys, of which only the hash is kept.

use std::fmt;
use std::time::Duration;

use domain::Account;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::{ROOT, check_label};
use crate::{LedgerError, Role, Scopes, Timestamp};

/// A key's public name: it appears in lists and logs and opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text that the caller sends. Shown once, when the key is made; never stored, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is needed to make a key. The caller draws `random` from the operating system's generator.
pub struct NewKey {
    pub name: String,
    /// Whose requests these are; [`crate::account::ROOT`] for operators of the whole server.
    pub account: Account,
    pub role: Role,
    pub scopes: Scopes,
    pub expires_at: Option<Timestamp>,
    /// The key that asked for this one; `None` is whoever runs commands on the machine of the ledger.
    pub created_by: Option<KeyId>,
    pub random: [u8; 32],
    pub at: Timestamp,
}

impl NewKey {
    /// Returns a key that calls models on this account, narrowed to nothing, for ever.
    pub fn member(name: impl Into<String>, account: Account, random: [u8; 32], at: Timestamp) -> Self {
        let (role, scopes) = (Role::Member, Scopes::EVERYTHING);
        Self { name: name.into(), account, role, scopes, expires_at: None, created_by: None, random, at }
    }

    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        check_label("name", &self.name)?;
        if self.account.as_str() != ROOT {
            crate::account::account(self.account.as_str())?;
        }
        if self.expires_at.is_some_and(|end| end <= self.at) {
            return Err(LedgerError::BadExpiry);
        }
        self.scopes.check()
    }
}

/// Puts a new secret in the place of an old one, which opens for a while longer.
#[derive(Clone, Debug)]
pub struct Rotation {
    pub id: KeyId,
    /// How long both open: the time that it takes to bring the new secret everywhere.
    pub overlap: Duration,
    pub created_by: Option<KeyId>,
    pub at: Timestamp,
}

/// A key as it is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub record: KeyRecord,
    pub secret: Secret,
}

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub name: String,
    pub account: Account,
    pub role: Role,
    pub scopes: Scopes,
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub created_by: Option<KeyId>,
    pub revoked_at: Option<Timestamp>,
    /// The key whose place it took by a rotation.
    pub rotated_from: Option<KeyId>,
}

/// A key that somebody showed, and whether its account is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKey {
    pub record: KeyRecord,
    /// The account of the key, or the one above it, that is closed.
    pub closed: Option<Account>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Active,
    Expired,
    Revoked,
}

impl KeyState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Which keys, in the order of their making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyQuery {
    /// Keys of this account and of those below it; `None` is all.
    pub within: Option<Account>,
    /// Only keys that come after this one.
    pub after: Option<KeyId>,
    pub limit: usize,
}

impl KeyRecord {
    /// A key is revoked for good; expiry is judged by the clock of whoever asks.
    pub fn state(&self, now: Timestamp) -> KeyState {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(end)) if end <= now => KeyState::Expired,
            (None, _) => KeyState::Active,
        }
    }

    /// Returns the record that a new secret of this hash has, and when the old one ends.
    pub(crate) fn rotated(&self, hash: &[u8; 32], rotation: &Rotation) -> (KeyRecord, Timestamp) {
        let record = KeyRecord {
            id: id(hash),
            created_at: rotation.at,
            created_by: rotation.created_by.clone(),
            revoked_at: None,
            rotated_from: Some(self.id.clone()),
            ..self.clone()
        };
        let overlap_ms = i64::try_from(rotation.overlap.as_millis()).unwrap_or(i64::MAX);
        let end = Timestamp::from_millis(rotation.at.millis().saturating_add(overlap_ms));
        (record, self.expires_at.map_or(end, |expires_at| expires_at.min(end)))
    }
}

/// The secret of a key: `bl-` and 256 random bits in hexadecimal.
pub(crate) fn secret(random: &[u8; 32]) -> Secret {
    Secret(format!("bl-{}", hexadecimal(random)))
}

/// SHA-256, and no slow hash: a slow hash protects passwords that people choose, because those can be guessed one by one.
/// 256 random bits cannot, however fast each guess is; and every request pays for this hash. The lookup is by the hash's
/// index, so its time tells a guesser about a hash that he cannot steer, not about the secret.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The public name comes from the hash, so it says nothing of the secret and needs no randomness of its own.
pub(crate) fn id(hash: &[u8; 32]) -> KeyId {
    KeyId(format!("key-{}", hexadecimal(&hash[..6])))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_never_printed_by_debug() {
        let secret = secret(&[0xab; 32]);
        assert_eq!(secret.reveal().len(), 3 + 64);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn the_hash_is_sha_256() {
        // The standard's own example: SHA-256("abc").
        assert_eq!(hexadecimal(&hash("abc")[..8]), "ba7816bf8f01cfea");
        assert_eq!(id(&hash("abc")).to_string(), "key-ba7816bf8f01");
    }

    fn record(expires_at: Option<i64>) -> KeyRecord {
        KeyRecord {
            id: KeyId("key-old".into()),
            name: "ci".into(),
            account: "acme".into(),
            role: Role::Viewer,
            scopes: Scopes::EVERYTHING,
            expires_at: expires_at.map(Timestamp::from_millis),
            created_at: Timestamp::from_millis(1),
            created_by: None,
            revoked_at: None,
            rotated_from: None,
        }
    }

    #[test]
    fn a_key_opens_until_its_last_millisecond_is_over() {
        let state = |record: &KeyRecord, now| record.state(Timestamp::from_millis(now));
        assert_eq!(state(&record(None), i64::MAX), KeyState::Active);
        assert_eq!(state(&record(Some(10)), 9), KeyState::Active);
        assert_eq!(state(&record(Some(10)), 10), KeyState::Expired);
        let revoked = KeyRecord { revoked_at: Some(Timestamp::from_millis(3)), ..record(Some(10)) };
        assert_eq!(state(&revoked, 2), KeyState::Revoked);
    }

    #[test]
    fn a_rotation_keeps_what_the_key_may_and_never_lengthens_the_old_one() {
        let rotate = |expires_at, overlap_ms| {
            let rotation = Rotation {
                id: KeyId("key-old".into()),
                overlap: Duration::from_millis(overlap_ms),
                created_by: None,
                at: Timestamp::from_millis(100),
            };
            record(expires_at).rotated(&[7; 32], &rotation)
        };
        let (new, end) = rotate(None, 50);
        assert_eq!((new.name.as_str(), new.role, end.millis()), ("ci", Role::Viewer, 150));
        assert_eq!((new.id, new.created_at.millis()), (id(&[7; 32]), 100));
        assert_eq!(new.rotated_from, Some(KeyId("key-old".into())));
        assert_eq!(rotate(Some(120), 50).1.millis(), 120);
        assert_eq!(rotate(None, u64::MAX).1, Timestamp::MAX);
    }

    #[test]
    fn a_new_key_is_checked_before_it_is_made() {
        let new = || NewKey::member("ci", "acme".into(), [0; 32], Timestamp::from_millis(5));
        assert_eq!(new().check(), Ok(()));
        let message = |key: NewKey| key.check().unwrap_err().to_string();
        assert!(message(NewKey { name: " ".into(), ..new() }).contains("name"));
        assert!(message(NewKey { account: "a b".into(), ..new() }).contains("a b"));
        let over = NewKey { expires_at: Some(Timestamp::from_millis(5)), ..new() };
        assert!(message(over).contains("in the past"));
        assert_eq!(NewKey { account: ROOT.into(), role: Role::Owner, ..new() }.check(), Ok(()));
    }
}
