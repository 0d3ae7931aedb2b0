//! How is an ask written as a Messages request?
//!
//! What this dialect has no words for is refused by name, never dropped; only hints are (`cache_key`, a participant's name, a
//! JSON Schema's name and description). Where models differ, [`Model`] knows how.

use serde::Serialize;
use serde_json::{Map, Value, json};

use domain::{AnswerFormat, Ask, Chat, Input, SamplingWish, ServiceTier, Tool, ToolChoice};

use super::DIALECT;
use super::blocks::{Message, Written, untellable};
use super::model::{Model, SamplingTaken};
use super::tools::{is_name, kept_here};
use super::wire::{Block, Cache};
use crate::{Target, Untellable};

mod reasoning;

use reasoning::{Thinking, think};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    output_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

/// Returns the request's body, and whether it names files that the provider keeps.
pub(super) fn write(ask: &Ask, target: &Target<'_>) -> Result<(Vec<u8>, bool), Untellable> {
    let Input::Chat(chat) = &ask.input else {
        return Err(untellable("prompt", "it continues conversations only"));
    };
    refuse_unknown(ask, chat)?;
    let model = Model::named(target.model);
    let max_tokens = ask.max_output_tokens.unwrap_or_else(|| model.output_tokens());
    let written = Written::of(&chat.messages)?;
    let tools = chat.tools.iter().enumerate().map(|(index, tool)| write_tool(index, tool));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    let tool_choice = write_choice(chat);
    let is_forced = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let (thinking, effort) = think(chat.reasoning.as_ref(), model, max_tokens, is_forced)?;
    let (temperature, top_p, top_k) = sample(&ask.sampling, model, thinking.as_ref())?;
    let mut output_config = Map::new();
    output_config.extend(effort.map(|effort| ("effort".to_owned(), json!(effort))));
    output_config.extend(write_format(&chat.format)?.map(|format| ("format".to_owned(), format)));
    let request = Request {
        model: target.model,
        max_tokens,
        system: written.system,
        messages: written.messages,
        tools,
        tool_choice,
        thinking,
        output_config,
        temperature,
        top_p,
        top_k,
        stop_sequences: &ask.stop,
        metadata: ask.user.as_ref().map(|user| json!({"user_id": user})),
        service_tier: write_tier(ask.service_tier)?,
        stream: target.stream,
    };
    Ok((super::wire::json(&request), written.has_files))
}

fn refuse_unknown(ask: &Ask, chat: &Chat) -> Result<(), Untellable> {
    let sampling = &ask.sampling;
    let is_set = |value: Option<f32>, neutral: f32| value.is_some_and(|value| value != neutral);
    let unknown = [
        ("n", ask.choices > 1),
        ("logprobs", ask.logprobs.is_some()),
        ("ignore_eos", ask.ignore_eos),
        ("echo", ask.echo),
        ("seed", sampling.seed.is_some()),
        ("logit_bias", sampling.logit_bias.as_ref().is_some_and(|biases| !biases.is_empty())),
        ("min_p", is_set(sampling.min_p, 0.0)),
        ("repetition_penalty", is_set(sampling.repetition_penalty, 1.0)),
        ("presence_penalty", is_set(sampling.presence_penalty, 0.0)),
        ("frequency_penalty", is_set(sampling.frequency_penalty, 0.0)),
        ("chat_template_kwargs", !chat.template_variables.is_empty()),
    ];
    match unknown.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((name, _)) => Err(untellable(name, "Anthropic's dialect has no such field")),
        None => Ok(()),
    }
}

