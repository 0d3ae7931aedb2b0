//! How does one model's text become tokens?

use std::path::Path;

use domain::TokenId;

use crate::GgufVocabulary;

/// Whether text that spells a special token becomes that token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Parsed,
    AsText,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
    #[error(
        "the tokenizer in {file} is {what}; supported are byte-level BPE and SentencePiece-like BPE with byte fallback"
    )]
    Unsupported { file: String, what: String },
}

#[derive(Debug, thiserror::Error)]
#[error("the text could not be tokenized: {0}")]
pub struct EncodeError(String);

/// Text ⇄ tokens for one model. Cheap to clone and free to share between threads.
#[derive(Clone)]
pub struct Tokenizer {}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where they exist, `tokenizer_config.json`, `special_tokens_map.json`,
    /// `generation_config.json` and `config.json` of a Hugging Face folder.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        let _ = folder;
        unimplemented!()
    }
    /// Builds the tokenizer that a GGUF file describes.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, LoadError> {
        let _ = vocabulary;
        unimplemented!()
    }
    /// Returns the text's tokens. With `add_bos`, what the model expects around a text (its begin-of-text token) is added.
    pub fn encode(&self, text: &str, special: Special, add_bos: bool) -> Result<Vec<TokenId>, EncodeError> {
        let _ = (text, special, add_bos);
        unimplemented!()
    }
    /// Returns the text of a whole sequence. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[TokenId], keep_special: bool) -> String {
        let _ = (tokens, keep_special);
        unimplemented!()
    }
    /// Returns the bytes that a token stands for inside a text; none for an id outside the vocabulary.
    pub fn token_bytes(&self, token: TokenId) -> Option<&[u8]> {
        let _ = token;
        unimplemented!()
    }
    /// Returns the token's text for people: its bytes, with U+FFFD where they are no UTF-8 by themselves.
    pub fn token_text(&self, token: TokenId) -> String {
        let _ = token;
        unimplemented!()
    }
    pub fn is_special(&self, token: TokenId) -> bool {
        let _ = token;
        unimplemented!()
    }
    pub fn token_id(&self, text: &str) -> Option<TokenId> {
        let _ = text;
        unimplemented!()
    }
    /// Returns the smallest number above all token ids.
    pub fn vocabulary_size(&self) -> usize {
        unimplemented!()
    }
    pub fn bos(&self) -> Option<TokenId> {
        unimplemented!()
    }
    pub fn eos(&self) -> Option<TokenId> {
        unimplemented!()
    }
    /// Returns every token that ends an answer, the end-of-sequence token among them.
    pub fn stop_tokens(&self) -> &[TokenId] {
        unimplemented!()
    }
}
