//! How is a whole chat answer written?

use serde::Serialize;

use domain::{AnsweredChoice, FinishReason, TokenScore, ToolCall, Usage};

use crate::Head;
use crate::openai::logprobs::ChatLogprobs;
use crate::openai::stream::json;
use crate::openai::usage::UsageWire;

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub head: Head,
    /// In order of their index.
    pub choices: Vec<Choice>,
    /// Always there in a whole reply of this server; a folded stream has it when the client asked for it.
    pub usage: Option<Usage>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Empty beside tool calls is written as `null`.
    pub content: String,
    /// What the model said while thinking; written as `reasoning_content`, and left out when empty.
    pub reasoning: String,
    pub tool_calls: Vec<ToolCall>,
    /// What the model said instead of an answer.
    pub refusal: Option<String>,
    /// One score for each token of the answer, if they were asked for.
    pub logprobs: Option<Vec<TokenScore>>,
    /// `None` only while a stream is being folded.
    pub finish: Option<FinishReason>,
}

#[derive(Serialize)]
struct ReplyWire<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'a str>,
    choices: Vec<ChoiceWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageWire>,
}

#[derive(Serialize)]
struct ChoiceWire<'a> {
    index: usize,
    message: MessageWire<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishReason>,
}

#[derive(Serialize)]
struct MessageWire<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallWire<'a>>,
    refusal: Option<&'a str>,
}

#[derive(Serialize)]
struct ToolCallWire<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionWire<'a>,
}

#[derive(Serialize)]
struct FunctionWire<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl Reply {
    pub fn to_json(&self) -> Vec<u8> {
        json(&ReplyWire {
            id: &self.head.id,
            object: "chat.completion",
            created: self.head.created,
            model: self.head.model.as_str(),
            system_fingerprint: self.head.system_fingerprint.as_deref(),
            choices: self.choices.iter().enumerate().map(|(index, choice)| choice.wire(index)).collect(),
            usage: self.usage.as_ref().map(UsageWire::from),
        })
    }
}

impl Choice {
    pub(super) fn of(choice: &AnsweredChoice) -> Self {
        Self {
            content: choice.text(),
            reasoning: choice.reasoning().unwrap_or_default(),
            tool_calls: choice.tool_calls().cloned().collect(),
            refusal: choice.refusal(),
            logprobs: choice.scores.clone(),
            finish: choice.finish.as_ref().map(|finish| finish.reason),
        }
    }

    fn wire(&self, index: usize) -> ChoiceWire<'_> {
        let message = MessageWire {
            role: "assistant",
            content: (!self.content.is_empty() || (self.tool_calls.is_empty() && self.refusal.is_none()))
                .then_some(&self.content),
            reasoning_content: &self.reasoning,
            tool_calls: self.tool_calls.iter().map(tool_call).collect(),
            refusal: self.refusal.as_deref(),
        };
        let logprobs = self.logprobs.as_deref().map(ChatLogprobs::new);
        ChoiceWire { index, message, logprobs, finish_reason: self.finish }
    }
}

fn tool_call(call: &ToolCall) -> ToolCallWire<'_> {
    ToolCallWire {
        id: &call.id,
        kind: "function",
        function: FunctionWire { name: &call.name, arguments: &call.arguments },
    }
}
