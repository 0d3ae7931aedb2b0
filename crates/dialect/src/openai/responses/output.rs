//! Which items does an answer consist of?

use serde_json::{Value, json};

use domain::{AnsweredChoice, FinishReason, Part, Reasoning, TokenScore, ToolCall};

use crate::openai::logprobs::ChatLogprobs;

/// The item that calls a tool which takes free text. Such a call's proof is this word: only this dialect has them.
pub(super) const CUSTOM: &str = "custom_tool_call";
/// What begins the encrypted content of reasoning that has no text and no id: it came from another maker.
pub(super) const SEALED: &str = "sealed:";

/// Returns the output items of an answer whose id is `answer_id`. Texts that stand together are one message.
pub fn to_items(answer_id: &str, choice: &AnsweredChoice, finish: Option<FinishReason>) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    let mut scores = choice.scores.as_deref();
    for part in &choice.parts {
        let place = items.len();
        let content = match part {
            Part::Text { text, .. } => text_part(text, scores.take()),
            Part::Refusal(text) => json!({"type": "refusal", "refusal": text}),
            Part::Media(_) => continue,
            Part::Reasoning(reasoning) => {
                items.push(reasoning_item(&reasoning_id(answer_id, place, reasoning), reasoning));
                continue;
            }
            Part::SealedReasoning(data) => {
                let proof = Some(format!("{SEALED}{data}"));
                let reasoning = Reasoning { proof, ..Reasoning::default() };
                items.push(reasoning_item(&reasoning_id(answer_id, place, &reasoning), &reasoning));
                continue;
            }
            Part::ToolCall(call) => {
                items.push(call_item(&item_id(call_prefix(call), answer_id, place), call, "completed"));
                continue;
            }
        };
        match items.last_mut() {
            Some(last) if last["type"] == "message" => {
                last["content"].as_array_mut().expect("a message has a list of contents").push(content);
            }
            _ => {
                let id = item_id("msg", answer_id, place);
                items.push(message_item(&id, vec![content], "completed"));
            }
        }
    }
    if let (Some(last), true) = (items.last_mut(), finish.is_none_or(is_cut))
        && last.get("status").is_some()
    {
        last["status"] = json!("incomplete");
    }
    items
}

/// Whether an answer that ended so lacks its end.
pub(super) fn is_cut(finish: FinishReason) -> bool {
    !matches!(finish, FinishReason::Stop | FinishReason::ToolCalls)
}

/// Returns an item's id: the answer's number, and the item's place in it.
pub(super) fn item_id(prefix: &str, answer_id: &str, place: usize) -> String {
    format!("{prefix}_{}_{place}", answer_id.trim_start_matches("resp_"))
}

/// Its maker's own id, if it has one. Ours begin otherwise than OpenAI's, because nobody keeps what they name.
pub(super) fn reasoning_id(answer_id: &str, place: usize, reasoning: &Reasoning) -> String {
    reasoning.id.clone().unwrap_or_else(|| item_id("rsn", answer_id, place))
}

pub(super) fn call_prefix(call: &ToolCall) -> &'static str {
    if is_custom(call) { "ctc" } else { "fc" }
}

pub(super) fn is_custom(call: &ToolCall) -> bool {
    call.proof.as_deref() == Some(CUSTOM)
}

pub(super) fn text_part(text: &str, scores: Option<&[TokenScore]>) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": logprobs(scores.unwrap_or_default()), "text": text})
}

pub(super) fn logprobs(scores: &[TokenScore]) -> Value {
    serde_json::to_value(ChatLogprobs::new(scores).content).expect("plain data with text keys")
}

pub(super) fn message_item(id: &str, content: Vec<Value>, status: &str) -> Value {
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

pub(super) fn reasoning_item(id: &str, reasoning: &Reasoning) -> Value {
    let summary: Vec<Value> = match reasoning.text.as_str() {
        "" => Vec::new(),
        text => vec![json!({"type": "summary_text", "text": text})],
    };
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
    if let Some(proof) = &reasoning.proof {
        item["encrypted_content"] = json!(proof);
    }
    item
}

pub(super) fn call_item(id: &str, call: &ToolCall, status: &str) -> Value {
    let ToolCall { id: call_id, name, arguments, .. } = call;
    match is_custom(call) {
        true => {
            json!({"id": id, "type": CUSTOM, "status": status, "call_id": call_id, "name": name, "input": arguments})
        }
        false => json!({
            "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name,
            "arguments": arguments,
        }),
    }
}
