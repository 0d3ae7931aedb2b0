//! Which tokens is a text made of, and which beginning of a prompt was seen before?

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::behaviour::CacheRules;
use super::prompt::{Lifetime, Piece};

/// A token has at most so many characters.
const TOKEN_CHARACTERS_MAX: usize = 6;

/// Beginnings that are remembered: 16 bytes each in the set and the queue, so 2 MiB and their tables.
const REMEMBERED_MAX: usize = 65_536;

/// Returns pieces that add up to the text again: words with the space before them, cut where they are long.
pub fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let mut length = 0;
    for character in text.chars() {
        let begins_word = character.is_whitespace() && !token.chars().all(char::is_whitespace);
        if !token.is_empty() && (begins_word || length >= TOKEN_CHARACTERS_MAX) {
            tokens.push(std::mem::take(&mut token));
            length = 0;
        }
        token.push(character);
        length += 1;
    }
    if !token.is_empty() {
        tokens.push(token);
    }
    tokens
}

/// What a provider remembers of prompts.
#[derive(Debug, Default)]
pub struct PromptCache {
    known: HashSet<u64>,
    /// The oldest first.
    order: VecDeque<u64>,
}

/// A prompt's tokens by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub uncached: u64,
    pub read: u64,
    pub written_5m: u64,
    pub written_1h: u64,
}

impl PromptCache {
    /// Blocks of tokens are found again without being asked for (OpenAI, Gemini).
    pub fn by_itself(&mut self, scope: &str, pieces: &[Piece], rules: CacheRules) -> Found {
        let total: u64 = pieces.iter().map(Piece::token_count).sum();
        let mut hasher = DefaultHasher::new();
        scope.hash(&mut hasher);
        let mut seen = 0;
        let mut blocks = Vec::new();
        for token in pieces.iter().flat_map(Piece::tokens) {
            token.hash(&mut hasher);
            seen += 1;
            if seen % rules.block_tokens.max(1) == 0 && seen >= rules.min_tokens {
                blocks.push((seen, hasher.finish()));
            }
        }
        // The last token is always read anew: something must be computed to answer.
        let known =
            blocks.iter().take_while(|(count, hash)| *count < total && self.known.contains(hash)).last();
        let read = known.map_or(0, |(count, _)| *count);
        blocks.iter().for_each(|(_, hash)| self.remember(*hash));
        Found { uncached: total - read, read, ..Found::default() }
    }

    /// Only marked beginnings are kept and found (Anthropic, Bedrock).
    pub fn by_marks(&mut self, scope: &str, pieces: &[Piece], rules: CacheRules) -> Found {
        let total: u64 = pieces.iter().map(Piece::token_count).sum();
        let mut hasher = DefaultHasher::new();
        scope.hash(&mut hasher);
        let mut seen = 0;
        let mut marks = Vec::new();
        for piece in pieces {
            piece.text.hash(&mut hasher);
            seen += piece.token_count();
            if let Some(lifetime) = piece.mark.filter(|_| seen >= rules.min_tokens) {
                marks.push((seen, hasher.finish(), lifetime));
            }
        }
        let read =
            marks.iter().rev().find(|(_, hash, _)| self.known.contains(hash)).map_or(0, |(count, ..)| *count);
        let mut found = Found { read, ..Found::default() };
        let mut kept = read;
        for (count, hash, lifetime) in marks {
            let written = count.saturating_sub(kept);
            match lifetime {
                Lifetime::FiveMinutes => found.written_5m += written,
                Lifetime::OneHour => found.written_1h += written,
            }
            kept = kept.max(count);
            self.remember(hash);
        }
        found.uncached = total - kept;
        found
    }

    fn remember(&mut self, hash: u64) {
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > REMEMBERED_MAX {
            let oldest = self.order.pop_front().expect("it is longer than the bound");
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, mark: Option<Lifetime>) -> Piece {
        Piece { text: text.into(), mark, media_tokens: 0 }
    }

    const RULES: CacheRules = CacheRules { min_tokens: 4, block_tokens: 2 };

    #[test]
    fn tokens_add_up_to_the_text_again() {
        for text in ["", "one", " two  words\n", "incomprehensibilities", "Grüße, Welt! 東京タワー東京タワー"]
        {
            assert_eq!(tokens(text).concat(), text);
        }
    }

    #[test]
    fn a_repeated_beginning_is_read_in_blocks_and_never_whole() {
        let mut cache = PromptCache::default();
        let prompt = [piece("a b c d e f", None)];
        assert_eq!(cache.by_itself("m", &prompt, RULES), Found { uncached: 6, ..Found::default() });
        assert_eq!(cache.by_itself("m", &prompt, RULES), Found { uncached: 2, read: 4, ..Found::default() });
        assert_eq!(cache.by_itself("other", &prompt, RULES).read, 0);
    }

    #[test]
    fn marks_write_once_and_read_then() {
        let mut cache = PromptCache::default();
        let first = [
            piece("a b c d", Some(Lifetime::OneHour)),
            piece(" e", Some(Lifetime::FiveMinutes)),
            piece(" f", None),
        ];
        let written = Found { uncached: 1, read: 0, written_5m: 1, written_1h: 4 };
        assert_eq!(cache.by_marks("m", &first, RULES), written);
        assert_eq!(cache.by_marks("m", &first, RULES), Found { uncached: 1, read: 5, ..Found::default() });
    }
}
