//! How does a conversation become Converse's messages: two roles that alternate, and blocks?

use std::collections::HashSet;

use domain::{CacheMark, Chat, ChatMessage, Media, MediaKind, MediaSource, Part, Role, ToolCall};
use serde_json::{Map, Value, json};

use super::family::Family;
use super::untellable;
use crate::Untellable;
use crate::call_id::fingerprint;
use crate::google::PROOF_MARK;

/// A conversation in Converse's words.
pub(super) struct Conversation {
    pub system: Option<Value>,
    pub messages: Value,
}

pub(super) fn said(chat: &Chat, family: Family) -> Result<Conversation, Untellable> {
    let mut system = Vec::new();
    let mut messages: Vec<(&'static str, Vec<Value>)> = Vec::new();
    let mut writer = Writer { family, names: HashSet::new() };
    for (place, message) in chat.messages.iter().enumerate() {
        let place = format!("messages[{place}]");
        let (role, blocks) = match message.role {
            Role::System | Role::Developer => {
                system.extend(writer.blocks(message, &place)?);
                continue;
            }
            Role::User => ("user", writer.blocks(message, &place)?),
            Role::Assistant => ("assistant", writer.blocks(message, &place)?),
            Role::Tool => ("user", vec![writer.result(message, &place)?]),
        };
        // Roles must alternate, and the results of calls made together stand together.
        match messages.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, known)) if *last == role => known.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    let messages =
        messages.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    let system = (!system.is_empty()).then(|| system.into());
    Ok(Conversation { system, messages })
}

pub(super) fn cache_point(mark: CacheMark, family: Family) -> Value {
    match mark {
        CacheMark::OneHour if family.is_claude() => json!({"cachePoint": {"type": "default", "ttl": "1h"}}),
        CacheMark::OneHour | CacheMark::FiveMinutes => json!({"cachePoint": {"type": "default"}}),
    }
}

struct Writer {
    family: Family,
    /// The names of documents so far, which must differ.
    names: HashSet<String>,
}

impl Writer {
    fn blocks(&mut self, message: &ChatMessage, place: &str) -> Result<Vec<Value>, Untellable> {
        let mut blocks = Vec::new();
        for part in &message.parts {
            let mut mark = None;
            match part {
                Part::Text { text, cache } => {
                    mark = *cache;
                    // A blank text is refused upstream, and says nothing.
                    blocks.extend((!text.trim().is_empty()).then(|| json!({"text": text})));
                }
                Part::Refusal(text) => {
                    blocks.extend((!text.trim().is_empty()).then(|| json!({"text": text})))
                }
                Part::Media(media) => {
                    mark = media.cache;
                    blocks.push(self.media(media, place)?);
                }
                Part::Reasoning(reasoning) => {
                    // Thoughts without proof, or with another maker's, are refused.
                    let proof = reasoning.proof.as_deref().filter(|proof| !proof.starts_with(PROOF_MARK));
                    blocks.extend(proof.map(|signature| {
                        json!({"reasoningContent": {"reasoningText": {"text": reasoning.text, "signature": signature}}})
                    }));
                }
                Part::SealedReasoning(sealed) if self.family.is_claude() => {
                    blocks.push(json!({"reasoningContent": {"redactedContent": sealed}}));
                }
                Part::SealedReasoning(_) => {}
                Part::ToolCall(call) => blocks.push(call_block(call, place)?),
            }
            blocks.extend(
                mark.filter(|_| self.family.has_cache_points()).map(|mark| cache_point(mark, self.family)),
            );
        }
        Ok(blocks)
    }

    fn result(&mut self, message: &ChatMessage, place: &str) -> Result<Value, Untellable> {
        let id = message.tool_call_id.as_deref().ok_or_else(|| {
            untellable(
                format!("{place}.tool_call_id"),
                "Converse knows results by their call's id, and there is none",
            )
        })?;
        let mut content = Vec::new();
        for part in &message.parts {
            match part {
                Part::Text { text, .. } if !text.trim().is_empty() => content.push(json!({"text": text})),
                Part::Media(media) => content.push(self.media(media, place)?),
                _ => {}
            }
        }
        let mut result = Map::from_iter([
            ("toolUseId".to_owned(), json!(call_id(id))),
            ("content".to_owned(), Value::from(content)),
        ]);
        if message.is_error {
            result.insert("status".into(), json!("error"));
        }
        Ok(json!({"toolResult": result}))
    }

