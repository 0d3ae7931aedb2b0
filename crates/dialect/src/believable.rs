//! Which counts of tokens can be believed?

/// No answer has a million million tokens, and sums of a few such counts are still exact.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// Returns the count; one that cannot be is unknown, for it shall neither be billed nor break a sum.
pub(crate) fn tokens(count: Option<u64>) -> Option<u64> {
    count.filter(|tokens| *tokens <= TOKENS_MAX)
}
