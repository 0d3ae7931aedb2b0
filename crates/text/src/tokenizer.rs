//! How does one model's text become tokens?

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tokenizers::{
    AddedVocabulary, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerImpl,
};

use domain::TokenId;

use crate::GgufVocabulary;
use crate::folder::Folder;
use crate::pieces::{Pieces, Spelling};
use crate::shared_model::SharedModel;

/// Whether text that spells a special token becomes that token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Parsed,
    AsText,
}

/// A tokenizer that cannot be had, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
    #[error(
        "the tokenizer in {file} is {what}; supported are byte-level BPE and SentencePiece-like BPE with byte fallback"
    )]
    Unsupported { file: String, what: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text could not be tokenized: {0}")]
pub struct EncodeError(String);

/// Text ⇄ tokens for one model. Cheap to clone and free to share between threads.
///
/// Decoding follows the reference except in one point: byte-fallback bytes that are no UTF-8 become one U+FFFD for each
/// broken character, as everywhere else, and not one for each byte of the whole run.
#[derive(Clone)]
pub struct Tokenizer(Arc<Parts>);

struct Parts {
    parsed: Pipeline,
    /// The same, but special tokens are text like any other. Shares the model, which is what is large.
    as_text: Pipeline,
    around: Around,
    pieces: Pieces,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    stop_tokens: Vec<TokenId>,
}

pub(crate) type Pipeline =
    TokenizerImpl<SharedModel, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Who adds the tokens that a model expects around a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    /// The tokenizer's own rule.
    PostProcessor,
    /// These, because the configuration says so.
    Tokens { before: Option<TokenId>, after: Option<TokenId> },
}

/// What a file format says about a tokenizer beyond its rules.
pub(crate) struct Roles {
    pub around: Around,
    pub spelling: Spelling,
    pub bos: Option<TokenId>,
    pub eos: Option<TokenId>,
    pub stop_tokens: Vec<TokenId>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where they exist, `tokenizer_config.json`, `special_tokens_map.json`,
    /// `generation_config.json` and `config.json` of a Hugging Face folder.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        Folder::open(folder)?.tokenizer()
    }
    /// Builds the tokenizer that a GGUF file describes.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, LoadError> {
        crate::gguf::tokenizer(vocabulary)
    }
    pub(crate) fn new(parsed: Pipeline, roles: Roles) -> Self {
        let mut as_text = parsed.clone();
        as_text.set_encode_special_tokens(true);
        let Roles { around, spelling, bos, eos, mut stop_tokens } = roles;
        let pieces = Pieces::new(&parsed, spelling);
        stop_tokens.extend(eos);
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        Self(Arc::new(Parts { parsed, as_text, around, pieces, bos, eos, stop_tokens }))
    }
    /// Returns the text's tokens. With `add_bos`, what the model expects around a text (its begin-of-text token) is added.
    pub fn encode(&self, text: &str, special: Special, add_bos: bool) -> Result<Vec<TokenId>, EncodeError> {
        let pipeline = match special {
            Special::Parsed => &self.0.parsed,
            Special::AsText => &self.0.as_text,
        };
        let by_rule = add_bos && self.0.around == Around::PostProcessor;
        // The word-splitting regex gives up by panicking on texts that make it backtrack too often. That is one bad
        // request, and it holds no lock.
        let encoding = catch_unwind(AssertUnwindSafe(|| pipeline.encode_fast(text, by_rule)))
            .map_err(|_| EncodeError("it is too long a run of characters without a word border".to_owned()))?
            .map_err(|error| EncodeError(error.to_string()))?;
        match self.0.around {
            Around::Tokens { before, after } if add_bos => {
                Ok(before.into_iter().chain(encoding.get_ids().iter().copied()).chain(after).collect())
            }
            _ => Ok(encoding.get_ids().to_vec()),
        }
    }
    /// Returns the text of a whole sequence. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[TokenId], keep_special: bool) -> String {
        let shown = tokens.iter().filter(|token| keep_special || !self.is_special(**token));
        let bytes: Vec<u8> = shown.filter_map(|token| self.token_bytes(*token)).flatten().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text[self.0.pieces.spelling().leading_spaces(&text)..].to_owned()
    }
    /// Returns the bytes that a token stands for inside a text; nothing for an id outside the vocabulary.
    pub fn token_bytes(&self, token: TokenId) -> Option<&[u8]> {
        self.0.pieces.bytes(token)
    }
    /// Returns the token's text for people: its bytes, with U+FFFD where they are no UTF-8 by themselves.
    pub fn token_text(&self, token: TokenId) -> String {
        String::from_utf8_lossy(self.token_bytes(token).unwrap_or_default()).into_owned()
    }
    /// Whether the token steers the model and shows nothing.
    pub fn is_special(&self, token: TokenId) -> bool {
        self.0.pieces.is_special(token)
    }
    pub fn token_id(&self, text: &str) -> Option<TokenId> {
        self.0.parsed.token_to_id(text)
    }
    /// Returns the smallest number above all token ids. A model may score more: padding that no text gives.
    pub fn vocabulary_size(&self) -> usize {
        self.0.pieces.len()
    }
    pub fn bos(&self) -> Option<TokenId> {
        self.0.bos
    }
    pub fn eos(&self) -> Option<TokenId> {
        self.0.eos
    }
    /// Returns every token that the model's files say ends an answer, the end-of-sequence token among them.
    pub fn stop_tokens(&self) -> &[TokenId] {
        &self.0.stop_tokens
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary_size", &self.vocabulary_size()).finish_non_exhaustive()
    }
}

/// Joins the parts of a tokenizer to one whose model can be shared.
pub(crate) fn pipeline(
    model: SharedModel,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    added: AddedVocabulary,
) -> Result<Pipeline, tokenizers::Error> {
    let mut pipeline = Pipeline::new(model);
    pipeline.with_normalizer(normalizer)?;
    pipeline.with_pre_tokenizer(pre_tokenizer);
    pipeline.with_post_processor(post_processor);
    pipeline.with_added_vocabulary(added);
    Ok(pipeline)
}
