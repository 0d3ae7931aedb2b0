//! How is a whole answer written?

use std::borrow::Cow;

use serde::Serialize;

use domain::{AnsweredChoice, Finish, FinishReason, Part, UsageReport};

use super::usage::UsageOut;
use super::wire::{Block, json, object};
use crate::Head;

/// A message, as `message_start` begins it and as it is when it is whole.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: UsageOut,
}

impl<'a> Message<'a> {
    pub fn empty(head: &'a Head, report: &UsageReport) -> Self {
        Self {
            id: &head.id,
            kind: "message",
            role: "assistant",
            model: head.model.as_str(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: report.into(),
        }
    }
}

/// Returns the body of an answer; one without any choice is empty.
pub(super) fn whole(head: &Head, choice: Option<&AnsweredChoice>, report: &UsageReport) -> Vec<u8> {
    let mut message = Message::empty(head, report);
    if let Some(choice) = choice {
        message.content = choice.parts.iter().filter_map(block).collect();
        let finish = choice.finish.as_ref();
        message.stop_reason = finish.map(|finish| stop_reason(finish, choice.tool_calls().next().is_some()));
        message.stop_sequence = finish.and_then(|finish| finish.stop.as_deref());
    }
    json(&message)
}

/// Returns the word for why an answer ended.
///
/// One that asks for tools and stopped by itself ended for their sake: some providers say only that it stopped. A cut by
/// a budget has no word in this dialect; ours is not one that a client could take for a good end.
pub(super) fn stop_reason(finish: &Finish, has_calls: bool) -> &'static str {
    match finish.reason {
        FinishReason::Stop if finish.stop.is_some() => "stop_sequence",
        FinishReason::Stop if has_calls => "tool_use",
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
        FinishReason::BudgetExhausted => "budget_exhausted",
    }
}

/// A refusal is text here; pictures are in no answer.
fn block(part: &Part) -> Option<Block<'_>> {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => None,
        Part::Text { text, .. } | Part::Refusal(text) => {
            Some(Block::Text { text: Cow::Borrowed(text), cache_control: None })
        }
        Part::Media(_) => None,
        Part::Reasoning(reasoning) => {
            let signature = reasoning.proof.as_deref().unwrap_or_default();
            Some(Block::Thinking { thinking: &reasoning.text, signature })
        }
        Part::SealedReasoning(data) => Some(Block::RedactedThinking { data }),
        Part::ToolCall(call) => {
            // A model may write what is no JSON; a client that looks shall see it.
            let input = object(&call.arguments).unwrap_or_else(|| {
                let wrapped = serde_json::json!({"INVALID_JSON": call.arguments}).to_string();
                object(&wrapped).expect("an object was just written")
            });
            Some(Block::ToolUse { id: Cow::Borrowed(&call.id), name: &call.name, input })
        }
    }
}
