//! Which tokenizer does a GGUF file describe?

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, AddedVocabulary, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
};

use domain::TokenId;

use crate::pieces::Spelling;
use crate::shared_model::SharedModel;
use crate::tokenizer::{Around, LoadError, Roles, Tokenizer, pipeline};

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

/// Where errors say that the trouble is; the file's own name is known to who read it.
const FILE: &str = "the GGUF metadata";

const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a byte-level vocabulary cuts text into words, by the names of `tokenizer.ggml.pre`.
struct WordRule {
    /// `None`: GPT-2's own rule.
    words: Option<&'static str>,
    compose_unicode: bool,
    /// A word that is a token stays whole, whatever the merges say.
    whole_words_first: bool,
    add_bos: bool,
}

fn word_rule(pre: &str) -> Option<WordRule> {
    let rule = |words, compose_unicode, whole_words_first, add_bos| {
        Some(WordRule { words, compose_unicode, whole_words_first, add_bos })
    };
    match pre {
        "gpt-2" | "gpt2" | "default" => rule(None, false, false, false),
        "llama-bpe" | "llama3" | "llama-v3" => rule(Some(LLAMA3_WORDS), false, true, true),
        "qwen2" | "deepseek-r1-qwen" => rule(Some(QWEN2_WORDS), true, false, false),
        _ => None,
    }
}

pub(crate) fn tokenizer(vocabulary: GgufVocabulary) -> Result<Tokenizer, LoadError> {
    vocabulary.check()?;
    match vocabulary.model.as_str() {
        "gpt2" => byte_level(&vocabulary),
        "llama" => marked(&vocabulary),
        other => Err(unsupported(format!("tokenizer.ggml.model {other:?}"))),
    }
}

/// GPT-2's kind: bytes as printable characters.
fn byte_level(vocabulary: &GgufVocabulary) -> Result<Tokenizer, LoadError> {
    let pre = vocabulary.pre.as_deref().unwrap_or("default");
    let rule = word_rule(pre).ok_or_else(|| unsupported(format!("tokenizer.ggml.pre {pre:?}")))?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.ids(), vocabulary.merges()?)
        .ignore_merges(rule.whole_words_first)
        .build()
        .map_err(problem)?;
    let pre_tokenizer: PreTokenizerWrapper = match rule.words {
        None => ByteLevel::new(false, true, true).into(),
        Some(words) => {
            let words = SplitPattern::Regex(words.to_owned());
            let split = Split::new(words, SplitDelimiterBehavior::Isolated, false).map_err(problem)?;
            PreTokenizers::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into()
        }
    };
    let normalizer = rule.compose_unicode.then(|| NormalizerWrapper::from(NFC));
    vocabulary.finish(model, normalizer, Some(pre_tokenizer), Spelling::ByteLevel, rule.add_bos)
}

/// SentencePiece's kind: `▁` for spaces, and bytes where no piece fits.
fn marked(vocabulary: &GgufVocabulary) -> Result<Tokenizer, LoadError> {
    let merges = match vocabulary.merges.is_empty() {
        true => vocabulary.merges_by_score()?,
        false => vocabulary.merges()?,
    };
    let unknown = vocabulary.unknown.or_else(|| vocabulary.first_of(GgufTokenType::Unknown));
    let mut builder =
        BPE::builder().vocab_and_merges(vocabulary.ids(), merges).byte_fallback(true).fuse_unk(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(vocabulary.tokens[unknown as usize].clone());
    }
    let model = builder.build().map_err(problem)?;
    let add_space_prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if add_space_prefix {
        steps.push(Prepend::new("▁".to_owned()).into());
    }
    steps.push(Replace::new(" ", "▁").map_err(problem)?.into());
    let normalizer = Normalizers::new(steps).into();
    let spelling = Spelling::Marked { spaces_added: usize::from(add_space_prefix) };
    vocabulary.finish(model, Some(normalizer), None, spelling, true)
}

