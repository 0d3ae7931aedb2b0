//! How does a conversation become Gemini's contents: two roles, parts, calls that are answered by name?

use std::collections::HashMap;

use domain::{Chat, ChatMessage, Media, MediaKind, MediaSource, Part, Role, ToolCall};
use serde_json::{Map, Value, json};

use super::answer::OWN_CALL_PREFIX;
use super::request::is_before_third;
use super::{Home, PROOF_MARK, untellable};
use crate::Untellable;

/// A conversation in Gemini's words.
pub(super) struct Conversation {
    pub system: Option<Value>,
    pub contents: Value,
}

/// Google's documented word for a call that another maker's model made, or whose proof was lost on the way: since the third
/// generation a call without any proof is refused.
const NO_PROOF: &str = "skip_thought_signature_validator";

pub(super) fn said(chat: &Chat, model: &str, home: Home) -> Result<Conversation, Untellable> {
    let mut system = Vec::new();
    let mut contents = Contents::default();
    let mut calls = Calls::default();
    let must_prove = !is_before_third(model);
    for (place, message) in chat.messages.iter().enumerate() {
        let place = format!("messages[{place}]");
        match message.role {
            Role::System | Role::Developer => system.extend(texts(message)),
            Role::User => contents.push(Speaker::User, parts(message, &place)?),
            Role::Assistant => {
                calls.learn(message);
                contents.push(Speaker::Model, spoken(message, &place, must_prove, home)?);
            }
            Role::Tool => contents.push(Speaker::Tools, vec![calls.result(message, &place, home)?]),
        }
    }
    if contents.0.is_empty() {
        return Err(untellable(
            "messages",
            "Gemini answers a message of a user or a tool, and there is none",
        ));
    }
    let system = (!system.is_empty()).then(|| json!({"parts": system}));
    Ok(Conversation { system, contents: contents.written() })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    User,
    Model,
    Tools,
}

#[derive(Default)]
struct Contents(Vec<(Speaker, Vec<Value>)>);

impl Contents {
    /// Results of one turn's calls must stand together, and so must what the model said before them.
    fn push(&mut self, speaker: Speaker, mut parts: Vec<Value>) {
        match self.0.last_mut() {
            _ if parts.is_empty() => {}
            Some((last, known)) if *last == speaker && speaker != Speaker::User => known.append(&mut parts),
            _ => self.0.push((speaker, parts)),
        }
    }

    fn written(self) -> Value {
        let written = self.0.into_iter().map(|(speaker, parts)| {
            let role = if speaker == Speaker::Model { "model" } else { "user" };
            json!({"role": role, "parts": parts})
        });
        written.collect()
    }
}

/// The names of the calls so far. A later call may have an earlier one's id.
#[derive(Default)]
struct Calls(HashMap<String, String>);

impl Calls {
    fn learn(&mut self, message: &ChatMessage) {
        self.0.extend(message.tool_calls().map(|call| (call.id.clone(), call.name.clone())));
    }

    fn result(&self, message: &ChatMessage, place: &str, home: Home) -> Result<Value, Untellable> {
        let id = message.tool_call_id.as_deref();
        let name = id.and_then(|id| self.0.get(id)).or(message.name.as_ref()).ok_or_else(|| {
            let why = "Gemini knows calls by name, and no message before has a call with this id";
            untellable(format!("{place}.tool_call_id"), why)
        })?;
        let mut answer = Map::new();
        answer.extend(id.and_then(|id| known_id(id, home)).map(|id| ("id".to_owned(), id)));
        answer.insert("name".into(), json!(name));
        answer.insert("response".into(), result(message));
        let media = message.media().map(|media| media_part(media, place)).collect::<Result<Vec<_>, _>>()?;
        if !media.is_empty() {
            answer.insert("parts".into(), media.into());
        }
        Ok(json!({"functionResponse": answer}))
    }
}

/// Returns the object that a result must be. One that is an object already is the output itself.
fn result(message: &ChatMessage) -> Value {
    let text = message.text();
    match serde_json::from_str::<Value>(&text) {
        _ if message.is_error => json!({"error": text}),
        Ok(Value::Object(object)) => Value::Object(object),
        _ => json!({"output": text}),
    }
}

/// Returns the call's id where Gemini gave it: it takes back only those, and Vertex AI none.
fn known_id(id: &str, home: Home) -> Option<Value> {
    (home == Home::Studio && !id.starts_with(OWN_CALL_PREFIX)).then(|| json!(id))
}

fn texts(message: &ChatMessage) -> Vec<Value> {
    let texts = message.parts.iter().filter_map(|part| match part {
        Part::Text { text, .. } if !text.is_empty() => Some(json!({"text": text})),
        _ => None,
    });
    texts.collect()
}

