//! Which tokens does a GGUF file bring, and how are they joined?

use std::path::Path;

use super::value::Metadata;
use crate::weights::WeightsError;

/// The tokenizer as `tokenizer.ggml.*` describes it, nothing interpreted.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
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

impl GgufVocabulary {
    pub(crate) fn read(metadata: &Metadata) -> Result<GgufVocabulary, WeightsError> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let vocabulary = GgufVocabulary {
            // A file without this key is as old as the time when there was only one kind.
            model: metadata.text(&key("model"))?.unwrap_or("llama").to_string(),
            pre: metadata.text(&key("pre"))?.map(str::to_string),
            tokens: metadata.texts(&key("tokens"))?,
            scores: metadata.floats(&key("scores"))?,
            token_types: metadata.integers(&key("token_type"))?,
            merges: metadata.texts(&key("merges"))?,
            bos: metadata.token(&key("bos_token_id"))?,
            eos: metadata.token(&key("eos_token_id"))?,
            eot: metadata.token(&key("eot_token_id"))?,
            unk: metadata.token(&key("unknown_token_id"))?,
            pad: metadata.token(&key("padding_token_id"))?,
            add_bos: metadata.flag(&key("add_bos_token"))?,
            add_eos: metadata.flag(&key("add_eos_token"))?,
            add_space_prefix: metadata.flag(&key("add_space_prefix"))?,
        };
        vocabulary.check(metadata.path())?;
        Ok(vocabulary)
    }

    /// What is said of each token is said of all, and tokens with a role exist.
    pub(crate) fn check(&self, file: &Path) -> Result<(), WeightsError> {
        let count = self.tokens.len();
        for (name, length) in [("scores", self.scores.len()), ("token_type", self.token_types.len())] {
            if length != 0 && length != count {
                let what = format!("key \"tokenizer.ggml.{name}\"");
                return Err(WeightsError::damaged(file, what, format!("{count}, one a token"), length));
            }
        }
        let roles = [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("unknown", self.unk),
            ("padding", self.pad),
        ];
        for (name, id) in roles {
            if let Some(id) = id.filter(|id| *id as usize >= count) {
                let what = format!("key \"tokenizer.ggml.{name}_token_id\"");
                return Err(WeightsError::damaged(file, what, format!("an id below {count}"), id));
            }
        }
        Ok(())
    }
}
