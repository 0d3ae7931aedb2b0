//! What was said so far, item by item?
//!
//! Items are flat: what the model said in one turn is several of them, and becomes one message again.

use serde_json::Value;

use domain::{ChatMessage, Media, MediaKind, Part, Reasoning, Role, ToolCall};

use super::output::{CUSTOM, SEALED};
use crate::BadRequest;
use crate::openai::messages::parts::{kind_of, read_file_data, read_url};
use crate::read::{Fields, wrong_type, wrong_value};

/// Calls that a provider ran by itself, and notes about it: what they found is in the text that follows.
const OF_PROVIDERS: [&str; 12] = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "computer_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "tool_search_call",
    "tool_search_output",
    "compaction",
];

/// Returns the messages that these items are; `place` is where they stand in the request.
pub fn to_messages(place: &str, items: &[Value]) -> Result<Vec<ChatMessage>, BadRequest> {
    let mut messages = Vec::new();
    for (index, item) in items.iter().enumerate() {
        add(&format!("{place}[{index}]"), item.clone(), &mut messages)?;
    }
    Ok(messages)
}

fn add(place: &str, item: Value, messages: &mut Vec<ChatMessage>) -> Result<(), BadRequest> {
    let mut fields = Fields::of(place, item)?;
    let kind = match fields.text("type")? {
        Some(kind) => kind,
        // The easy form of a message has no type.
        None if fields.has("role") => "message".to_owned(),
        None => return Err(fields.missing("type")),
    };
    match kind.as_str() {
        "message" => add_message(&mut fields, messages)?,
        "reasoning" => {
            let part = take_reasoning(&mut fields)?;
            assistant(messages, |_| true).parts.push(part);
        }
        "function_call" | CUSTOM => {
            let call = take_call(&mut fields, &kind)?;
            assistant(messages, |_| true).parts.push(Part::ToolCall(call));
        }
        "function_call_output" | "custom_tool_call_output" => messages.push(take_output(&mut fields)?),
        "item_reference" => {
            return Err(BadRequest::new(format!(
                "Unsupported item '{place}': items are not kept by their ids here; send the item itself, or 'previous_response_id'."
            ))
            .at(place)
            .code("unsupported_item"));
        }
        kind if OF_PROVIDERS.contains(&kind) => {}
        kind => {
            let kinds = "'message', 'reasoning', 'function_call', and 'function_call_output'";
            return Err(wrong_value(&fields.place("type"), kind, kinds));
        }
    }
    Ok(())
}

/// Returns the message that the model is saying, or begins one where `may_go_on` does not hold of the last.
fn assistant(messages: &mut Vec<ChatMessage>, may_go_on: impl Fn(&ChatMessage) -> bool) -> &mut ChatMessage {
    let goes_on = messages.last().is_some_and(|last| last.role == Role::Assistant && may_go_on(last));
    if !goes_on {
        messages.push(ChatMessage::new(Role::Assistant, Vec::new()));
    }
    messages.last_mut().expect("one was pushed")
}

fn add_message(fields: &mut Fields, messages: &mut Vec<ChatMessage>) -> Result<(), BadRequest> {
    const ROLES: [Role; 4] = [Role::System, Role::Developer, Role::User, Role::Assistant];
    let name = fields.required_text("role")?;
    let Some(role) = ROLES.into_iter().find(|role| role.as_str() == name) else {
        let roles = "'system', 'developer', 'user', and 'assistant'";
        return Err(wrong_value(&fields.place("role"), &name, roles));
    };
    let content = fields.take("content").ok_or_else(|| fields.missing("content"))?;
    let parts = read_content(&fields.place("content"), content)?;
    match role {
        Role::Assistant => {
            // What it thought belongs to what it then said.
            let has_only_thought = |last: &ChatMessage| {
                last.parts.iter().all(|part| matches!(part, Part::Reasoning(_) | Part::SealedReasoning(_)))
            };
            assistant(messages, has_only_thought).parts.extend(parts);
        }
        role => messages.push(ChatMessage::new(role, parts)),
    }
    Ok(())
}

