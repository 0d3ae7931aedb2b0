//! How is a conversation written for an upstream?

use serde_json::{Map, Value, json};

use domain::{ChatMessage, Media, MediaKind, MediaSource, Part, Role, ToolCall};

use crate::Untellable;
use crate::openai::cache_mark;
use crate::openai::thoughts::to_details;
use crate::openai::wire::Manner;

/// Returns `messages`.
pub(in crate::openai) fn to_wire(messages: &[ChatMessage], manner: &Manner) -> Result<Value, Untellable> {
    let mut wire = Vec::new();
    let mut shown = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        // A tool answers in text alone: what it shows comes in a message after all of its answers.
        if message.role != Role::Tool && !shown.is_empty() {
            wire.push(json!({"role": "user", "content": std::mem::take(&mut shown)}));
        }
        wire.push(message_to_wire(place, message, manner, &mut shown)?);
    }
    if !shown.is_empty() {
        wire.push(json!({"role": "user", "content": shown}));
    }
    Ok(Value::Array(wire))
}

fn message_to_wire(
    place: usize,
    message: &ChatMessage,
    manner: &Manner,
    shown: &mut Vec<Value>,
) -> Result<Value, Untellable> {
    let mut content = Vec::new();
    for (index, part) in message.parts.iter().enumerate() {
        let wire = part_to_wire(&format!("messages[{place}].content[{index}]"), part, manner)?;
        match part {
            Part::Media(_) if message.role == Role::Tool => shown.extend(wire),
            _ => content.extend(wire),
        }
    }
    let role = match message.role {
        // The word came with OpenAI's reasoning models; others know it by its older name.
        Role::Developer if manner.is_compatible => Role::System,
        role => role,
    };
    let mut wire = Map::from_iter([("role".to_owned(), json!(role.as_str()))]);
    let calls: Vec<Value> = message.tool_calls().map(|call| call_to_wire(call, manner)).collect();
    wire.insert("content".to_owned(), joined(content, message.role));
    wire.extend(message.name.as_ref().map(|name| ("name".to_owned(), json!(name))));
    // Reasoning is nothing that OpenAI's chat takes back.
    if manner.is_compatible {
        wire.extend(message.reasoning().map(|text| ("reasoning_content".to_owned(), json!(text))));
        let details = to_details(&message.parts);
        if !details.is_empty() {
            wire.insert("reasoning_details".to_owned(), Value::Array(details));
        }
    }
    if !calls.is_empty() {
        wire.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    wire.extend(message.tool_call_id.as_ref().map(|id| ("tool_call_id".to_owned(), json!(id))));
    Ok(Value::Object(wire))
}

/// A single plain text is written as itself: not every server reads parts.
fn joined(mut content: Vec<Value>, role: Role) -> Value {
    let is_plain = |part: &Value| part["type"] == "text" && part.get("cache_control").is_none();
    match &mut content[..] {
        [] if role == Role::Assistant => Value::Null,
        [] => json!(""),
        [only] if is_plain(only) => only["text"].take(),
        _ => Value::Array(content),
    }
}

fn call_to_wire(call: &ToolCall, manner: &Manner) -> Value {
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    let function = json!({"name": call.name, "arguments": arguments});
    let mut wire = json!({"id": call.id, "type": "function", "function": function});
    if let (Some(proof), true) = (&call.proof, manner.is_compatible) {
        wire["extra_content"] = json!({"google": {"thought_signature": proof}});
    }
    wire
}

fn part_to_wire(place: &str, part: &Part, manner: &Manner) -> Result<Option<Value>, Untellable> {
    let marked = |mut wire: Value, mark: &Option<domain::CacheMark>| {
        // OpenAI keeps what it wants to keep by itself.
        if let (Some(mark), true) = (mark, manner.is_compatible) {
            wire["cache_control"] = cache_mark::to_wire(*mark);
        }
        Some(wire)
    };
    Ok(match part {
        Part::Text { text, cache } => marked(json!({"type": "text", "text": text}), cache),
        Part::Refusal(text) => Some(json!({"type": "refusal", "refusal": text})),
        Part::Media(media) => marked(media_to_wire(place, media, manner)?, &media.cache),
        Part::Reasoning(_) | Part::SealedReasoning(_) | Part::ToolCall(_) => None,
    })
}

fn media_to_wire(place: &str, media: &Media, manner: &Manner) -> Result<Value, Untellable> {
    let url = match &media.source {
        MediaSource::Url(url) => Some(url.clone()),
        MediaSource::Inline { media_type, data } => Some(format!("data:{media_type};base64,{data}")),
        MediaSource::File(_) => None,
    };
    let untellable = |why: &str| Err(Untellable { what: place.to_owned(), why: why.to_owned() });
    match (media.kind, &media.source, url) {
        (MediaKind::Image, _, Some(url)) => {
            let mut image = Map::from_iter([("url".to_owned(), json!(url))]);
            image.extend(media.detail.as_ref().map(|detail| ("detail".to_owned(), json!(detail))));
            Ok(json!({"type": "image_url", "image_url": image}))
        }
        (MediaKind::Image, ..) => {
            untellable("an image is shown by its address or by its bytes, not by a file's id")
        }
        (MediaKind::Audio, MediaSource::Inline { media_type, data }, _) => {
            let format = match media_type.trim_start_matches("audio/") {
                "mpeg" => "mp3",
                "x-wav" | "wave" | "vnd.wave" => "wav",
                format => format,
            };
            Ok(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
        }
        (MediaKind::Audio, MediaSource::Url(url), _) if manner.is_compatible => {
            Ok(json!({"type": "audio_url", "audio_url": {"url": url}}))
        }
        (MediaKind::Audio, ..) => untellable("a sound is sent by its bytes"),
        (MediaKind::Document, MediaSource::File(id), _) => {
            Ok(json!({"type": "file", "file": {"file_id": id}}))
        }
        (MediaKind::Document, MediaSource::Url(_), _) if !manner.is_compatible => {
            untellable("a document is sent by its bytes or by a file's id, not by its address")
        }
        (MediaKind::Document, _, url) => {
            let mut file = Map::new();
            file.extend(media.name.as_ref().map(|name| ("filename".to_owned(), json!(name))));
            file.insert("file_data".to_owned(), json!(url));
            Ok(json!({"type": "file", "file": file}))
        }
    }
}
