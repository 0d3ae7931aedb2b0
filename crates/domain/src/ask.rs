//! What a client asked for, in one neutral form that every dialect is read into and every upstream's is written from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{ModelName, SamplingWish, ServiceTier, TokenId};

#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub model: ModelName,
    pub input: Input,
    /// `None`: as many as the context still holds (chat) or the endpoint's own default (completions).
    pub max_output_tokens: Option<u32>,
    /// Only what the request says; a model's own defaults fill the rest.
    pub sampling: SamplingWish,
    /// The answer ends before the first of these strings.
    pub stop: Vec<String>,
    /// How many alternatives to report with each token; `None` reports no log-probabilities.
    pub logprobs: Option<u8>,
    /// How many answers to give to each prompt.
    pub choices: u32,
    pub stream: bool,
    /// Send the usage in a final chunk of its own, where the dialect leaves that to the client.
    pub stream_usage: bool,
    /// Give the prompt back before the answer (completions only).
    pub echo: bool,
    /// Keep generating past the model's own end token (for load tests).
    pub ignore_eos: bool,
    /// The client's own name for its end user, as it wrote it.
    pub user: Option<String>,
    /// How urgently to serve; `None` leaves it to the route.
    pub service_tier: Option<ServiceTier>,
    /// The client's own word for requests that begin alike.
    pub cache_key: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every ask is a chat, and there is one for each request"
)]
pub enum Input {
    Chat(Chat),
    Completion(Vec<Prompt>),
}

/// A conversation, and what may be done to continue it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chat {
    pub messages: Vec<ChatMessage>,
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    pub parallel_tool_calls: Option<bool>,
    pub format: AnswerFormat,
    pub reasoning: Option<ReasoningWish>,
    /// Extra variables for a chat template, such as `enable_thinking`.
    pub template_variables: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    Text(PromptText),
    Tokens(Vec<TokenId>),
}

pub type PromptText = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: Role,
    /// What it says, in the order it was said: where reasoning, text and calls alternate, the order means something.
    pub parts: Vec<Part>,
    pub name: Option<String>,
    /// The call that a tool's message answers.
    pub tool_call_id: Option<String>,
    /// The tool failed, and the message says how.
    pub is_error: bool,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Part {
    Text {
        text: String,
        cache: Option<CacheMark>,
    },
    /// What the model said instead of an answer.
    Refusal(String),
    Media(Media),
    Reasoning(Reasoning),
    /// Reasoning that only its maker can read.
    SealedReasoning(String),
    ToolCall(ToolCall),
}

/// A picture, a document or a sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Media {
    pub kind: MediaKind,
    pub source: MediaSource,
    /// How closely to look, in OpenAI's words: `low`, `high`, `auto`.
    pub detail: Option<String>,
    /// A document's file name or title.
    pub name: Option<String>,
    pub cache: Option<CacheMark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaKind {
    Image,
    Document,
    Audio,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MediaSource {
    Url(String),
    /// Base64, as it came: it is passed on, not looked at.
    Inline {
        media_type: String,
        data: String,
    },
    /// A file that the upstream keeps under this id.
    File(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reasoning {
    pub text: String,
    /// What proves to its maker that the text is untouched: passed back as it came, whatever it is.
    pub proof: Option<String>,
    /// The maker's own name for this block, where it has one.
    pub id: Option<String>,
}

/// The provider shall keep what was said up to here for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheMark {
    FiveMinutes,
    OneHour,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text, as the model or the client wrote it.
    pub arguments: String,
    /// What proves to its maker that the call is its own (Gemini's thought signature).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// Something that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    Function {
        name: String,
        description: Option<String>,
        /// A JSON Schema; `None` takes no arguments.
        parameters: Option<Value>,
        strict: Option<bool>,
        cache: Option<CacheMark>,
    },
    /// A tool that the provider runs itself, in the words of its own dialect: it reaches only upstreams that speak it.
    Native { dialect: &'static str, tool: Value },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    /// Some tool.
    Required,
    /// This one.
    Named(String),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum AnswerFormat {
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    JsonSchema {
        name: String,
        description: Option<String>,
        schema: Value,
        strict: Option<bool>,
    },
}

/// How much to think before answering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasoningWish {
    /// `none`, `minimal`, `low`, `medium`, `high`, … as the client wrote it; providers know different words.
    pub effort: Option<String>,
    /// At most so many tokens; 0 is not at all.
    pub budget_tokens: Option<u32>,
    /// What of it to show: `auto`, `concise`, `detailed`; `None` is the dialect's default.
    pub summary: Option<String>,
}

/// Texts to be placed in a space where near means alike.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedAsk {
    pub model: ModelName,
    pub inputs: Vec<Prompt>,
    pub dimensions: Option<u32>,
    pub user: Option<String>,
    /// Fields that only some upstreams know, such as `input_type`.
    pub extra: BTreeMap<String, Value>,
}

impl ChatMessage {
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, name: None, tool_call_id: None, is_error: false }
    }

    pub fn of_text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, vec![Part::text(text)])
    }

    /// Returns all that it says in plain words; a refusal is words, too.
    pub fn text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text { text, .. } | Part::Refusal(text) => Some(text.clone()),
            _ => None,
        };
        self.parts.iter().filter_map(text).collect()
    }

    /// Returns the reasoning that can be read, if there is any.
    pub fn reasoning(&self) -> Option<String> {
        let text = |part: &Part| match part {
            Part::Reasoning(reasoning) => Some(reasoning.text.clone()),
            _ => None,
        };
        self.parts.iter().filter_map(text).reduce(|all, more| all + &more)
    }

    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    pub fn media(&self) -> impl Iterator<Item = &Media> {
        self.parts.iter().filter_map(|part| match part {
            Part::Media(media) => Some(media),
            _ => None,
        })
    }
}

impl Chat {
    /// Returns the definitions that a chat template shall print: none where no tool may be called, for a model that sees no
    /// tools calls none.
    pub fn shown_tools(&self) -> Vec<Value> {
        match self.tool_choice {
            ToolChoice::None => Vec::new(),
            _ => self.tools.iter().map(Tool::to_openai).collect(),
        }
    }
}

impl Part {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), cache: None }
    }
}

impl Tool {
    /// Returns the definition in OpenAI's shape, which is also what chat templates print.
    pub fn to_openai(&self) -> Value {
        match self {
            Self::Native { tool, .. } => tool.clone(),
            Self::Function { name, description, parameters, strict, .. } => {
                let mut function = Map::from_iter([("name".to_owned(), json!(name))]);
                let said = [
                    ("description", description.as_ref().map(|text| json!(text))),
                    ("parameters", parameters.clone()),
                    ("strict", strict.map(|strict| json!(strict))),
                ];
                function.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
                json!({"type": "function", "function": function})
            }
        }
    }

    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Function { name, .. } => Some(name),
            Self::Native { tool, .. } => tool["name"].as_str(),
        }
    }
}