/// Returns `temperature`, `top_p` and `top_k`. A default may stay unsaid where saying it is refused; anything else is refused
/// here, by its name.
fn sample(
    wish: &SamplingWish,
    model: Model,
    thinking: Option<&Thinking>,
) -> Result<(Option<f32>, Option<f32>, Option<u32>), Untellable> {
    let (temperature, top_p) = (wish.temperature, wish.top_p);
    let top_k = wish.top_k.filter(|top_k| *top_k > 0);
    if temperature.is_some_and(|temperature| temperature > 1.0) {
        return Err(untellable("temperature", "it goes up to 1"));
    }
    let is_thinking = matches!(thinking, Some(Thinking::Enabled { .. } | Thinking::Adaptive { .. }));
    let taken = model.sampling();
    if taken == SamplingTaken::All && !is_thinking {
        return Ok((temperature, top_p, top_k));
    }
    let asked = (temperature.filter(|value| *value != 1.0), top_p.filter(|value| *value != 1.0));
    let why = if is_thinking { "it is fixed while thinking" } else { "this model takes the default only" };
    let is_free = taken != SamplingTaken::None && !is_thinking;
    match (asked, top_k) {
        ((None, None), None) => Ok((None, None, None)),
        ((Some(_), Some(_)), _) if is_free => {
            Err(untellable("top_p", "this model takes 'temperature' or 'top_p', not both"))
        }
        ((temperature, top_p), top_k) if is_free => Ok((temperature, top_p, top_k)),
        ((Some(_), _), _) => Err(untellable("temperature", why)),
        ((_, Some(_)), _) => Err(untellable("top_p", why)),
        (_, Some(_)) => Err(untellable("top_k", why)),
    }
}

fn write_tool(index: usize, tool: &Tool) -> Result<Value, Untellable> {
    match tool {
        Tool::Native { dialect, tool } if *dialect == DIALECT => match kept_here(tool) {
            Some(places) => Err(untellable(places, "it can only be passed on as the client wrote it")),
            None => Ok(tool.clone()),
        },
        Tool::Native { dialect, .. } => {
            Err(untellable(&format!("tools[{index}]"), &format!("it is a tool of {dialect}")))
        }
        Tool::Function { name, .. } if !is_name(name) => Err(untellable(
            &format!("tools[{index}].name"),
            "a name has 1 to 128 letters, digits, underscores and dashes",
        )),
        Tool::Function { name, description, parameters, strict, cache } => {
            let mut tool = Map::from_iter([("name".to_owned(), json!(name))]);
            let said = [
                ("description", description.as_ref().map(|text| json!(text))),
                ("input_schema", Some(write_schema(parameters.as_ref()))),
                ("strict", strict.map(|strict| json!(strict))),
                ("cache_control", cache.map(|mark| json!(Cache::from(mark)))),
            ];
            tool.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            Ok(Value::Object(tool))
        }
    }
}

/// A schema must be there and say that it is an object's.
fn write_schema(parameters: Option<&Value>) -> Value {
    match parameters {
        Some(Value::Object(schema)) if schema.contains_key("type") => Value::Object(schema.clone()),
        Some(Value::Object(schema)) => {
            let kind = ("type".to_owned(), json!("object"));
            Value::Object(std::iter::once(kind).chain(schema.clone()).collect())
        }
        _ => json!({"type": "object", "properties": {}}),
    }
}

/// A choice is only allowed beside tools; the defaults stay unsaid.
fn write_choice(chat: &Chat) -> Option<Value> {
    if chat.tools.is_empty() {
        return None;
    }
    let mut choice = match &chat.tool_choice {
        ToolChoice::Auto if chat.parallel_tool_calls.is_none() => return None,
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => return Some(json!({"type": "none"})),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
    };
    if let Some(parallel) = chat.parallel_tool_calls {
        choice["disable_parallel_tool_use"] = json!(!parallel);
    }
    Some(choice)
}

/// A schema always binds here, so one that shall not bind strictly binds all the same.
fn write_format(format: &AnswerFormat) -> Result<Option<Value>, Untellable> {
    match format {
        AnswerFormat::Text => Ok(None),
        AnswerFormat::JsonSchema { schema, .. } => {
            Ok(Some(json!({"type": "json_schema", "schema": schema})))
        }
        AnswerFormat::JsonObject => Err(untellable(
            "response_format",
            "it has no 'json_object'; use 'json_schema' and say which fields there are",
        )),
    }
}

fn write_tier(tier: Option<ServiceTier>) -> Result<Option<&'static str>, Untellable> {
    match tier {
        None => Ok(None),
        Some(ServiceTier::Standard) => Ok(Some("standard_only")),
        // What was bought is used before what is not; the answer says which one it was.
        Some(ServiceTier::Priority) => Ok(Some("auto")),
        Some(tier @ (ServiceTier::Flex | ServiceTier::Batch)) => {
            Err(untellable("service_tier", &format!("it has no tier '{tier}' for single requests")))
        }
    }
}
