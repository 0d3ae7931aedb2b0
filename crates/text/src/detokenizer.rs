//! Which text is complete after each new token?

use domain::TokenId;

use crate::Tokenizer;

/// Turns an answer's tokens into text as they come, never half a character.
///
/// All pieces together are the text of the whole sequence. Special tokens show nothing. Cost and memory of a push are those
/// of one token: at most three bytes are held back.
#[derive(Clone)]
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
    /// Takes the next token and returns the text that it completes.
    pub fn push(&mut self, token: TokenId) -> String {
        let _ = token;
        unimplemented!()
    }
    /// Returns what the held bytes are worth, when no more tokens come: U+FFFD or nothing.
    pub fn finish(&mut self) -> String {
        unimplemented!()
    }
}
