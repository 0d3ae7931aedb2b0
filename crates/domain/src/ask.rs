//! What a client asked for, in one neutral form that every dialect is read into.

use serde_json::Value;

use crate::{ModelName, Sampling, TokenId};

#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub model: ModelName,
    pub input: Input,
    /// `None`: as many as the context still holds (chat) or the endpoint's own default (completions).
    pub max_output_tokens: Option<u32>,
    /// `None` in a field of the wire format became this model's default before the ask was made.
    pub sampling: Sampling,
    /// The answer ends before the first of these strings.
    pub stop: Vec<String>,
    /// How many alternatives to report with each token; `None` reports no log-probabilities.
    pub logprobs: Option<u8>,
    /// How many answers to give to each prompt.
    pub choices: u32,
    pub stream: bool,
    /// Send the usage in a final chunk of its own.
    pub stream_usage: bool,
    /// Give the prompt back before the answer (completions only).
    pub echo: bool,
    /// Keep generating past the model's own end token (for load tests).
    pub ignore_eos: bool,
    /// The client's own name for its end user, as it wrote it.
    pub user: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Chat {
        messages: Vec<ChatMessage>,
        /// Tool definitions, as the template shall print them.
        tools: Vec<Value>,
        /// Extra variables for the template, such as `enable_thinking`.
        template_variables: serde_json::Map<String, Value>,
    },
    Completion(Vec<Prompt>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    Text(PromptText),
    Tokens(Vec<TokenId>),
}

pub type PromptText = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
    pub name: Option<String>,
    pub reasoning: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    pub tool_call_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text, as the model or the client wrote it.
    pub arguments: String,
}
