//! What was said so far in a conversation?

use serde_json::Value;

use domain::{ChatMessage, Part, Role};

use super::content::{Said, read_block, read_text_blocks};
use crate::BadRequest;
use crate::read::{Fields, wrong_type, wrong_value};

/// A conversation of an agent's whole day has hundreds of messages. Anthropic's own bound is higher.
const MESSAGES_MAX: usize = 16_384;

/// What of a request the neutral form does not hold.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Places that have no effect on the answer; at most [`IGNORED_MAX`].
    pub ignored: Vec<String>,
    /// Places that only an upstream of this dialect understands, given the client's own bytes; at most [`ONLY_HERE_MAX`].
    pub only_here: Vec<String>,
}

/// As many as travel in a header.
const IGNORED_MAX: usize = 32;
/// The first few say enough.
const ONLY_HERE_MAX: usize = 8;

impl Notes {
    pub fn ignore(&mut self, place: String) {
        if self.ignored.len() < IGNORED_MAX {
            self.ignored.push(place);
        }
    }
    /// Notes the fields that nobody took.
    pub fn ignore_left(&mut self, fields: Fields) {
        fields.left().into_iter().for_each(|place| self.ignore(place));
    }
    pub fn only_here(&mut self, place: String) {
        if self.only_here.len() < ONLY_HERE_MAX {
            self.only_here.push(place);
        }
    }
}

/// Takes `system`, a string or text blocks, as one message; none where it says nothing.
pub(super) fn take_system(fields: &mut Fields, notes: &mut Notes) -> Result<Option<ChatMessage>, BadRequest> {
    let parts = match fields.take("system") {
        None => return Ok(None),
        Some(system) => read_text_blocks(&fields.place("system"), system, notes)?,
    };
    Ok((!parts.is_empty()).then(|| ChatMessage::new(Role::System, parts)))
}

/// Takes `messages`, at least one.
pub(super) fn take_messages(
    fields: &mut Fields,
    notes: &mut Notes,
    into: &mut Vec<ChatMessage>,
) -> Result<(), BadRequest> {
    let messages = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected at least one message.";
        return Err(BadRequest::new(message).at("messages").code("empty_array"));
    }
    if messages.len() > MESSAGES_MAX {
        let message = format!(
            "Invalid 'messages': {} messages are more than the {MESSAGES_MAX} that a request may have.",
            messages.len()
        );
        return Err(BadRequest::new(message).at("messages").code("array_above_max_length"));
    }
    for (index, message) in messages.into_iter().enumerate() {
        read_message(&format!("messages[{index}]"), message, notes, into)?;
    }
    Ok(())
}

/// Adds what one message says. A user's message with results of tools is several: each result is a message of its own, and
/// what stands around them keeps its place.
fn read_message(
    place: &str,
    message: Value,
    notes: &mut Notes,
    into: &mut Vec<ChatMessage>,
) -> Result<(), BadRequest> {
    let mut fields = Fields::of(place, message)?;
    let role = take_role(&mut fields)?;
    let content = fields.take("content").ok_or_else(|| fields.missing("content"))?;
    let place = fields.place("content");
    notes.ignore_left(fields);
    if role == Role::System {
        into.push(ChatMessage::new(role, read_text_blocks(&place, content, notes)?));
        return Ok(());
    }
    let blocks = match content {
        Value::String(text) => {
            into.push(ChatMessage::of_text(role, text));
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        other => return Err(wrong_type(&place, "a string or an array of content blocks", &other)),
    };
    let (mut parts, mut results): (Vec<Part>, usize) = (Vec::new(), 0);
    for (index, block) in blocks.into_iter().enumerate() {
        match read_block(&format!("{place}[{index}]"), role, block, notes)? {
            Said::Part(part) => parts.push(part),
            Said::Result(result) => {
                results += 1;
                if !parts.is_empty() {
                    into.push(ChatMessage::new(role, std::mem::take(&mut parts)));
                }
                into.push(result);
            }
            Said::Nothing => {}
        }
    }
    if !parts.is_empty() || results == 0 {
        into.push(ChatMessage::new(role, parts));
    }
    Ok(())
}

fn take_role(fields: &mut Fields) -> Result<Role, BadRequest> {
    match fields.required_text("role")?.as_str() {
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        other => Err(wrong_value(&fields.place("role"), other, "'user', 'assistant', and 'system'")),
    }
}
