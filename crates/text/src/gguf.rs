//! Which tokenizer does a GGUF file describe?

use domain::TokenId;

/// The tokenizer's part of a GGUF file's metadata, as it stands there.
#[derive(Clone, Debug, Default)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece-like BPE).
    pub model: String,
    /// `tokenizer.ggml.pre`: which rule cuts text into words.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`; may be empty.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`; may be empty, then all are normal.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: two pieces with a space between; may be empty for `llama`.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`
    pub bos: Option<TokenId>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos: Option<TokenId>,
    /// `tokenizer.ggml.eot_token_id` and `tokenizer.ggml.eom_token_id`: further ends of an answer.
    pub further_ends: Vec<TokenId>,
    /// `tokenizer.ggml.unknown_token_id`
    pub unknown: Option<TokenId>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
}

/// The values of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufTokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}
