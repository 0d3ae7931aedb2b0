//! What does one model need to speak: tokenizer, template, and how its answers are read?

use std::path::Path;
use std::sync::Arc;

use domain::{Input, Prompt, TokenId};

use crate::chat_template::{ChatTemplate, RenderInput, TemplateError};
use crate::tokenizer::EncodeError;
use crate::{AnswerReader, Detokenizer, GgufVocabulary, LoadError, Tokenizer};

/// Everything between one model's tokens and its clients' text. Cheap to clone and free to share between threads.
#[derive(Clone)]
pub struct TextModel {}

/// A conversation, ready for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatPrompt {
    pub text: String,
    pub tokens: Vec<TokenId>,
}

#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(
        "this model has no chat template, and no ChatML tokens to fall back on; use /v1/completions, or a model tuned for chat"
    )]
    NoTemplate,
    #[error("token {token} is outside the vocabulary of {vocabulary_size} tokens")]
    UnknownToken { token: TokenId, vocabulary_size: usize },
}

impl TextModel {
    /// Reads the tokenizer and the chat template of a Hugging Face folder.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        let _ = folder;
        unimplemented!()
    }
    /// Builds tokenizer and template from a GGUF file's metadata.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, LoadError> {
        let _ = vocabulary;
        unimplemented!()
    }
    pub fn new(tokenizer: Tokenizer, template: Option<ChatTemplate>) -> Self {
        let _ = (tokenizer, template);
        unimplemented!()
    }
    pub fn tokenizer(&self) -> &Tokenizer {
        unimplemented!()
    }
    pub fn template(&self) -> Option<&ChatTemplate> {
        unimplemented!()
    }
    /// Returns the tokens of a conversation: what the template printed, with special tokens parsed and none added.
    pub fn chat_prompt(&self, input: &RenderInput<'_>) -> Result<ChatPrompt, PromptError> {
        let _ = input;
        unimplemented!()
    }
    /// Returns the tokens of a completion's prompt: a text with special tokens parsed and the begin-of-text token added
    /// where the model expects one; tokens as they are, if they all exist.
    pub fn completion_prompt(&self, prompt: &Prompt) -> Result<Vec<TokenId>, PromptError> {
        let _ = prompt;
        unimplemented!()
    }
    /// Returns the tokens of each prompt in `input` (a chat is one), asking for an answer.
    pub fn prompts(&self, input: &Input, now_seconds: i64) -> Result<Vec<ChatPrompt>, PromptError> {
        let _ = (input, now_seconds);
        unimplemented!()
    }
    /// Returns every token that ends an answer.
    pub fn stop_tokens(&self) -> Arc<[TokenId]> {
        unimplemented!()
    }
    /// Returns a detokenizer for one answer.
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self.tokenizer())
    }
    /// Returns a reader for one chat answer to `prompt_text`: it tells reasoning, text and tool calls apart, as far as this
    /// model's template knows them. Tool calls are only looked for if the request had tools.
    pub fn answer_reader(&self, prompt_text: &str, has_tools: bool) -> AnswerReader {
        let _ = (prompt_text, has_tools);
        unimplemented!()
    }
}
