//! How a caller proves who pays: API keys, of which only the hash is kept.

use std::fmt;

use domain::Account;
use sha2::{Digest, Sha256};

use crate::Timestamp;

/// A key's public name: it appears in lists and logs and opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    pub account: Account,
    pub random: [u8; 32],
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
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl KeyRecord {
    pub fn is_active(&self) -> bool {
        self.revoked_at.is_none()
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
}
