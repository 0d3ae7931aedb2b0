//! How is a conversation written as input items for an upstream?

use serde_json::{Value, json};

use domain::{ChatMessage, Media, MediaKind, MediaSource, Part, Reasoning, Role, ToolCall};

use super::output::{CUSTOM, is_custom};
use crate::Untellable;

/// Returns `input`.
pub(super) fn to_input(messages: &[ChatMessage]) -> Result<Value, Untellable> {
    let mut items = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        add(place, message, messages, &mut items)?;
    }
    Ok(Value::Array(items))
}

fn add(
    place: usize,
    message: &ChatMessage,
    messages: &[ChatMessage],
    items: &mut Vec<Value>,
) -> Result<(), Untellable> {
    let mut content: Vec<Value> = Vec::new();
    let flush = |content: &mut Vec<Value>, items: &mut Vec<Value>| {
        if !content.is_empty() {
            let content = std::mem::take(content);
            items.push(json!({"type": "message", "role": message.role.as_str(), "content": content}));
        }
    };
    for (index, part) in message.parts.iter().enumerate() {
        let item = match part {
            Part::Text { text, .. } if message.role == Role::Assistant => {
                content.push(json!({"type": "output_text", "text": text, "annotations": []}));
                continue;
            }
            Part::Text { text, .. } => {
                content.push(json!({"type": "input_text", "text": text}));
                continue;
            }
            Part::Refusal(text) => {
                content.push(json!({"type": "refusal", "refusal": text}));
                continue;
            }
            Part::Media(media) => {
                content.push(media_to_wire(&format!("messages[{place}].content[{index}]"), media)?);
                continue;
            }
            Part::Reasoning(reasoning) => reasoning_to_wire(reasoning),
            // Another maker sealed it.
            Part::SealedReasoning(_) => None,
            Part::ToolCall(call) => Some(call_to_wire(call)),
        };
        flush(&mut content, items);
        items.extend(item);
    }
    match (message.role, &message.tool_call_id) {
        (Role::Tool, Some(id)) => {
            let is_it = |call: &ToolCall| call.id == *id && is_custom(call);
            let answers_custom = messages[..place].iter().any(|message| message.tool_calls().any(is_it));
            let kind = if answers_custom { "custom_tool_call_output" } else { "function_call_output" };
            items.push(json!({"type": kind, "call_id": id, "output": output(content)}));
        }
        _ => flush(&mut content, items),
    }
    Ok(())
}

/// A single text is written as itself.
fn output(content: Vec<Value>) -> Value {
    match &content[..] {
        [] => json!(""),
        [only] if only["type"] == "input_text" => only["text"].clone(),
        _ => Value::Array(content),
    }
}

/// Only what OpenAI itself has encrypted and named can be given back to it.
fn reasoning_to_wire(reasoning: &Reasoning) -> Option<Value> {
    let (id, proof) = (reasoning.id.as_ref()?, reasoning.proof.as_ref()?);
    let summary: Vec<Value> = match reasoning.text.as_str() {
        "" => Vec::new(),
        text => vec![json!({"type": "summary_text", "text": text})],
    };
    Some(json!({"type": "reasoning", "id": id, "summary": summary, "encrypted_content": proof}))
}

fn call_to_wire(call: &ToolCall) -> Value {
    let ToolCall { id, name, arguments, .. } = call;
    if is_custom(call) {
        return json!({"type": CUSTOM, "call_id": id, "name": name, "input": arguments});
    }
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
}

fn media_to_wire(place: &str, media: &Media) -> Result<Value, Untellable> {
    let url = match &media.source {
        MediaSource::Url(url) => url.clone(),
        MediaSource::Inline { media_type, data } => format!("data:{media_type};base64,{data}"),
        MediaSource::File(id) => id.clone(),
    };
    let is_file = matches!(media.source, MediaSource::File(_));
    match media.kind {
        MediaKind::Image => {
            let mut wire =
                json!({"type": "input_image", "detail": media.detail.as_deref().unwrap_or("auto")});
            wire[if is_file { "file_id" } else { "image_url" }] = json!(url);
            Ok(wire)
        }
        MediaKind::Document => {
            let field = match media.source {
                MediaSource::File(_) => "file_id",
                MediaSource::Url(_) => "file_url",
                MediaSource::Inline { .. } => "file_data",
            };
            let mut wire = json!({"type": "input_file"});
            wire[field] = json!(url);
            // With an id, the file's name is known there.
            if let (Some(name), false) = (&media.name, is_file) {
                wire["filename"] = json!(name);
            }
            Ok(wire)
        }
        MediaKind::Audio => {
            let why = "the Responses API hears no sounds".to_owned();
            Err(Untellable { what: place.to_owned(), why })
        }
    }
}