/// Returns what a user shows and says. An empty text is refused upstream, and says nothing.
fn parts(message: &ChatMessage, place: &str) -> Result<Vec<Value>, Untellable> {
    let mut said = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) if !text.is_empty() => {
                said.push(json!({"text": text}))
            }
            Part::Media(media) => said.push(media_part(media, place)?),
            _ => {}
        }
    }
    Ok(said)
}

/// Returns what the model said, thought and called, in its order.
fn spoken(
    message: &ChatMessage,
    place: &str,
    must_prove: bool,
    home: Home,
) -> Result<Vec<Value>, Untellable> {
    let mut said = Vec::new();
    let mut has_called = false;
    for part in &message.parts {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) if !text.is_empty() => {
                said.push(json!({"text": text}))
            }
            Part::Media(media) => said.push(media_part(media, place)?),
            Part::Reasoning(reasoning) => {
                // Gemini reads nothing out of thoughts that it cannot prove, and refuses another maker's proof.
                let proof = reasoning.proof.as_deref().and_then(|proof| proof.strip_prefix(PROOF_MARK));
                said.extend(proof.map(|proof| match reasoning.text.as_str() {
                    // The proof of a text comes behind it, by itself.
                    "" => json!({"text": "", "thoughtSignature": proof}),
                    text => json!({"text": text, "thought": true, "thoughtSignature": proof}),
                }));
            }
            Part::ToolCall(call) => {
                // Of calls made at once only the first has a proof.
                let needs_proof = must_prove && !has_called;
                said.push(call_part(call, place, needs_proof, home)?);
                has_called = true;
            }
            _ => {}
        }
    }
    Ok(said)
}

fn call_part(call: &ToolCall, place: &str, needs_proof: bool, home: Home) -> Result<Value, Untellable> {
    let arguments = match call.arguments.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).unwrap_or(Value::Null),
    };
    if !arguments.is_object() {
        let what = format!("{place}.tool_calls ({})", call.name);
        return Err(untellable(
            what,
            "Gemini takes a call's arguments as a JSON object only, and these are none",
        ));
    }
    let mut function = Map::new();
    function.extend(known_id(&call.id, home).map(|id| ("id".to_owned(), id)));
    function.insert("name".into(), json!(call.name));
    function.insert("args".into(), arguments);
    let mut part = Map::from_iter([("functionCall".to_owned(), Value::Object(function))]);
    let proof = call.proof.as_deref().or(needs_proof.then_some(NO_PROOF));
    part.extend(proof.map(|proof| ("thoughtSignature".to_owned(), json!(proof))));
    Ok(part.into())
}

fn media_part(media: &Media, place: &str) -> Result<Value, Untellable> {
    let place = || format!("{place}.content");
    match &media.source {
        MediaSource::Inline { media_type, data } => {
            Ok(json!({"inlineData": {"mimeType": media_type, "data": data}}))
        }
        MediaSource::Url(url)
            if ["https://", "http://", "gs://"].iter().any(|scheme| url.starts_with(scheme)) =>
        {
            Ok(file_part(url, media_type(url, media.kind)))
        }
        MediaSource::Url(_) => {
            Err(untellable(place(), "Gemini fetches only https://, http:// and gs:// addresses"))
        }
        MediaSource::File(id) if id.starts_with("files/") => {
            let uri = format!("https://generativelanguage.googleapis.com/v1beta/{id}");
            Ok(file_part(&uri, None))
        }
        MediaSource::File(_) => Err(untellable(
            place(),
            "the file is kept by another provider; send its content, or an id like files/abc",
        )),
    }
}

fn file_part(uri: &str, media_type: Option<&str>) -> Value {
    let mut file = Map::from_iter([("fileUri".to_owned(), json!(uri))]);
    file.extend(media_type.map(|media_type| ("mimeType".to_owned(), json!(media_type))));
    json!({"fileData": file})
}

/// Returns what an address promises by its ending. Without a promise Google looks itself.
fn media_type(url: &str, kind: MediaKind) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let (_, ending) = path.rsplit_once('.')?;
    let known = match (kind, ending.to_ascii_lowercase().as_str()) {
        (MediaKind::Image, "jpg" | "jpeg") => "image/jpeg",
        (MediaKind::Image, "png") => "image/png",
        (MediaKind::Image, "webp") => "image/webp",
        (MediaKind::Image, "heic") => "image/heic",
        (MediaKind::Image, "gif") => "image/gif",
        (MediaKind::Document, "pdf") => "application/pdf",
        (MediaKind::Document, "txt" | "md") => "text/plain",
        (MediaKind::Document, "html" | "htm") => "text/html",
        (MediaKind::Document, "csv") => "text/csv",
        (MediaKind::Audio, "mp3") => "audio/mpeg",
        (MediaKind::Audio, "wav") => "audio/wav",
        (MediaKind::Audio, "flac") => "audio/flac",
        (MediaKind::Audio, "ogg") => "audio/ogg",
        _ => return None,
    };
    Some(known)
}
