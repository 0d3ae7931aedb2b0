//! By which name is a full block found again?
//!
//! ```text
//! root(tenant) ──▶ hash(root, tokens 0‥32) ──▶ hash(that, tokens 32‥64) ──▶ …
//! ```
//! A block's name is the SHA-256 of its parent's name and its own tokens, so it stands for the whole sequence up to its
//! end. The chain begins at the tenant: nobody can find, or time, what another tenant has computed. The digest is kept
//! whole: finding a second sequence of the same name is as hard as breaking SHA-256, so names are compared and tokens need not be.

use domain::{Tenant, TokenId};
use sha2::{Digest, Sha256};

/// The name of a full block: of all tokens up to its end, for one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    fn root(tenant: &Tenant) -> Self {
        Self(Sha256::new().chain_update(b"tenant\0").chain_update(tenant.as_str()).finalize().into())
    }

    fn child(&self, tokens: &[TokenId]) -> Self {
        let mut digest = Sha256::new().chain_update(b"block\0").chain_update(self.0);
        for token in tokens {
            digest.update(token.to_le_bytes());
        }
        Self(digest.finalize().into())
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
    pub(super) fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Returns the names of all full blocks of these tokens, in order.
pub fn prompt_hashes(tenant: &Tenant, tokens: &[TokenId], block_tokens: usize) -> Vec<ChainHash> {
    let mut hashes = Vec::with_capacity(tokens.len() / block_tokens);
    extend_hashes(&mut hashes, tenant, tokens, block_tokens);
    hashes
}

/// Adds the names of full blocks that have none yet.
pub(crate) fn extend_hashes(
    hashes: &mut Vec<ChainHash>,
    tenant: &Tenant,
    tokens: &[TokenId],
    block_tokens: usize,
) {
    for block in tokens.chunks_exact(block_tokens).skip(hashes.len()) {
        let parent = hashes.last().copied().unwrap_or_else(|| ChainHash::root(tenant));
        hashes.push(parent.child(block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tenant: &str, tokens: &[TokenId]) -> Vec<ChainHash> {
        prompt_hashes(&Tenant::from(tenant), tokens, 4)
    }

    #[test]
    fn only_full_blocks_have_names() {
        assert_eq!(names("a", &[1, 2, 3]).len(), 0);
        assert_eq!(names("a", &[1, 2, 3, 4, 5]).len(), 1);
        assert_eq!(names("a", &[1, 2, 3, 4, 5, 6, 7, 8]).len(), 2);
    }

    #[test]
    fn a_name_stands_for_everything_before_it() {
        let one = names("a", &[1, 2, 3, 4, 5, 6, 7, 8]);
        let other = names("a", &[9, 2, 3, 4, 5, 6, 7, 8]);
        assert_ne!(one[0], other[0]);
        assert_ne!(one[1], other[1], "equal tokens after different ones are a different block");
    }

    #[test]
    fn tenants_never_share_a_name() {
        assert_ne!(names("a", &[1, 2, 3, 4]), names("b", &[1, 2, 3, 4]));
    }

    #[test]
    fn a_chain_grown_step_by_step_is_the_chain_made_at_once() {
        let tokens: Vec<TokenId> = (0..37).collect();
        let mut grown = Vec::new();
        for end in 0..=tokens.len() {
            extend_hashes(&mut grown, &Tenant::from("a"), &tokens[..end], 4);
        }
        assert_eq!(grown, names("a", &tokens));
    }
}
