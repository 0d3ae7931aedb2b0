//! What does a request for a response ask for?
//!
//! **Accepted without any effect** on a model that does not speak this dialect itself: `truncation`, `include`, `max_tool_calls`,
//! `text.verbosity`, `safety_identifier`, and every field that is not known; [`Heard::ignored`] lists them. **Refused by name**:
//! `background`, because nobody would be there to ask for it, and `prompt`, which only OpenAI keeps.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use domain::{Ask, Chat, ChatMessage, Input, Role, Tool, ToolChoice};

use super::{Continuation, DIALECT, ResponsesForm, object, to_messages};
use crate::openai::generation::{empty, take_max_tokens, take_model, take_sampling, too_long};
use crate::openai::tools::{TOOLS_MAX, keep_allowed, read_function, read_mode};
use crate::openai::wishes::{read_format, take_reasoning, take_tier};
use crate::read::{Fields, wrong_type};
use crate::{BadRequest, Heard, Labels};

/// An agent's whole day has some thousand items.
const ITEMS_MAX: usize = 32_768;

/// Reads a request, and what it says about the turns before it.
pub fn read(body: &[u8]) -> Result<(Heard, Continuation), BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.refuse(&[
        ("background", "Answers are given while the client waits; leave it out or use 'stream'."),
        ("prompt", "Prompts that OpenAI keeps are not known here; send 'instructions' and 'input'."),
    ])?;
    let echo = object::echo(&fields);
    let model = take_model(&mut fields)?.ok_or_else(|| fields.missing("model"))?;
    let mut continuation = take_continuation(&mut fields)?;
    let mut messages = take_instructions(&mut fields)?;
    continuation.instructions = messages.len();
    messages.extend(to_messages("input", &continuation.input_items)?);
    let ask = Ask {
        model,
        max_output_tokens: take_max_tokens(&mut fields, "max_output_tokens", 1)?,
        sampling: take_sampling(&mut fields)?,
        stop: Vec::new(),
        logprobs: take_logprobs(&mut fields)?,
        choices: 1,
        stream: fields.flag("stream")?,
        stream_usage: true,
        echo: false,
        ignore_eos: fields.flag("ignore_eos")?,
        user: fields.text("user")?,
        service_tier: take_tier(&mut fields)?,
        cache_key: fields.text("prompt_cache_key")?,
        input: Input::Chat(take_chat(&mut fields, messages)?),
    };
    let form = Arc::new(ResponsesForm { echo });
    let heard = Heard { ask, labels: Labels::take(&mut fields), ignored: fields.left(), form };
    Ok((heard, continuation))
}

fn take_continuation(fields: &mut Fields) -> Result<Continuation, BadRequest> {
    let previous_response_id = fields.text("previous_response_id")?;
    let conversation = match fields.take("conversation") {
        None => None,
        Some(Value::String(id)) => Some(id),
        Some(other) => Some(Fields::of("conversation", other)?.required_text("id")?),
    };
    if previous_response_id.is_some() && conversation.is_some() {
        let message = "Setting 'previous_response_id' and 'conversation' at the same time is not supported.";
        return Err(BadRequest::new(message).at("conversation").code("invalid_parameter_combination"));
    }
    let input_items = match fields.take("input") {
        None if previous_response_id.is_some() => Vec::new(),
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => vec![json!({"type": "message", "role": "user", "content": text})],
        Some(Value::Array(items)) if items.is_empty() && previous_response_id.is_none() => {
            return Err(empty("input"));
        }
        Some(Value::Array(items)) if items.len() > ITEMS_MAX => {
            return Err(too_long("input", ITEMS_MAX, items.len()));
        }
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("input", "a string or an array of items", &other)),
    };
    let store = fields.optional_flag("store")?.unwrap_or(true);
    Ok(Continuation { previous_response_id, conversation, store, input_items, instructions: 0 })
}

fn take_instructions(fields: &mut Fields) -> Result<Vec<ChatMessage>, BadRequest> {
    match fields.take("instructions") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![ChatMessage::of_text(Role::System, text)]),
        Some(Value::Array(items)) => to_messages("instructions", &items),
        Some(other) => Err(wrong_type("instructions", "a string", &other)),
    }
}

/// They are reported where either field asks for them.
fn take_logprobs(fields: &mut Fields) -> Result<Option<u8>, BadRequest> {
    let included = fields.peek("include").and_then(Value::as_array);
    let is_included = included.is_some_and(|all| all.iter().any(|one| one == "message.output_text.logprobs"));
    let top = fields.integer("top_logprobs", 0, 20)?.map(|top| top as u8);
    Ok(match is_included {
        true => Some(top.unwrap_or(0)),
        false => top.filter(|top| *top > 0),
    })
}

fn take_chat(fields: &mut Fields, messages: Vec<ChatMessage>) -> Result<Chat, BadRequest> {
    let (tools, tool_choice) = take_tools(fields)?;
    let format = match fields.object("text")? {
        Some(mut text) => text.take("format"),
        None => None,
    };
    let format = format.map(|format| read_format("text.format", format, true)).transpose()?;
    Ok(Chat {
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: fields.optional_flag("parallel_tool_calls")?,
        format: format.unwrap_or_default(),
        reasoning: take_reasoning(fields)?,
        template_variables: fields.object("chat_template_kwargs")?.map_or_else(Map::new, Fields::into_map),
    })
}

fn take_tools(fields: &mut Fields) -> Result<(Vec<Tool>, ToolChoice), BadRequest> {
    let tools = fields.list("tools")?.unwrap_or_default();
    if tools.len() > TOOLS_MAX {
        return Err(too_long("tools", TOOLS_MAX, tools.len()));
    }
    let read = |(index, tool): (usize, Value)| {
        let mut fields = Fields::of(&format!("tools[{index}]"), tool.clone())?;
        match fields.required_text("type")?.as_str() {
            "function" => read_function(fields, None),
            _ => Ok(Tool::Native { dialect: DIALECT, tool }),
        }
    };
    let mut tools: Vec<Tool> = tools.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let choice = take_choice(fields, &mut tools)?;
    Ok((tools, choice))
}

fn take_choice(fields: &mut Fields, tools: &mut Vec<Tool>) -> Result<ToolChoice, BadRequest> {
    let choice = match fields.take("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(mode)) => return read_mode("tool_choice", &mode),
        Some(choice @ Value::Object(_)) => choice,
        Some(other) => return Err(wrong_type("tool_choice", "a string or an object", &other)),
    };
    let mut choice = Fields::of("tool_choice", choice)?;
    match choice.required_text("type")?.as_str() {
        "function" | "custom" => choice.required_text("name").map(ToolChoice::Named),
        "allowed_tools" => {
            let allowed = choice.list("tools")?.unwrap_or_default();
            let name = |tool: &Value| tool["name"].as_str().map(str::to_owned);
            keep_allowed(tools, &allowed.iter().filter_map(name).collect::<Vec<_>>());
            let mode = choice.text("mode")?;
            read_mode("tool_choice.mode", mode.as_deref().unwrap_or("auto"))
        }
        // A tool that the provider runs is named by its type.
        kind => Ok(ToolChoice::Named(kind.to_owned())),
    }
}
