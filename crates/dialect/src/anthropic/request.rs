//! What does a Messages request ask for?

use std::sync::Arc;

use serde_json::Value;

use domain::{
    AnswerFormat, Ask, CacheMark, Chat, ChatMessage, Input, ModelName, Part, SamplingWish, ServiceTier, Tool,
};

use super::content::{put_mark, take_cache};
use super::form::MessagesForm;
use super::messages::{Notes, take_messages, take_system};
use super::thinking::take_reasoning;
use super::tools::{only_here, take_choice, take_tools};
use crate::read::{Fields, wrong_type, wrong_value};
use crate::{BadRequest, Heard, Labels};

/// Each costs a search in every piece of text.
const STOPS_MAX: usize = 64;
/// A stop string holds text back until it is decided.
const STOP_BYTES_MAX: usize = 1024;

/// Fields that change the answer and that no other dialect has words for: such a request only goes where its bytes are
/// understood. What is not here and not read either is ignored, and said to be.
const ONLY_HERE: [&str; 7] =
    ["mcp_servers", "container", "fallbacks", "compaction", "thread", "inference_geo", "fallback_credit_token"];

/// Reads the body of `POST /v1/messages`.
pub fn read(body: &[u8]) -> Result<Heard, BadRequest> {
    let mut fields = Fields::parse(body)?;
    // Nothing at all is a way to fill the provider's cache.
    let max_output_tokens = fields.integer("max_tokens", 0, i64::from(u32::MAX))?;
    let max_output_tokens = max_output_tokens.ok_or_else(|| fields.missing("max_tokens"))?;
    hear(fields, Some(max_output_tokens as u32))
}

/// Reads what is the same whether an answer or only a count is asked for.
pub(super) fn hear(mut fields: Fields, max_output_tokens: Option<u32>) -> Result<Heard, BadRequest> {
    let mut notes = Notes::default();
    let ask = Ask {
        model: take_model(&mut fields)?,
        input: Input::Chat(take_chat(&mut fields, &mut notes)?),
        max_output_tokens,
        sampling: take_sampling(&mut fields)?,
        stop: take_stop(&mut fields)?,
        logprobs: None,
        choices: 1,
        stream: fields.flag("stream")?,
        stream_usage: false,
        echo: false,
        ignore_eos: false,
        user: None,
        service_tier: take_tier(&mut fields)?,
        cache_key: None,
    };
    let (user, labels) = take_metadata(&mut fields);
    notes.ignore_left(fields);
    let ask = Ask { user, ..ask };
    Ok(Heard { ask, labels, ignored: notes.ignored, form: Arc::new(MessagesForm) })
}

fn take_chat(fields: &mut Fields, notes: &mut Notes) -> Result<Chat, BadRequest> {
    let mut messages: Vec<ChatMessage> = take_system(fields, notes)?.into_iter().collect();
    take_messages(fields, notes, &mut messages)?;
    let mut tools = take_tools(fields, notes)?;
    let (tool_choice, parallel_tool_calls) = take_choice(fields)?;
    let (reasoning, format) = take_reasoning(fields, notes)?;
    if let Some(mark) = take_cache(fields)? {
        mark_last(&mut messages, mark);
    }
    tools.extend(take_only_here(fields, notes));
    let format = format.unwrap_or(AnswerFormat::Text);
    Ok(Chat { messages, tools, tool_choice, parallel_tool_calls, format, reasoning, ..Chat::default() })
}

/// A mark on the whole request is one on the last part that can have any.
fn mark_last(messages: &mut [ChatMessage], mark: CacheMark) {
    let mut parts = messages.iter_mut().rev().flat_map(|message| message.parts.iter_mut().rev());
    let _ = parts.any(|part: &mut Part| put_mark(part, mark));
}

