//! What was said so far in a conversation?

pub(super) mod written;

use serde_json::Value;

use domain::{ChatMessage, Part, Reasoning, Role, ToolCall};

use super::generation::{empty, too_long};
use crate::BadRequest;
use crate::read::{Fields, wrong_type, wrong_value};

/// A conversation of an agent's whole day has hundreds of messages; a template looks at each several times.
const MESSAGES_MAX: usize = 16_384;

/// Takes `messages`, at least one.
pub(super) fn take_messages(fields: &mut Fields) -> Result<Vec<ChatMessage>, BadRequest> {
    let messages = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    match messages.len() {
        0 => return Err(empty("messages")),
        count if count > MESSAGES_MAX => return Err(too_long("messages", MESSAGES_MAX, count)),
        _ => {}
    }
    let read = |(index, message)| read_message(&format!("messages[{index}]"), message);
    messages.into_iter().enumerate().map(read).collect()
}

fn read_message(place: &str, message: Value) -> Result<ChatMessage, BadRequest> {
    let mut fields = Fields::of(place, message)?;
    let role = take_role(&mut fields)?;
    fields.refuse(&[
        ("function_call", "Use 'tool_calls' in its place."),
        ("audio", "Only text is supported."),
    ])?;
    let tool_calls = match role {
        Role::Assistant => take_tool_calls(&mut fields)?,
        _ => Vec::new(),
    };
    let content = match fields.take("content") {
        Some(content) => read_content(&fields.place("content"), content)?,
        None if role == Role::Assistant => Vec::new(),
        None => return Err(fields.missing("content")),
    };
    let tool_call_id = match role {
        Role::Tool => Some(fields.required_text("tool_call_id")?),
        _ => None,
    };
    // Two servers, two names for the same thing.
    let reasoning = match fields.text("reasoning_content")? {
        Some(reasoning) => Some(reasoning),
        None => fields.text("reasoning")?,
    };
    let reasoning = reasoning.map(|text| Part::Reasoning(Reasoning { text, ..Reasoning::default() }));
    let calls = tool_calls.into_iter().map(Part::ToolCall);
    let parts = reasoning.into_iter().chain(content).chain(calls).collect();
    Ok(ChatMessage { name: fields.text("name")?, tool_call_id, ..ChatMessage::new(role, parts) })
}

fn take_role(fields: &mut Fields) -> Result<Role, BadRequest> {
    const ROLES: [Role; 5] = [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool];
    let name = fields.required_text("role")?;
    let known = ROLES.into_iter().find(|role| role.as_str() == name);
    known.ok_or_else(|| match name.as_str() {
        "function" => {
            BadRequest::new("The role 'function' is deprecated; use the role 'tool' with 'tool_call_id'.")
                .at(fields.place("role"))
                .code("invalid_value")
        }
        name => {
            let roles = "'system', 'developer', 'user', 'assistant', and 'tool'";
            wrong_value(&fields.place("role"), name, roles)
        }
    })
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
    match fields.required_text("type")?.as_str() {
        "text" => fields.required_text("text").map(Part::text),
        "refusal" => fields.required_text("refusal").map(Part::Refusal),
        kind @ ("image_url" | "input_audio" | "video_url" | "audio_url" | "file") => {
            Err(BadRequest::new(format!(
                "Invalid content part '{place}': this model reads text only, but got a part of type '{kind}'."
            ))
            .at(place)
            .code("unsupported_content"))
        }
        kind => Err(wrong_value(&fields.place("type"), kind, "'text'")),
    }
}

fn take_tool_calls(fields: &mut Fields) -> Result<Vec<ToolCall>, BadRequest> {
    let place = fields.place("tool_calls");
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    let read = |(index, call)| read_tool_call(&format!("{place}[{index}]"), call);
    calls.into_iter().enumerate().map(read).collect()
}

fn read_tool_call(place: &str, call: Value) -> Result<ToolCall, BadRequest> {
    let mut fields = Fields::of(place, call)?;
    if let Some(kind) = fields.text("type")?.filter(|kind| kind != "function") {
        return Err(wrong_value(&fields.place("type"), &kind, "'function'"));
    }
    let id = fields.required_text("id")?;
    let mut function = fields.object("function")?.ok_or_else(|| fields.missing("function"))?;
    let name = function.required_text("name")?;
    // A tool without parameters is called with nothing by some clients.
    let arguments = function.text("arguments")?.unwrap_or_default();
    Ok(ToolCall { id, name, arguments, proof: None })
}
