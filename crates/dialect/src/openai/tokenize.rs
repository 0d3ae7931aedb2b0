//! `POST /tokenize` and `POST /detokenize`, as vLLM has them.

use serde::Serialize;

use domain::{Input, ModelName, TokenId};

use crate::BadRequest;

/// What is to be tokenized.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Text(String),
    /// Always an `Input::Chat`, as in a chat request.
    Chat {
        chat: Input,
        add_generation_prompt: bool,
    },
}

/// `POST /tokenize`.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizeRequest {
    /// `None` means the only model there is.
    pub model: Option<ModelName>,
    pub source: Source,
    /// Add what the model expects around a text (the begin-of-text token). True for a text and false for a chat, whose
    /// template writes it, unless the client says otherwise.
    pub add_special_tokens: bool,
    pub return_token_strs: bool,
}

/// `POST /detokenize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetokenizeRequest {
    /// `None` means the only model there is.
    pub model: Option<ModelName>,
    pub tokens: Vec<TokenId>,
}

/// The answer to `POST /tokenize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenizeReply {
    pub count: usize,
    pub max_model_len: u64,
    pub tokens: Vec<TokenId>,
    /// Each token's text, if it was asked for.
    pub token_strs: Option<Vec<String>>,
}

impl TokenizeRequest {
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        let _ = body;
        unimplemented!()
    }
}

impl DetokenizeRequest {
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        let _ = body;
        unimplemented!()
    }
}

impl TokenizeReply {
    pub fn to_json(&self) -> Vec<u8> {
        super::stream::json(self)
    }
}

/// Returns the answer to `POST /detokenize`.
pub fn detokenized_to_json(prompt: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Detokenized<'a> {
        prompt: &'a str,
    }
    super::stream::json(&Detokenized { prompt })
}
