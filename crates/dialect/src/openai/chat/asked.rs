//! How is an ask said in a chat request?

use serde_json::{Map, Value, json};

use domain::{AnswerFormat, Ask, Chat, Input, ReasoningWish, Tool, ToolChoice};

use super::DIALECT;
use crate::openai::generation;
use crate::openai::messages::written::to_wire;
use crate::openai::wire::Manner;
use crate::{Target, Untellable};

/// The place of a native tool that is no entry of `tools` but a field of its own.
pub(in crate::openai) const WEB_SEARCH: &str = "web_search_options";

/// Returns the request's body.
pub(super) fn body(ask: &Ask, target: &Target<'_>, manner: &Manner) -> Result<Vec<u8>, Untellable> {
    let Input::Chat(chat) = &ask.input else {
        let why = "this upstream continues conversations".to_owned();
        return Err(Untellable { what: "prompt".to_owned(), why });
    };
    check(ask, chat, manner)?;
    let tools = tools(chat, manner)?;
    let mut body = Map::new();
    let mut say = |name: &str, value: Option<Value>| {
        body.extend(value.map(|value| (name.to_owned(), value)));
    };
    say("model", Some(json!(target.model)));
    say("messages", Some(to_wire(&chat.messages, manner)?));
    let has_tools = !tools.is_empty();
    say("tools", has_tools.then_some(Value::Array(tools)));
    say(WEB_SEARCH, web_search(chat));
    say("tool_choice", tool_choice(&chat.tool_choice).filter(|_| has_tools));
    say("parallel_tool_calls", chat.parallel_tool_calls.filter(|_| has_tools).map(Value::from));
    say("response_format", format(&chat.format));
    say("reasoning_effort", chat.reasoning.as_ref().and_then(effort).map(Value::from));
    let max_tokens = if manner.is_compatible { "max_tokens" } else { "max_completion_tokens" };
    say(max_tokens, ask.max_output_tokens.map(Value::from));
    say("logprobs", ask.logprobs.map(|_| json!(true)));
    say("top_logprobs", ask.logprobs.filter(|top| *top > 0).map(Value::from));
    let variables = Some(&chat.template_variables).filter(|variables| !variables.is_empty());
    say("chat_template_kwargs", variables.map(|variables| Value::Object(variables.clone())));
    generation::say(ask, target, manner, &mut say);
    Ok(super::super::stream::json(&body))
}

/// What OpenAI itself has no field for would be refused there, in words that do not help the client.
fn check(ask: &Ask, chat: &Chat, manner: &Manner) -> Result<(), Untellable> {
    if manner.is_compatible {
        return Ok(());
    }
    let sampling = &ask.sampling;
    let beyond = [
        ("top_k", sampling.top_k.is_some_and(|top_k| top_k > 0)),
        ("min_p", sampling.min_p.is_some_and(|min_p| min_p > 0.0)),
        ("repetition_penalty", sampling.repetition_penalty.is_some_and(|penalty| penalty != 1.0)),
        ("ignore_eos", ask.ignore_eos),
        ("chat_template_kwargs", !chat.template_variables.is_empty()),
    ];
    match beyond.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((what, _)) => {
            Err(Untellable { what: what.to_owned(), why: "OpenAI has no such parameter".to_owned() })
        }
        None => Ok(()),
    }
}

fn tools(chat: &Chat, manner: &Manner) -> Result<Vec<Value>, Untellable> {
    let mut tools = Vec::new();
    for (place, tool) in chat.tools.iter().enumerate() {
        match tool {
            Tool::Native { dialect, .. } if *dialect != DIALECT => {
                let why = format!("it is a tool of {dialect}, and runs only there");
                return Err(Untellable { what: format!("tools[{place}]"), why });
            }
            Tool::Native { tool, .. } if tool["type"] == WEB_SEARCH => {}
            Tool::Function { cache: Some(mark), .. } if manner.is_compatible => {
                let mut wire = tool.to_openai();
                wire["cache_control"] = crate::openai::cache_mark::to_wire(*mark);
                tools.push(wire);
            }
            tool => tools.push(tool.to_openai()),
        }
    }
    Ok(tools)
}

fn web_search(chat: &Chat) -> Option<Value> {
    chat.tools.iter().find_map(|tool| match tool {
        Tool::Native { dialect: DIALECT, tool } => tool.get(WEB_SEARCH).cloned(),
        _ => None,
    })
}

fn tool_choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(json!("none")),
        ToolChoice::Required => Some(json!("required")),
        ToolChoice::Named(name) => Some(json!({"type": "function", "function": {"name": name}})),
    }
}

fn format(format: &AnswerFormat) -> Option<Value> {
    match format {
        AnswerFormat::Text => None,
        AnswerFormat::JsonObject => Some(json!({"type": "json_object"})),
        AnswerFormat::JsonSchema { name, description, schema, strict } => {
            let mut wire = Map::from_iter([("name".to_owned(), json!(name))]);
            wire.extend(description.as_ref().map(|text| ("description".to_owned(), json!(text))));
            wire.insert("schema".to_owned(), schema.clone());
            wire.extend(strict.map(|strict| ("strict".to_owned(), json!(strict))));
            Some(json!({"type": "json_schema", "json_schema": wire}))
        }
    }
}

/// Returns how hard to think, in OpenAI's words. A budget of tokens, which it does not know, is said as the word whose usual
/// length is nearest.
pub(in crate::openai) fn effort(wish: &ReasoningWish) -> Option<String> {
    let of_budget = |tokens: u32| match tokens {
        0 => "none",
        1..=1_024 => "minimal",
        1_025..=4_096 => "low",
        4_097..=16_384 => "medium",
        _ => "high",
    };
    wish.effort.clone().or_else(|| wish.budget_tokens.map(|tokens| of_budget(tokens).to_owned()))
}
