//! How is an ask said in a request for a response?

use serde_json::{Map, Value, json};

use domain::{AnswerFormat, Ask, Chat, Input, Part, Tool, ToolChoice};

use super::{DIALECT, written};
use crate::openai::chat::effort;
use crate::openai::generation::number;
use crate::openai::tier;
use crate::{Target, Untellable};

/// Returns the request's body. Nothing is kept at the upstream: this server keeps what is to be kept.
pub(super) fn body(ask: &Ask, target: &Target<'_>) -> Result<Vec<u8>, Untellable> {
    let Input::Chat(chat) = &ask.input else {
        return Err(untellable("prompt", "this upstream continues conversations"));
    };
    check(ask)?;
    let tools = tools(chat)?;
    let has_tools = !tools.is_empty();
    let mut body = Map::new();
    let mut say = |name: &str, value: Option<Value>| {
        body.extend(value.map(|value| (name.to_owned(), value)));
    };
    say("model", Some(json!(target.model)));
    say("input", Some(written::to_input(&chat.messages)?));
    say("tools", has_tools.then_some(Value::Array(tools)));
    say("tool_choice", tool_choice(chat).filter(|_| has_tools));
    say("parallel_tool_calls", chat.parallel_tool_calls.filter(|_| has_tools).map(Value::from));
    say("text", format(&chat.format).map(|format| json!({"format": format})));
    say("reasoning", reasoning(chat));
    say("include", include(ask, chat));
    say("max_output_tokens", ask.max_output_tokens.map(Value::from));
    say("temperature", ask.sampling.temperature.map(number));
    say("top_p", ask.sampling.top_p.map(number));
    say("top_logprobs", ask.logprobs.filter(|top| *top > 0).map(Value::from));
    say("user", ask.user.as_ref().map(|user| json!(user)));
    say("service_tier", ask.service_tier.map(|service_tier| json!(tier::word(service_tier))));
    say("prompt_cache_key", ask.cache_key.as_ref().map(|key| json!(key)));
    say("store", Some(json!(false)));
    say("stream", target.stream.then_some(json!(true)));
    Ok(crate::openai::stream::json(&body))
}

fn untellable(what: &str, why: &str) -> Untellable {
    Untellable { what: what.to_owned(), why: why.to_owned() }
}

/// The dialect has fewer words than the older one.
fn check(ask: &Ask) -> Result<(), Untellable> {
    let sampling = &ask.sampling;
    let is_set = |penalty: Option<f32>| penalty.is_some_and(|penalty| penalty != 0.0);
    let beyond = [
        ("n", ask.choices > 1),
        ("stop", !ask.stop.is_empty()),
        ("seed", sampling.seed.is_some()),
        ("logit_bias", sampling.logit_bias.as_ref().is_some_and(|biases| !biases.is_empty())),
        ("presence_penalty", is_set(sampling.presence_penalty)),
        ("frequency_penalty", is_set(sampling.frequency_penalty)),
        ("top_k", sampling.top_k.is_some_and(|top_k| top_k > 0)),
        ("min_p", is_set(sampling.min_p)),
        ("repetition_penalty", sampling.repetition_penalty.is_some_and(|penalty| penalty != 1.0)),
        ("ignore_eos", ask.ignore_eos),
    ];
    match beyond.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((what, _)) => Err(untellable(what, "the Responses API has no such parameter")),
        None => Ok(()),
    }
}

fn tools(chat: &Chat) -> Result<Vec<Value>, Untellable> {
    let say = |(place, tool): (usize, &Tool)| match tool {
        Tool::Native { dialect: DIALECT, tool } => Ok(tool.clone()),
        Tool::Native { dialect, .. } => Err(untellable(
            &format!("tools[{place}]"),
            &format!("it is a tool of {dialect}, and runs only there"),
        )),
        Tool::Function { name, description, parameters, strict, .. } => {
            let mut wire = json!({"type": "function", "name": name, "parameters": parameters});
            if let Some(description) = description {
                wire["description"] = json!(description);
            }
            // Here a schema is strict unless it says otherwise, which chat's schemas are not made for.
            wire["strict"] = json!(strict.unwrap_or(false));
            Ok(wire)
        }
    };
    chat.tools.iter().enumerate().map(say).collect()
}

fn tool_choice(chat: &Chat) -> Option<Value> {
    match &chat.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(json!("none")),
        ToolChoice::Required => Some(json!("required")),
        ToolChoice::Named(name) => {
            let is_it = |tool: &&Tool| tool.name() == Some(name);
            Some(match chat.tools.iter().find(is_it) {
                Some(Tool::Function { .. }) => json!({"type": "function", "name": name}),
                Some(Tool::Native { tool, .. }) => json!({"type": tool["type"], "name": name}),
                None => json!({"type": name}),
            })
        }
    }
}

fn format(format: &AnswerFormat) -> Option<Value> {
    match format {
        AnswerFormat::Text => None,
        AnswerFormat::JsonObject => Some(json!({"type": "json_object"})),
        AnswerFormat::JsonSchema { name, description, schema, strict } => {
            let mut wire = json!({"type": "json_schema", "name": name, "schema": schema});
            if let Some(description) = description {
                wire["description"] = json!(description);
            }
            if let Some(strict) = strict {
                wire["strict"] = json!(strict);
            }
            Some(wire)
        }
    }
}

fn reasoning(chat: &Chat) -> Option<Value> {
    let wish = chat.reasoning.as_ref()?;
    let said = [("effort", effort(wish)), ("summary", wish.summary.clone())];
    let said = said.into_iter().filter_map(|(name, word)| Some((name.to_owned(), json!(word?))));
    Some(Value::Object(said.collect()))
}

/// Because nothing is kept there, what the model thought must come along to be given back. Models that do not think refuse to.
fn include(ask: &Ask, chat: &Chat) -> Option<Value> {
    let has_proof = |part: &Part| matches!(part, Part::Reasoning(known) if known.proof.is_some());
    let thinks =
        chat.reasoning.is_some() || chat.messages.iter().any(|message| message.parts.iter().any(has_proof));
    let wanted = [
        thinks.then_some("reasoning.encrypted_content"),
        ask.logprobs.map(|_| "message.output_text.logprobs"),
    ];
    let wanted: Vec<&str> = wanted.into_iter().flatten().collect();
    (!wanted.is_empty()).then(|| json!(wanted))
}