    fn media(&mut self, media: &Media, place: &str) -> Result<Value, Untellable> {
        let what = || format!("{place}.content");
        let (kind, media_type, source) = match &media.source {
            MediaSource::Inline { media_type, data } => {
                (media.kind, media_type.as_str(), json!({"bytes": data}))
            }
            MediaSource::Url(url) if url.starts_with("s3://") => {
                (media.kind, ending(url), json!({"s3Location": {"uri": url}}))
            }
            MediaSource::Url(_) => {
                return Err(untellable(
                    what(),
                    "Bedrock fetches nothing but s3:// addresses; send the content itself",
                ));
            }
            MediaSource::File(_) => {
                return Err(untellable(what(), "the file is kept by another provider; send its content"));
            }
        };
        let format = format(kind, media_type)
            .ok_or_else(|| untellable(what(), format!("Bedrock does not take {media_type:?} here")))?;
        Ok(match kind {
            MediaKind::Image => json!({"image": {"format": format, "source": source}}),
            MediaKind::Audio => json!({"audio": {"format": format, "source": source}}),
            MediaKind::Document => {
                let name = self.name(media.name.as_deref());
                json!({"document": {"format": format, "name": name, "source": source}})
            }
        })
    }

    /// Returns a document's name in the letters that Converse takes, and not twice the same.
    fn name(&mut self, wished: Option<&str>) -> String {
        const NAME_CHARS_MAX: usize = 150;
        let letter = |letter: char| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '(' | ')' | '[' | ']' => letter,
            _ => ' ',
        };
        let plain: String = wished.unwrap_or_default().chars().take(NAME_CHARS_MAX).map(letter).collect();
        let words: Vec<&str> = plain.split_ascii_whitespace().collect();
        let base = if words.is_empty() { "document".to_owned() } else { words.join(" ") };
        let mut name = base.clone();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{base} {number}");
        }
        name
    }
}

fn call_block(call: &ToolCall, place: &str) -> Result<Value, Untellable> {
    let input = match call.arguments.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).unwrap_or(Value::Null),
    };
    if !input.is_object() {
        let what = format!("{place}.tool_calls ({})", call.name);
        return Err(untellable(
            what,
            "Converse takes a call's arguments as a JSON object only, and these are none",
        ));
    }
    Ok(json!({"toolUse": {"toolUseId": call_id(&call.id), "name": call.name, "input": input}}))
}

/// Returns an id that Converse takes: another maker's may be too long, or have other letters. The same id stays the same.
fn call_id(id: &str) -> String {
    const ID_BYTES_MAX: usize = 64;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_plain) {
        return id.to_owned();
    }
    format!("call_{}", fingerprint(id.bytes()))
}

fn ending(url: &str) -> &str {
    url.rsplit_once('.').map_or("", |(_, ending)| ending)
}

/// Returns Converse's name of a format, by media type or by a file's ending.
fn format(kind: MediaKind, media_type: &str) -> Option<&'static str> {
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let format = match (kind, media_type.as_str()) {
        (MediaKind::Image, "image/png" | "png") => "png",
        (MediaKind::Image, "image/jpeg" | "image/jpg" | "jpeg" | "jpg") => "jpeg",
        (MediaKind::Image, "image/gif" | "gif") => "gif",
        (MediaKind::Image, "image/webp" | "webp") => "webp",
        (MediaKind::Document, "application/pdf" | "pdf") => "pdf",
        (MediaKind::Document, "text/plain" | "txt") => "txt",
        (MediaKind::Document, "text/markdown" | "md") => "md",
        (MediaKind::Document, "text/html" | "html") => "html",
        (MediaKind::Document, "text/csv" | "csv") => "csv",
        (MediaKind::Document, "application/msword" | "doc") => "doc",
        (
            MediaKind::Document,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" | "docx",
        ) => "docx",
        (MediaKind::Document, "application/vnd.ms-excel" | "xls") => "xls",
        (
            MediaKind::Document,
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" | "xlsx",
        ) => "xlsx",
        (MediaKind::Audio, "audio/mpeg" | "audio/mp3" | "mp3") => "mp3",
        (MediaKind::Audio, "audio/wav" | "audio/x-wav" | "wav") => "wav",
        (MediaKind::Audio, "audio/flac" | "flac") => "flac",
        (MediaKind::Audio, "audio/ogg" | "ogg") => "ogg",
        (MediaKind::Audio, "audio/opus" | "opus") => "opus",
        (MediaKind::Audio, "audio/aac" | "aac") => "aac",
        (MediaKind::Audio, "audio/mp4" | "mp4") => "mp4",
        (MediaKind::Audio, "audio/webm" | "webm") => "webm",
        (MediaKind::Audio, "audio/pcm" | "audio/l16" | "pcm") => "pcm",
        _ => return None,
    };
    Some(format)
}
