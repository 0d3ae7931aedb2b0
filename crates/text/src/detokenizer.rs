//! Which text is complete after each new token?

use domain::TokenId;

use crate::Tokenizer;

/// Turns an answer's tokens into text as they come, never half a character.
///
/// All pieces together are the text of the whole sequence. Special tokens show nothing. Cost and memory of a push are those
/// of one token: at most three bytes are held back.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// The beginning of a character whose end has not come; at most three bytes.
    held: Vec<u8>,
}

impl Detokenizer {
    /// For tokens that continue a text: a leading space stays, because it separates the answer from its prompt.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), held: Vec::new() }
    }
    /// Takes the next token and returns the text that it completes. An id outside the vocabulary shows nothing.
    pub fn push(&mut self, token: TokenId) -> String {
        if self.tokenizer.is_special(token) {
            return String::new();
        }
        self.held.extend_from_slice(self.tokenizer.token_bytes(token).unwrap_or_default());
        take_complete(&mut self.held)
    }
    /// Returns what the held bytes are worth, when no more tokens come: one U+FFFD or nothing.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        String::from_utf8_lossy(&held).into_owned()
    }
}

/// Takes whole characters from the front of `bytes`. What can never become one is U+FFFD, once for each maximal beginning
/// of a character, as `String::from_utf8_lossy` has it. At most three bytes stay.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(whole) => {
                text.push_str(whole);
                bytes.clear();
                return text;
            }
            Err(error) => error,
        };
        let (whole, broken) = rest.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(whole).expect("it was valid up to here"));
        match error.error_len() {
            Some(length) => {
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &broken[length..];
            }
            None => {
                *bytes = broken.to_vec();
                return text;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_in_any_pieces_give_the_text_of_the_whole(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..4),
                    // Pieces of real characters, cut anywhere.
                    ("[é語\u{1F600}]", 0usize..4, 0usize..4).prop_map(|(text, start, end)| {
                        text.as_bytes()[start.min(text.len())..].iter().take(end).copied().collect()
                    }),
                ],
                0..12,
            ),
        ) {
            let mut held = Vec::new();
            let mut text = String::new();
            for piece in &pieces {
                held.extend_from_slice(piece);
                text += &take_complete(&mut held);
                prop_assert!(held.len() <= 3);
            }
            text += &String::from_utf8_lossy(&held);
            prop_assert_eq!(text, String::from_utf8_lossy(&pieces.concat()).into_owned());
        }
    }
}
