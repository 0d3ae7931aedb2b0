//! How is a whole chat answer written?

use serde::Serialize;
use serde_json::Value;

use domain::{AnsweredChoice, FinishReason, Part, TokenScore, ToolCall, UsageReport};

use crate::Head;
use crate::openai::logprobs::ChatLogprobs;
use crate::openai::stream::json;
use crate::openai::thoughts::to_details;
use crate::openai::tier;
use crate::openai::usage::UsageWire;

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub head: Head,
    /// In order of their index.
    pub choices: Vec<Choice>,
    pub report: UsageReport,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Empty beside tool calls is written as `null`.
    pub content: String,
    /// What the model said while thinking; written as `reasoning_content`, and left out when empty.
    pub reasoning: String,
    /// The blocks that their maker wants back as they are, in `reasoning_details`.
    pub blocks: Vec<Part>,
    pub tool_calls: Vec<ToolCall>,
    /// What the model said instead of an answer.
    pub refusal: Option<String>,
    /// One score for each token of the answer, if they were asked for.
    pub logprobs: Option<Vec<TokenScore>>,
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
    service_tier: Option<&'static str>,
    usage: UsageWire,
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
    reasoning_details: Vec<Value>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent>,
}

/// Where Google's servers put, and want back, the proof that a call is their own.
#[derive(Debug, Serialize)]
pub(super) struct ExtraContent {
    google: Google,
}

#[derive(Debug, Serialize)]
struct Google {
    thought_signature: String,
}

pub(super) fn extra_content(proof: Option<&str>) -> Option<ExtraContent> {
    Some(ExtraContent { google: Google { thought_signature: proof?.to_owned() } })
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
            service_tier: self.report.service_tier.map(tier::word),
            usage: (&self.report.usage).into(),
        })
    }
}

impl Choice {
    pub(super) fn of(choice: &AnsweredChoice) -> Self {
        Self {
            content: choice.text(),
            reasoning: choice.reasoning().unwrap_or_default(),
            blocks: choice.parts.clone(),
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
            reasoning_details: to_details(&self.blocks),
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
        extra_content: extra_content(call.proof.as_deref()),
    }
}
