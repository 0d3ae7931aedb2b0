//! What followed the last time that a sequence ended in the same tokens?

use std::collections::HashMap;

use domain::TokenId;

/// Lengths of ends that are remembered, longest first: eight tokens alike are nearly always a copy, two are often chance.
const LENGTHS: [usize; 3] = [8, 4, 2];
/// Up to this length an end is short.
pub(super) const SHORT: usize = 2;
/// Positions that are remembered for one sequence; later ones are not. Three entries of about 20 bytes each a position: at most
/// 2 MiB a sequence, 128 MiB for 64 of them that are all so long.
const POSITIONS_MAX: usize = 32 * 1024;

/// For each length, where the tokens that followed such an end begin. One entry a length and position, bounded above.
#[derive(Debug, Default)]
pub(crate) struct Ngrams {
    followed: [HashMap<u64, u32>; LENGTHS.len()],
    /// Positions whose followers are remembered.
    learnt: usize,
}

impl Ngrams {
    /// Remembers every end that is followed by a known token. Costs three entries for each token that is new.
    pub(crate) fn learn(&mut self, tokens: &[TokenId]) {
        for next in self.learnt.max(1)..tokens.len().min(POSITIONS_MAX) {
            for (length, followed) in LENGTHS.iter().zip(&mut self.followed) {
                if next >= *length {
                    followed.insert(fingerprint(&tokens[next - length..next]), next as u32);
                }
            }
        }
        self.learnt = self.learnt.max(tokens.len().min(POSITIONS_MAX));
    }

    /// Fills `proposal` with at most `most` tokens, and returns the length of the end that was found, or 0.
    pub(crate) fn propose(&self, tokens: &[TokenId], most: usize, proposal: &mut Vec<TokenId>) -> usize {
        proposal.clear();
        for (&length, followed) in LENGTHS.iter().zip(&self.followed) {
            let Some(start) = tokens.len().checked_sub(length) else { continue };
            let Some(&next) = followed.get(&fingerprint(&tokens[start..])) else { continue };
            let next = next as usize;
            // A fingerprint may be shared by chance; the tokens themselves decide.
            if tokens[next - length..next] != tokens[start..] {
                continue;
            }
            for ahead in 0..most {
                // Where the copy catches up with the end, it goes on in what was guessed: a sequence that repeats itself.
                let token = match tokens.get(next + ahead) {
                    Some(&token) => token,
                    None => proposal[next + ahead - tokens.len()],
                };
                proposal.push(token);
            }
            return length;
        }
        0
    }
}

fn fingerprint(tokens: &[TokenId]) -> u64 {
    tokens.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, &token| {
        (hash.rotate_left(23) ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proposed(tokens: &[TokenId], most: usize) -> (usize, Vec<TokenId>) {
        let (mut ngrams, mut proposal) = (Ngrams::default(), Vec::new());
        ngrams.learn(tokens);
        let length = ngrams.propose(tokens, most, &mut proposal);
        (length, proposal)
    }

    #[test]
    fn the_longest_end_that_was_seen_decides() {
        // After 1 2 came 9 last; after 5 6 1 2 came 7.
        assert_eq!(proposed(&[5, 6, 1, 2, 7, 8, 1, 2, 9, 5, 6, 1, 2], 2), (4, vec![7, 8]));
        assert_eq!(proposed(&[1, 2, 7, 1, 2, 9, 4, 1, 2], 2), (2, vec![9, 4]));
    }

    #[test]
    fn a_repetition_is_continued_beyond_what_is_known() {
        assert_eq!(proposed(&[1, 2, 3, 1, 2, 3, 1, 2], 7), (4, vec![3, 1, 2, 3, 1, 2, 3]));
    }

    #[test]
    fn what_was_never_seen_is_not_guessed() {
        assert_eq!(proposed(&[1, 2, 3, 4], 4), (0, vec![]));
        assert_eq!(proposed(&[1], 4), (0, vec![]));
    }

    #[test]
    fn a_long_sequence_takes_no_more_than_its_bound() {
        let tokens: Vec<TokenId> = (0..POSITIONS_MAX as u32 + 1000).collect();
        let mut ngrams = Ngrams::default();
        ngrams.learn(&tokens);
        assert!(ngrams.followed.iter().all(|followed| followed.len() <= POSITIONS_MAX));
    }

    proptest! {
        #[test]
        fn learnt_bit_by_bit_or_at_once_is_the_same(
            tokens in proptest::collection::vec(0u32..4, 1..80), cut in 0usize..80,
        ) {
            let (mut ngrams, mut proposal) = (Ngrams::default(), Vec::new());
            ngrams.learn(&tokens[..cut.min(tokens.len())]);
            ngrams.learn(&tokens);
            let length = ngrams.propose(&tokens, 5, &mut proposal);
            prop_assert_eq!(&(length, proposal), &proposed(&tokens, 5));
            // The plain definition: the last earlier place where the same end is followed by anything.
            let plain = LENGTHS.iter().find_map(|&length| {
                let start = tokens.len().checked_sub(length)?;
                (length..tokens.len()).rev().find(|&next| tokens[next - length..next] == tokens[start..])
                    .map(|next| (length, tokens[next]))
            });
            let found = proposed(&tokens, 5);
            prop_assert_eq!(plain, (found.0 > 0).then(|| (found.0, found.1[0])));
        }
    }
}
