//! What was said so far in a conversation?

pub(super) mod parts;
pub(super) mod written;

use serde_json::Value;

use domain::{ChatMessage, Media, Part, Role, ToolCall};

use super::generation::{empty, too_long};
use super::{cache_mark, thoughts};
use crate::BadRequest;
use crate::read::{Fields, wrong_value};

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
        ("audio", "Sounds of earlier answers are not kept; give their text in 'content'."),
    ])?;
    let tool_calls = match role {
        Role::Assistant => take_tool_calls(&mut fields)?,
        _ => Vec::new(),
    };
    let content = match fields.take("content") {
        Some(content) => parts::read_content(&fields.place("content"), content)?,
        None if role == Role::Assistant => Vec::new(),
        None => return Err(fields.missing("content")),
    };
    let tool_call_id = match role {
        Role::Tool => Some(fields.required_text("tool_call_id")?),
        _ => None,
    };
    // Different servers, different names for the same thing.
    let plain = match fields.text("reasoning_content")? {
        Some(reasoning) => Some(reasoning),
        None => fields.text("reasoning")?,
    };
    let blocks = match fields.list("reasoning_details")? {
        Some(blocks) => Some(blocks),
        None => fields.list("thinking_blocks")?,
    };
    let reasoning = thoughts::read_parts(plain, &blocks.unwrap_or_default());
    let refusal = fields.text("refusal")?.map(Part::Refusal);
    let calls = tool_calls.into_iter().map(Part::ToolCall);
    let mut parts: Vec<Part> = reasoning.into_iter().chain(content).chain(refusal).collect();
    // A mark on the message is one on all that it says.
    if let Some(mark) = fields.take("cache_control").as_ref().and_then(cache_mark::read)
        && let Some(Part::Text { cache, .. } | Part::Media(Media { cache, .. })) = parts.last_mut()
    {
        *cache = Some(mark);
    }
    parts.extend(calls);
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
    let signature = fields.take("extra_content");
    let signature = signature.as_ref().and_then(|extra| extra["google"]["thought_signature"].as_str());
    Ok(ToolCall { id, name, arguments, proof: signature.map(str::to_owned) })
}
