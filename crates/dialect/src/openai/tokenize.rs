//! `POST /tokenize` and `POST /detokenize`, as vLLM has them.

use serde::Serialize;

use domain::{Chat, ModelName, TokenId};

use super::chat::take_chat;
use super::completion::read_tokens;
use super::generation::take_model;
use crate::BadRequest;
use crate::read::Fields;

/// What is to be tokenized.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Text(String),
    Chat { chat: Box<Chat>, add_generation_prompt: bool },
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
        let mut fields = Fields::parse(body)?;
        let model = take_model(&mut fields)?;
        let add_special_tokens = fields.optional_flag("add_special_tokens")?;
        let return_token_strs = fields.flag("return_token_strs")?;
        let source = match fields.text("prompt")? {
            Some(prompt) => Source::Text(prompt),
            None => take_chat_source(&mut fields)?,
        };
        let add_special_tokens = add_special_tokens.unwrap_or(matches!(source, Source::Text(_)));
        Ok(Self { model, source, add_special_tokens, return_token_strs })
    }
}

impl DetokenizeRequest {
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        let mut fields = Fields::parse(body)?;
        let model = take_model(&mut fields)?;
        let tokens = fields.list("tokens")?.ok_or_else(|| fields.missing("tokens"))?;
        Ok(Self { model, tokens: read_tokens("tokens", &tokens)? })
    }
}

fn take_chat_source(fields: &mut Fields) -> Result<Source, BadRequest> {
    if !fields.has("messages") {
        return Err(BadRequest::new("Missing required parameter: one of 'prompt' and 'messages'.")
            .at("prompt")
            .code("missing_required_parameter"));
    }
    let add_generation_prompt = fields.optional_flag("add_generation_prompt")?.unwrap_or(true);
    Ok(Source::Chat { chat: Box::new(take_chat(fields)?), add_generation_prompt })
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

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Role;

    #[test]
    fn a_text_or_a_chat_is_tokenized() {
        let request =
            TokenizeRequest::read(br#"{"model":"m","prompt":"hello","return_token_strs":true}"#).unwrap();
        assert_eq!(request.source, Source::Text("hello".to_owned()));
        assert!(request.add_special_tokens && request.return_token_strs);

        let chat = br#"{"messages":[{"role":"user","content":"hi"}],"add_generation_prompt":false}"#;
        let request = TokenizeRequest::read(chat).unwrap();
        assert!(!request.add_special_tokens, "the template writes special tokens itself");
        let Source::Chat { chat, add_generation_prompt: false } = request.source else {
            panic!("{:?}", request.source);
        };
        assert_eq!(chat.messages[0].role, Role::User);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let param = |body: &str| TokenizeRequest::read(body.as_bytes()).unwrap_err().param;
        assert_eq!(param(r#"{"model":"m"}"#).as_deref(), Some("prompt"));
        assert_eq!(param(r#"{"messages":[{"role":"user"}]}"#).as_deref(), Some("messages[0].content"));
        let param = |body: &str| DetokenizeRequest::read(body.as_bytes()).unwrap_err().param;
        assert_eq!(param(r#"{}"#).as_deref(), Some("tokens"));
        assert_eq!(param(r#"{"tokens":[1,-1]}"#).as_deref(), Some("tokens[1]"));
        assert_eq!(param(r#"{"tokens":[4294967296]}"#).as_deref(), Some("tokens[0]"));
    }

    #[test]
    fn replies_have_the_fields_that_clients_read() {
        let reply = TokenizeReply { count: 2, max_model_len: 64, tokens: vec![5, 6], token_strs: None };
        assert_eq!(
            String::from_utf8(reply.to_json()).unwrap(),
            r#"{"count":2,"max_model_len":64,"tokens":[5,6],"token_strs":null}"#
        );
        assert_eq!(detokenized_to_json("a\"b"), br#"{"prompt":"a\"b"}"#);
    }
}
