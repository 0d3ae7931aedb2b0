//! Which tokens does a GGUF file bring, and how are they joined?

/// The tokenizer as `tokenizer.ggml.*` describes it, nothing interpreted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `gpt2` (byte-level pairs), `llama` (SentencePiece), …
    pub model: String,
    /// How text is cut before merging: `llama-bpe`, `qwen2`, `default`, …
    pub pre: Option<String>,
    /// Token texts by id.
    pub tokens: Vec<String>,
    /// One a token, or empty. SentencePiece merges the pair with the best score first.
    pub scores: Vec<f32>,
    /// One a token, or empty: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `left right`, best first; empty for SentencePiece.
    pub merges: Vec<String>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// Ends a turn, where that is another token than `eos`.
    pub eot: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    /// `None` where the file leaves it to the tokenizer's kind.
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
}
