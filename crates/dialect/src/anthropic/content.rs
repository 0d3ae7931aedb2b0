//! What does one block of a message say?

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use domain::{CacheMark, ChatMessage, Media, MediaKind, MediaSource, Part, Reasoning, Role, ToolCall};

use super::messages::Notes;
use crate::BadRequest;
use crate::read::{Fields, wrong_type, wrong_value};

pub(super) enum Said {
    Part(Part),
    /// What a tool gave back: a message of its own.
    Result(ChatMessage),
    /// Nothing that the neutral form could hold; noted.
    Nothing,
}

pub(super) fn read_block(
    place: &str,
    role: Role,
    block: Value,
    notes: &mut Notes,
) -> Result<Said, BadRequest> {
    let mut fields = Fields::of(place, block)?;
    let kind = fields.required_text("type")?;
    let said = match (kind.as_str(), role) {
        ("text", _) => Said::Part(take_text(&mut fields)?),
        ("image", _) => media(take_media(&mut fields, MediaKind::Image)?),
        ("document", _) => media(take_media(&mut fields, MediaKind::Document)?),
        ("thinking", Role::Assistant) => Said::Part(Part::Reasoning(take_thinking(&mut fields)?)),
        ("redacted_thinking", Role::Assistant) => {
            Said::Part(Part::SealedReasoning(fields.required_text("data")?))
        }
        ("tool_use", Role::Assistant) => Said::Part(Part::ToolCall(take_tool_use(&mut fields)?)),
        ("tool_result", Role::User) => Said::Result(take_tool_result(&mut fields, notes)?),
        ("thinking" | "redacted_thinking" | "tool_use" | "tool_result", _) => {
            let owner = if kind == "tool_result" { "user" } else { "assistant" };
            let message = format!("Invalid '{place}': a block of type '{kind}' belongs into a message of role '{owner}'.");
            return Err(BadRequest::new(message).at(place).code("invalid_value"));
        }
        // The provider's own tools and whatever comes next: it passes in the client's bytes, or not at all.
        _ => Said::Nothing,
    };
    match said {
        Said::Nothing => notes.only_here(format!("{place} ({kind})")),
        _ => notes.ignore_left(fields),
    }
    Ok(said)
}

/// Reads what may only be text: a string, or blocks.
pub(super) fn read_text_blocks(
    place: &str,
    content: Value,
    notes: &mut Notes,
) -> Result<Vec<Part>, BadRequest> {
    match content {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(blocks) => {
            let mut parts = Vec::new();
            for (index, block) in blocks.into_iter().enumerate() {
                let mut fields = Fields::of(&format!("{place}[{index}]"), block)?;
                match fields.required_text("type")?.as_str() {
                    "text" => parts.push(take_text(&mut fields)?),
                    kind => return Err(wrong_value(&fields.place("type"), kind, "'text'")),
                }
                notes.ignore_left(fields);
            }
            Ok(parts)
        }
        other => Err(wrong_type(place, "a string or an array of text blocks", &other)),
    }
}

/// Takes `cache_control`, wherever it stands.
pub(super) fn take_cache(fields: &mut Fields) -> Result<Option<CacheMark>, BadRequest> {
    let Some(mut control) = fields.object("cache_control")? else {
        return Ok(None);
    };
    match control.required_text("type")?.as_str() {
        "ephemeral" => {}
        kind => return Err(wrong_value(&control.place("type"), kind, "'ephemeral'")),
    }
    match control.text("ttl")?.as_deref() {
        None | Some("5m") => Ok(Some(CacheMark::FiveMinutes)),
        Some("1h") => Ok(Some(CacheMark::OneHour)),
        Some(ttl) => Err(wrong_value(&control.place("ttl"), ttl, "'5m' and '1h'")),
    }
}

fn media(media: Option<Media>) -> Said {
    media.map_or(Said::Nothing, |media| Said::Part(Part::Media(media)))
}

fn take_text(fields: &mut Fields) -> Result<Part, BadRequest> {
    Ok(Part::Text { text: fields.required_text("text")?, cache: take_cache(fields)? })
}

/// Returns nothing where the source is one that only this dialect has.
fn take_media(fields: &mut Fields, kind: MediaKind) -> Result<Option<Media>, BadRequest> {
    let mut source = fields.object("source")?.ok_or_else(|| fields.missing("source"))?;
    let source = match (source.required_text("type")?.as_str(), kind) {
        ("base64", _) => MediaSource::Inline {
            media_type: source.required_text("media_type")?,
            data: source.required_text("data")?,
        },
        ("url", _) => MediaSource::Url(source.required_text("url")?),
        ("file", _) => MediaSource::File(source.required_text("file_id")?),
        ("text", MediaKind::Document) => plain(&source.required_text("data")?),
        ("content", MediaKind::Document) => match source.take("content") {
            Some(Value::String(text)) => plain(&text),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let name = match kind {
        MediaKind::Document => fields.text("title")?,
        _ => None,
    };
    Ok(Some(Media { kind, source, detail: None, name, cache: take_cache(fields)? }))
}

/// Text that stands where other documents have bytes.
fn plain(text: &str) -> MediaSource {
    MediaSource::Inline { media_type: "text/plain".into(), data: BASE64_STANDARD.encode(text) }
}

fn take_thinking(fields: &mut Fields) -> Result<Reasoning, BadRequest> {
    let text = fields.required_text("thinking")?;
    // What we hand to a client without any proof has an empty signature, and so it comes back.
    let proof = fields.text("signature")?.filter(|signature| !signature.is_empty());
    Ok(Reasoning { text, proof, id: None })
}

fn take_tool_use(fields: &mut Fields) -> Result<ToolCall, BadRequest> {
    let (id, name) = (fields.required_text("id")?, fields.required_text("name")?);
    let arguments = match fields.take("input") {
        None => "{}".to_owned(),
        Some(input @ Value::Object(_)) => input.to_string(),
        Some(other) => return Err(wrong_type(&fields.place("input"), "an object", &other)),
    };
    Ok(ToolCall { id, name, arguments, proof: None })
}

fn take_tool_result(fields: &mut Fields, notes: &mut Notes) -> Result<ChatMessage, BadRequest> {
    let tool_call_id = Some(fields.required_text("tool_use_id")?);
    let is_error = fields.flag("is_error")?;
    let place = fields.place("content");
    let mut parts = match fields.take("content") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![Part::text(text)],
        Some(Value::Array(blocks)) => {
            let mut parts = Vec::new();
            for (index, block) in blocks.into_iter().enumerate() {
                // A tool's role lets neither thinking nor calls in.
                match read_block(&format!("{place}[{index}]"), Role::Tool, block, notes)? {
                    Said::Part(part) => parts.push(part),
                    Said::Result(_) | Said::Nothing => {}
                }
            }
            parts
        }
        Some(other) => return Err(wrong_type(&place, "a string or an array of content blocks", &other)),
    };
    if let Some(mark) = take_cache(fields)?
        && !parts.last_mut().is_some_and(|part| put_mark(part, mark))
    {
        notes.ignore(fields.place("cache_control"));
    }
    Ok(ChatMessage { tool_call_id, is_error, ..ChatMessage::new(Role::Tool, parts) })
}

/// Marks the end of this part; says whether it can have a mark.
pub(super) fn put_mark(part: &mut Part, mark: CacheMark) -> bool {
    match part {
        Part::Text { cache, .. } => *cache = Some(mark),
        Part::Media(media) => media.cache = Some(mark),
        _ => return false,
    }
    true
}