fn read_content(place: &str, content: Value) -> Result<Vec<Part>, BadRequest> {
    match content {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(parts) => {
            let read = |(index, part)| read_part(&format!("{place}[{index}]"), part);
            parts.into_iter().enumerate().map(read).collect()
        }
        other => Err(wrong_type(place, "a string or an array of content parts", &other)),
    }
}

fn read_part(place: &str, part: Value) -> Result<Part, BadRequest> {
    let mut fields = Fields::of(place, part)?;
    let media = |kind, source, detail, name| Part::Media(Media { kind, source, detail, name, cache: None });
    match fields.required_text("type")?.as_str() {
        "input_text" | "output_text" | "text" => fields.required_text("text").map(Part::text),
        "refusal" => fields.required_text("refusal").map(Part::Refusal),
        "input_image" => {
            let detail = fields.text("detail")?;
            let source = match (fields.text("file_id")?, fields.text("image_url")?) {
                (Some(id), _) => domain::MediaSource::File(id),
                (None, Some(url)) => read_url(&fields.place("image_url"), url)?,
                (None, None) => return Err(fields.missing("image_url")),
            };
            Ok(media(kind_of(&source, MediaKind::Image), source, detail, None))
        }
        "input_file" => {
            let name = fields.text("filename")?;
            let sources = (fields.text("file_id")?, fields.text("file_data")?, fields.text("file_url")?);
            let source = match sources {
                (Some(id), ..) => domain::MediaSource::File(id),
                (None, Some(data), _) => read_file_data(&fields.place("file_data"), data)?,
                (None, None, Some(url)) => domain::MediaSource::Url(url),
                (None, None, None) => return Err(fields.missing("file_data")),
            };
            Ok(media(kind_of(&source, MediaKind::Document), source, None, name))
        }
        "input_audio" => {
            let mut audio = fields.object("input_audio")?.ok_or_else(|| fields.missing("input_audio"))?;
            let data = audio.required_text("data")?;
            let media_type = match audio.required_text("format")?.as_str() {
                "mp3" => "audio/mpeg".to_owned(),
                format => format!("audio/{format}"),
            };
            Ok(media(MediaKind::Audio, domain::MediaSource::Inline { media_type, data }, None, None))
        }
        kind => {
            let kinds = "'input_text', 'input_image', 'input_file', 'output_text', and 'refusal'";
            Err(wrong_value(&fields.place("type"), kind, kinds))
        }
    }
}

fn take_reasoning(fields: &mut Fields) -> Result<Part, BadRequest> {
    let texts = |list: Vec<Value>| -> Vec<String> {
        list.iter().filter_map(|part| part["text"].as_str().map(str::to_owned)).collect()
    };
    let content = texts(fields.list("content")?.unwrap_or_default());
    let summary = texts(fields.list("summary")?.unwrap_or_default());
    let proof = fields.text("encrypted_content")?;
    if let Some(sealed) = proof.as_deref().and_then(|proof| proof.strip_prefix(SEALED)) {
        return Ok(Part::SealedReasoning(sealed.to_owned()));
    }
    // Ids that OpenAI gave out mean something to it; ours name nothing that is kept.
    let id = fields.text("id")?.filter(|id| id.starts_with("rs_"));
    let text = if content.is_empty() { summary.join("\n\n") } else { content.concat() };
    Ok(Part::Reasoning(Reasoning { text, proof, id }))
}

fn take_call(fields: &mut Fields, kind: &str) -> Result<ToolCall, BadRequest> {
    let is_custom = kind == CUSTOM;
    let arguments = fields.text(if is_custom { "input" } else { "arguments" })?.unwrap_or_default();
    Ok(ToolCall {
        id: fields.required_text("call_id")?,
        name: fields.required_text("name")?,
        arguments,
        proof: is_custom.then(|| CUSTOM.to_owned()),
    })
}

fn take_output(fields: &mut Fields) -> Result<ChatMessage, BadRequest> {
    let id = fields.required_text("call_id")?;
    let output = fields.take("output").ok_or_else(|| fields.missing("output"))?;
    let parts = read_content(&fields.place("output"), output)?;
    Ok(ChatMessage { tool_call_id: Some(id), ..ChatMessage::new(Role::Tool, parts) })
}
