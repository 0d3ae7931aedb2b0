//! What is the answer? Decided by the prompt alone, so that a test can know it beforehand.

use base64::Engine as _;
use hmac::{Hmac, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::prompt::{Choice, Format, Media, Prompt};
use super::tokens::tokens;

#[derive(Clone, Debug)]
pub struct Said {
    pub reasoning: Vec<String>,
    pub text: Vec<String>,
    pub calls: Vec<Call>,
    pub ending: Ending,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub arguments: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Stop,
    StopString(String),
    Length,
    Calls,
    Refusal,
    Filter,
}

/// Characters of the prompt that are said back.
const ECHO_CHARACTERS_MAX: usize = 2000;
/// `count to N` stops here.
const COUNT_MAX: u64 = 100_000;
const PLAY_SECRET: &[u8] = b"what a stand-in signs its reasoning with";

impl Said {
    pub fn reasoning_text(&self) -> String {
        self.reasoning.concat()
    }

    pub fn text(&self) -> String {
        self.text.concat()
    }

    pub fn call_tokens(&self) -> u64 {
        self.calls.iter().map(|call| 4 + tokens(&call.arguments.to_string()).len() as u64).sum()
    }

    pub fn output_tokens(&self) -> u64 {
        (self.reasoning.len() + self.text.len()) as u64 + self.call_tokens()
    }
}

/// Returns the answer that is choice number `choice` of several.
pub fn think(prompt: &Prompt, choice: u64) -> Said {
    let reasoning = match prompt.thinks {
        true => tokens(&format!(
            "The user wrote {} characters, so I weigh each of them.",
            prompt.ask.chars().count()
        )),
        false => Vec::new(),
    };
    let calls = calls(prompt);
    if !calls.is_empty() {
        return Said { reasoning, text: Vec::new(), calls, ending: Ending::Calls };
    }
    let mut text = words(prompt);
    if choice > 0 {
        text.push_str(&format!(" (answer {})", choice + 1));
    }
    let mut ending = match &*prompt.ask {
        ask if ask.contains("be filtered") => Ending::Filter,
        ask if ask.contains("refuse") => Ending::Refusal,
        _ => Ending::Stop,
    };
    let first = prompt.stop.iter().filter_map(|stop| Some((text.find(&**stop)?, stop))).min();
    if let Some((place, stop)) = first {
        text.truncate(place);
        ending = Ending::StopString(stop.clone());
    }
    let mut text = tokens(&text);
    let room = prompt.max_tokens.map_or(u64::MAX, |most| most.saturating_sub(reasoning.len() as u64));
    if text.len() as u64 > room {
        text.truncate(room as usize);
        ending = Ending::Length;
    }
    Said { reasoning, text, calls: Vec::new(), ending }
}

/// Returns what proves that a text is the stand-in's own.
pub fn sign(text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(PLAY_SECRET).expect("any length of key will do");
    mac.update(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

/// Returns how likely a token was: decided by the token, always below certainty.
pub fn logprob(token: &str) -> f64 {
    let sum: u32 = token.bytes().map(u32::from).sum();
    -f64::from(sum % 97 + 1) / 128.0
}

fn calls(prompt: &Prompt) -> Vec<Call> {
    if prompt.choice == Choice::None || prompt.tools.is_empty() || !prompt.tool_results.is_empty() {
        return Vec::new();
    }
    let mut calls = Vec::new();
    for (place, _) in prompt.ask.match_indices("call ") {
        let rest = &prompt.ask[place + 5..];
        let end = rest
            .find(|letter: char| !letter.is_alphanumeric() && !"_-".contains(letter))
            .unwrap_or(rest.len());
        let Some(tool) = prompt.tools.iter().find(|tool| tool.name == rest[..end]) else { continue };
        let said = serde_json::Deserializer::from_str(rest[end..].trim_start()).into_iter::<Value>().next();
        let arguments = match said {
            Some(Ok(Value::Object(map))) => Value::Object(map),
            _ => fitting(&tool.schema, &prompt.ask, 0),
        };
        calls.push(Call { name: tool.name.clone(), arguments });
    }
    if calls.is_empty() {
        let forced = match &prompt.choice {
            Choice::Any => prompt.tools.first(),
            Choice::Named(name) => prompt.tools.iter().find(|tool| tool.name == *name),
            Choice::Auto | Choice::None => None,
        };
        calls.extend(
            forced.map(|tool| Call {
                name: tool.name.clone(),
                arguments: fitting(&tool.schema, &prompt.ask, 0),
            }),
        );
    }
    if prompt.one_call_only {
        calls.truncate(1);
    }
    calls
}

fn words(prompt: &Prompt) -> String {
    if let Some(count) = number_after(&prompt.ask, "count to ") {
        return (1..=count.min(COUNT_MAX)).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    }
    if prompt.ask.contains("refuse") {
        return "I cannot help with that.".into();
    }
    if !prompt.tool_results.is_empty() {
        return format!("The tools said: {}", shortened(&prompt.tool_results.join("; ")));
    }
    match &prompt.format {
        Format::Schema(schema) => return fitting(schema, &prompt.ask, 0).to_string(),
        Format::Object => return json!({"you_said": shortened(&prompt.ask)}).to_string(),
        Format::Text => {}
    }
    let seen = |media: &Media| match media {
        Media::Inline { media_type, bytes, sha256 } => {
            format!("I see {media_type} of {bytes} bytes ({sha256}). ")
        }
        Media::At(url) => format!("I see {url} from afar. "),
    };
    let seen = prompt.media.iter().map(seen).collect::<String>();
    let told = match &*prompt.system {
        "" => String::new(),
        system => format!("Told \"{}\". ", shortened(system)),
    };
    format!("{seen}{told}You said: {}", shortened(&prompt.ask))
}

/// Returns a value that the schema admits, made of words of the prompt.
pub fn fitting(schema: &Value, ask: &str, depth: usize) -> Value {
    if depth > 16 {
        return Value::Null;
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(value) = schema["enum"].get(0) {
        return value.clone();
    }
    for list in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[list].get(0) {
            return fitting(first, ask, depth + 1);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        kind => kind.as_str().unwrap_or(if schema.get("properties").is_some() { "object" } else { "string" }),
    };
    match &*kind.to_lowercase() {
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(
                properties
                    .map(|(name, inner)| (name.clone(), fitting(inner, ask, depth + 1)))
                    .collect::<Map<_, _>>(),
            )
        }
        "array" => {
            let count = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 16);
            Value::Array((0..count).map(|_| fitting(&schema["items"], ask, depth + 1)).collect())
        }
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(7)),
        "number" => json!(schema["minimum"].as_f64().unwrap_or(1.5)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!(ask.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
    }
}

fn number_after(text: &str, words: &str) -> Option<u64> {
    let rest = &text[text.find(words)? + words.len()..];
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(ECHO_CHARACTERS_MAX).collect()
}
