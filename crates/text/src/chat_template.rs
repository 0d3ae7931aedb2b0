//! What does a conversation look like as one text?

use domain::ChatMessage;
use serde_json::{Map, Value};

/// The template failed or refused: the request, not the server, is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chat template says, in line {line}: {message}")]
pub struct TemplateError {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

/// What a template sees.
#[derive(Clone, Copy, Debug)]
pub struct RenderInput<'a> {
    pub messages: &'a [ChatMessage],
    pub tools: &'a [Value],
    /// Further variables, such as `enable_thinking`.
    pub variables: &'a Map<String, Value>,
    /// Ask for an answer after the last message.
    pub add_generation_prompt: bool,
    /// Seconds since 1970; `strftime_now` prints it in UTC.
    pub now_seconds: i64,
}

#[derive(Clone)]
pub struct ChatTemplate {}

impl ChatTemplate {
    /// Reads a Jinja template. `special_tokens` are the variables such as `bos_token` and `eos_token`.
    pub fn new(source: &str, special_tokens: Map<String, Value>) -> Result<Self, TemplateError> {
        let _ = (source, special_tokens);
        unimplemented!()
    }
    pub fn source(&self) -> &str {
        unimplemented!()
    }
    pub fn render(&self, input: &RenderInput<'_>) -> Result<String, TemplateError> {
        let _ = input;
        unimplemented!()
    }
}