fn take_only_here(fields: &mut Fields, notes: &mut Notes) -> Option<Tool> {
    for name in ONLY_HERE {
        let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        if fields.take(name).is_some_and(|value| !is_empty(&value)) {
            notes.only_here(name.to_owned());
        }
    }
    (!notes.only_here.is_empty()).then(|| only_here(&notes.only_here))
}

fn take_model(fields: &mut Fields) -> Result<ModelName, BadRequest> {
    let name = fields.required_text("model")?;
    if name.is_empty() {
        let message = "Invalid 'model': empty string. Expected the name of a model; see GET /v1/models.";
        return Err(BadRequest::new(message).at("model").code("empty_string"));
    }
    Ok(name.as_str().into())
}

fn take_sampling(fields: &mut Fields) -> Result<SamplingWish, BadRequest> {
    Ok(SamplingWish {
        temperature: fields.decimal("temperature", 0.0, 1.0)?,
        top_p: fields.positive("top_p", 1.0)?,
        top_k: fields.integer("top_k", 0, i64::from(u32::MAX))?.map(|top_k| top_k as u32),
        ..SamplingWish::default()
    })
}

fn take_stop(fields: &mut Fields) -> Result<Vec<String>, BadRequest> {
    let list = fields.list("stop_sequences")?.unwrap_or_default();
    if list.len() > STOPS_MAX {
        let message = format!(
            "Invalid 'stop_sequences': {} are more than the {STOPS_MAX} that a request may have.",
            list.len()
        );
        return Err(BadRequest::new(message).at("stop_sequences").code("array_above_max_length"));
    }
    let check = |(index, stop): (usize, Value)| {
        let place = format!("stop_sequences[{index}]");
        match stop {
            Value::String(stop) if (1..=STOP_BYTES_MAX).contains(&stop.len()) => Ok(stop),
            Value::String(stop) => Err(BadRequest::new(format!(
                "Invalid '{place}': expected 1 to {STOP_BYTES_MAX} bytes, but got {}.",
                stop.len()
            ))
            .at(place)
            .code("invalid_value")),
            other => Err(wrong_type(&place, "a string", &other)),
        }
    };
    list.into_iter().enumerate().map(check).collect()
}

/// `auto` leaves it to the route, as it leaves it to Anthropic. Its fast mode is what others call priority.
fn take_tier(fields: &mut Fields) -> Result<Option<ServiceTier>, BadRequest> {
    let tier = match fields.text("service_tier")?.as_deref() {
        None | Some("auto") => None,
        Some("standard_only") => Some(ServiceTier::Standard),
        Some(tier) => return Err(wrong_value("service_tier", tier, "'auto' and 'standard_only'")),
    };
    match fields.text("speed")?.as_deref() {
        None | Some("standard") => Ok(tier),
        Some("fast") => Ok(Some(ServiceTier::Priority)),
        Some(speed) => Err(wrong_value("speed", speed, "'standard' and 'fast'")),
    }
}

/// Takes `metadata`: whom the request is for, and the session that coding agents name in the same breath.
fn take_metadata(fields: &mut Fields) -> (Option<String>, Labels) {
    let user = fields.peek("metadata").and_then(|metadata| metadata["user_id"].as_str()).map(str::to_owned);
    let mut labels = Labels::take(fields);
    if let Some(user) = &user {
        fields.take("metadata");
        if let Some(session) = session_of(user).filter(|_| labels.get("metadata.session_id").is_none()) {
            labels.insert("metadata.session_id", &session);
        }
    }
    (user, labels)
}

/// `user_…_session_…`, or JSON with a `session_id`.
fn session_of(user: &str) -> Option<String> {
    let of_json = || serde_json::from_str::<Value>(user).ok()?["session_id"].as_str().map(str::to_owned);
    let of_name = || user.rsplit_once("_session_").map(|(_, session)| session.to_owned());
    let is_label = |session: &String| (1..=256).contains(&session.len());
    of_json().or_else(of_name).filter(is_label)
}
