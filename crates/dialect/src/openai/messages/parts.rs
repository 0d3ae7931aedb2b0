//! What does a message say, part by part?

use serde_json::Value;

use domain::{CacheMark, Media, MediaKind, MediaSource, Part};

use crate::BadRequest;
use crate::openai::cache_mark;
use crate::openai::thoughts;
use crate::read::{Fields, wrong_type, wrong_value};

/// Reads `content`: a text, or parts of several kinds.
pub(super) fn read_content(place: &str, content: Value) -> Result<Vec<Part>, BadRequest> {
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
    // Reasoning that Anthropic's clients give back among the parts.
    if let Some(thought) = thoughts::read_parts(None, std::slice::from_ref(&part)).pop() {
        return Ok(thought);
    }
    let mut fields = Fields::of(place, part)?;
    let cache = fields.take("cache_control").as_ref().and_then(cache_mark::read);
    match fields.required_text("type")?.as_str() {
        "text" => Ok(Part::Text { text: fields.required_text("text")?, cache }),
        "refusal" => fields.required_text("refusal").map(Part::Refusal),
        kind @ ("image_url" | "audio_url") => {
            let (url, detail) = take_url(&mut fields, kind)?;
            let usual = if kind == "image_url" { MediaKind::Image } else { MediaKind::Audio };
            let source = read_url(&format!("{place}.{kind}.url"), url)?;
            Ok(Part::Media(Media { kind: kind_of(&source, usual), source, detail, name: None, cache }))
        }
        "input_audio" => read_audio(fields, cache),
        "file" => read_file(fields, cache),
        "video_url" => Err(BadRequest::new(format!(
            "Invalid content part '{place}': films are not understood; send single images."
        ))
        .at(place)
        .code("unsupported_content")),
        kind => {
            let kinds = "'text', 'image_url', 'input_audio', 'file', and 'refusal'";
            Err(wrong_value(&fields.place("type"), kind, kinds))
        }
    }
}

/// Takes `{"url": …, "detail": …}`; some clients write the address alone.
fn take_url(fields: &mut Fields, name: &str) -> Result<(String, Option<String>), BadRequest> {
    if let Some(Value::String(url)) = fields.peek(name) {
        return Ok((url.clone(), None));
    }
    let mut media = fields.object(name)?.ok_or_else(|| fields.missing(name))?;
    Ok((media.required_text("url")?, media.text("detail")?))
}

/// Reads an address, which may hold the bytes themselves.
pub(in crate::openai) fn read_url(place: &str, url: String) -> Result<MediaSource, BadRequest> {
    let Some(rest) = url.strip_prefix("data:") else {
        return Ok(MediaSource::Url(url));
    };
    match rest.split_once(";base64,") {
        Some((media_type, data)) if !media_type.is_empty() => {
            Ok(MediaSource::Inline { media_type: media_type.to_owned(), data: data.to_owned() })
        }
        _ => Err(BadRequest::new(format!(
            "Invalid '{place}': expected a data URL such as 'data:image/png;base64,…'."
        ))
        .at(place)
        .code("invalid_value")),
    }
}

/// Some clients send documents and sounds as images; their type says what they are.
pub(in crate::openai) fn kind_of(source: &MediaSource, usual: MediaKind) -> MediaKind {
    match source {
        MediaSource::Inline { media_type, .. } if media_type.starts_with("image/") => MediaKind::Image,
        MediaSource::Inline { media_type, .. } if media_type.starts_with("audio/") => MediaKind::Audio,
        MediaSource::Inline { .. } => MediaKind::Document,
        _ => usual,
    }
}

fn read_audio(mut fields: Fields, cache: Option<CacheMark>) -> Result<Part, BadRequest> {
    let mut audio = fields.object("input_audio")?.ok_or_else(|| fields.missing("input_audio"))?;
    let data = audio.required_text("data")?;
    let media_type = match audio.required_text("format")?.as_str() {
        "mp3" => "audio/mpeg".to_owned(),
        format => format!("audio/{format}"),
    };
    let source = MediaSource::Inline { media_type, data };
    Ok(Part::Media(Media { kind: MediaKind::Audio, source, detail: None, name: None, cache }))
}

fn read_file(mut fields: Fields, cache: Option<CacheMark>) -> Result<Part, BadRequest> {
    let mut file = fields.object("file")?.ok_or_else(|| fields.missing("file"))?;
    let name = file.text("filename")?;
    let source = match (file.text("file_id")?, file.text("file_data")?) {
        (Some(id), _) => MediaSource::File(id),
        (None, Some(data)) => read_file_data(&file.place("file_data"), data)?,
        (None, None) => return Err(file.missing("file_data")),
    };
    Ok(Part::Media(Media { kind: kind_of(&source, MediaKind::Document), source, detail: None, name, cache }))
}

/// Reads a data URL, an address (as routers take it), or bare base64, which OpenAI takes for PDF.
pub(in crate::openai) fn read_file_data(place: &str, data: String) -> Result<MediaSource, BadRequest> {
    match data.starts_with("data:") || data.starts_with("http://") || data.starts_with("https://") {
        true => read_url(place, data),
        false => Ok(MediaSource::Inline { media_type: "application/pdf".to_owned(), data }),
    }
}