impl GgufVocabulary {
    fn check(&self) -> Result<(), LoadError> {
        let count = self.tokens.len();
        for (name, length) in [("scores", self.scores.len()), ("token_type", self.token_types.len())] {
            if length != 0 && length != count {
                return Err(problem(format!(
                    "tokenizer.ggml.{name} has {length} entries for {count} tokens"
                )));
            }
        }
        let roles = [("bos", self.bos), ("eos", self.eos), ("unknown", self.unknown)];
        let ends = self.further_ends.iter().map(|end| ("eot", Some(*end)));
        for (name, token) in roles.into_iter().chain(ends) {
            if token.is_some_and(|token| token as usize >= count) {
                return Err(problem(format!(
                    "tokenizer.ggml.{name}_token_id is {token:?}, with {count} tokens"
                )));
            }
        }
        Ok(())
    }
    fn finish(
        &self,
        model: BPE,
        normalizer: Option<NormalizerWrapper>,
        pre_tokenizer: Option<PreTokenizerWrapper>,
        spelling: Spelling,
        add_bos_by_default: bool,
    ) -> Result<Tokenizer, LoadError> {
        let model = SharedModel::new(model.into());
        let mut added = AddedVocabulary::new();
        let tokens = self.tokens.iter().zip(0..).filter_map(|(token, id)| {
            let special = match self.token_type(id) {
                Some(GgufTokenType::Control | GgufTokenType::Unknown) => true,
                Some(GgufTokenType::UserDefined) => false,
                _ => return None,
            };
            Some(AddedToken::from(token.clone(), special).normalized(false))
        });
        added.add_tokens(tokens, &model, normalizer.as_ref()).map_err(problem)?;
        let parsed = pipeline(model, normalizer, pre_tokenizer, None, added).map_err(problem)?;
        let add_bos = self.add_bos.unwrap_or(add_bos_by_default);
        let around = Around::Tokens {
            before: self.bos.filter(|_| add_bos),
            after: self.eos.filter(|_| self.add_eos == Some(true)),
        };
        let stop_tokens = self.further_ends.clone();
        Ok(Tokenizer::new(parsed, Roles { around, spelling, bos: self.bos, eos: self.eos, stop_tokens }))
    }
    /// Of two tokens with the same text, the first one is what the text becomes.
    fn ids(&self) -> Vocab {
        let mut ids = Vocab::with_capacity(self.tokens.len());
        for (token, id) in self.tokens.iter().zip(0..) {
            ids.entry(token.clone()).or_insert(id);
        }
        ids
    }
    fn merges(&self) -> Result<Vec<(String, String)>, LoadError> {
        let split = |merge: &String| {
            let (left, right) = merge.split_once(' ')?;
            Some((left.to_owned(), right.to_owned()))
        };
        let read = |merge| {
            split(merge).ok_or_else(|| problem(format!("{merge:?} among the merges is not two pieces")))
        };
        self.merges.iter().map(read).collect()
    }
    /// Returns the merges that SentencePiece's scores imply: any two pieces that make a piece, the best piece first.
    fn merges_by_score(&self) -> Result<Vec<(String, String)>, LoadError> {
        if self.scores.is_empty() {
            return Err(problem(
                "neither tokenizer.ggml.merges nor tokenizer.ggml.scores says how pieces are joined",
            ));
        }
        let is_piece =
            |id: TokenId| matches!(self.token_type(id), Some(GgufTokenType::Normal | GgufTokenType::Unused));
        let pieces: HashSet<&str> = self
            .tokens
            .iter()
            .zip(0..)
            .filter(|(_, id)| is_piece(*id))
            .map(|(token, _)| token.as_str())
            .collect();
        let mut merges = Vec::new();
        for (whole, id) in self.tokens.iter().zip(0..).filter(|(_, id)| is_piece(*id)) {
            for (border, _) in whole.char_indices().skip(1) {
                let (left, right) = whole.split_at(border);
                if pieces.contains(left) && pieces.contains(right) {
                    let lengths = (left.chars().count(), right.chars().count());
                    merges.push((self.scores[id as usize], lengths, (left, right)));
                }
            }
        }
        // Of equal score, longer left parts first, then the order of the vocabulary: what the reference conversion does.
        merges.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
        Ok(merges.into_iter().map(|(_, _, (left, right))| (left.to_owned(), right.to_owned())).collect())
    }
    fn first_of(&self, kind: GgufTokenType) -> Option<TokenId> {
        (0..self.tokens.len() as TokenId).find(|id| self.token_type(*id) == Some(kind))
    }
    fn token_type(&self, token: TokenId) -> Option<GgufTokenType> {
        use GgufTokenType::*;
        let number = self.token_types.get(token as usize).copied().unwrap_or(Normal as i32);
        [Normal, Unknown, Control, UserDefined, Unused, Byte].into_iter().find(|kind| *kind as i32 == number)
    }
}

fn unsupported(what: String) -> LoadError {
    LoadError::Unsupported { file: FILE.to_owned(), what }
}

fn problem(problem: impl std::fmt::Display) -> LoadError {
    LoadError::File { file: FILE.to_owned(), problem: problem.to_string() }
}
