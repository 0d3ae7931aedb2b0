//! Responses: what is understood, and what does the finished response object say?

use base64::Engine as _;
use serde_json::{Value, json};

use super::chat::check_name;
use super::responses_shape::REQUEST;
use super::responses_stream;
use super::{is_reasoning_model, now};
use crate::standin::behaviour::UsageQuirk;
use crate::standin::check::{Problem, Step, check, key};
use crate::standin::mind::{Ending, Said, logprob, sign, think};
use crate::standin::prompt::{Choice, Format, Media, Prompt, Tally};
use crate::standin::reply::{Reply, Trouble};
use crate::standin::server::{Context, format_of};

/// One answer, and everything that its many envelopes repeat.
pub struct Response<'a> {
    body: &'a Value,
    id: String,
    created_at: i64,
    pub items: Vec<Value>,
    pub said: Said,
    tally: Tally,
    quirk: UsageQuirk,
}

pub fn answer(body: &Value, context: &mut Context<'_>) -> Result<Reply, Trouble> {
    let mut body = body.clone();
    // A message may leave its type unsaid.
    for item in body["input"].as_array_mut().into_iter().flatten() {
        if let Some(map) = item.as_object_mut().filter(|map| map.contains_key("role")) {
            map.entry("type").or_insert_with(|| json!("message"));
        }
    }
    check(&body, &REQUEST)?;
    let model = body["model"].as_str().expect("the shape says so");
    check_fields(&body, model)?;
    let prompt = read(&body, model)?;
    context.check_length(&prompt)?;
    let said = think(&prompt, 0);
    let scope = format!("{model} {}", body["prompt_cache_key"].as_str().unwrap_or_default());
    let found = context.cache.by_itself(&scope, &prompt.pieces, context.behaviour.cache);
    let (output, reasoning) = (said.output_tokens(), said.reasoning.len() as u64);
    let tally = Tally {
        input_uncached: found.uncached,
        cache_read: found.read,
        output,
        reasoning,
        ..Tally::default()
    };
    let items = items(&body, &said, context);
    let response = Response {
        body: &body,
        id: context.id("resp_", 2, 48),
        created_at: now(),
        items,
        said,
        tally: context.reported(tally),
        quirk: context.plan.usage(),
    };
    let reply = match body["stream"].as_bool() {
        Some(true) => Reply::stream(responses_stream::stream(&response)),
        _ => Reply::json(200, &response.finished()),
    };
    Ok(reply.counted(tally))
}

fn check_fields(body: &Value, model: &str) -> Result<(), Problem> {
    let given = |name: &str| !body[name].is_null();
    let rule = |name: &str, text: String| Err(Problem::rule([key(name)], text));
    if let Some(id) = body["previous_response_id"].as_str() {
        return rule("previous_response_id", format!("Previous response with id '{id}' not found."));
    }
    if is_reasoning_model(model) {
        for name in ["temperature", "top_p"] {
            if body[name].as_f64().is_some_and(|value| value != 1.0) {
                return rule(
                    name,
                    format!("Unsupported parameter: '{name}' is not supported with this model."),
                );
            }
        }
    } else if body["reasoning"].as_object().is_some_and(|map| map.values().any(|value| !value.is_null())) {
        return rule(
            "reasoning",
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.".into(),
        );
    }
    if given("stream_options") && body["stream"] != json!(true) {
        return rule(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.".into(),
        );
    }
    if given("tool_choice")
        && !given("tools")
        && body["tool_choice"] != "auto"
        && body["tool_choice"] != "none"
    {
        return rule("tool_choice", "Tool choice is only allowed when 'tools' are specified.".into());
    }
    if body["text"]["format"]["type"] == "json_object"
        && !body["input"].to_string().to_lowercase().contains("json")
    {
        let text = "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.";
        return rule("input", text.into());
    }
    Ok(())
}

fn read(body: &Value, model: &str) -> Result<Prompt, Trouble> {
    let mut prompt = Prompt {
        max_tokens: body["max_output_tokens"].as_u64(),
        one_call_only: body["parallel_tool_calls"] == json!(false),
        thinks: is_reasoning_model(model) && body["reasoning"]["effort"] != "none",
        ..Prompt::default()
    };
    for tool in body["tools"].as_array().into_iter().flatten() {
        let name = tool["name"].as_str().unwrap_or_default();
        check_name(name, "tools")?;
        prompt.offer(name, tool["parameters"].clone(), tool);
    }
    prompt.choice = match &body["tool_choice"] {
        choice if choice == "none" => Choice::None,
        choice if choice == "required" => Choice::Any,
        choice => choice["name"].as_str().map_or(Choice::Auto, |name| Choice::Named(name.to_owned())),
    };
    prompt.format = match &body["text"]["format"] {
        format if format["type"] == "json_schema" => format_of(format.get("schema")),
        format if format["type"] == "json_object" => Format::Object,
        _ => Format::Text,
    };
    if let Some(text) = body["instructions"].as_str() {
        prompt.instruct(text);
    }
    let single = [json!({"type": "message", "role": "user", "content": body["input"]})];
    let items = body["input"].as_array().map_or(&single[..], |items| items);
    let mut calls: Vec<&str> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let rule = |text: String| Trouble::of(Problem::rule([key("input"), Step::Place(place)], text));
        let call_id = item["call_id"].as_str().unwrap_or_default();
        match item["type"].as_str().unwrap_or_default() {
            "function_call" => {
                prompt.say(item["arguments"].as_str().unwrap_or_default());
                calls.push(call_id);
            }
            "function_call_output" => {
                let Some(found) = calls.iter().position(|known| *known == call_id) else {
                    return Err(rule(format!(
                        "No tool call found for function call output with call_id {call_id}."
                    )));
                };
                calls.remove(found);
                let text = text_of(&item["output"]);
                prompt.say(&*text);
                prompt.tool_results.push(text);
            }
            "reasoning" => check_seal(item).map_err(rule)?,
            _ => read_message(item, place, &mut prompt)?,
        }
    }
    match calls.first() {
        Some(call_id) => {
            let text = format!("No tool output found for function call {call_id}.");
            Err(Problem::rule([key("input")], text).into())
        }
        None => Ok(prompt),
    }
}

fn read_message(item: &Value, place: usize, prompt: &mut Prompt) -> Result<(), Trouble> {
    let role = item["role"].as_str().unwrap_or_default();
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    let single = [json!({"type": kind, "text": item["content"]})];
    let parts = item["content"].as_array().map_or(&single[..], |parts| parts);
    if role == "user" {
        prompt.turn();
    }
    for (number, part) in parts.iter().enumerate() {
        let at = [key("input"), Step::Place(place), key("content"), Step::Place(number)];
        let text = part["text"].as_str().or(part["refusal"].as_str()).unwrap_or_default();
        let media = match (role, part["type"].as_str().unwrap_or_default()) {
            ("assistant", "output_text" | "refusal") => {
                prompt.say(text);
                continue;
            }
            ("assistant", other) => {
                let text =
                    format!("Invalid value: '{other}'. Supported values are: 'output_text' and 'refusal'.");
                return Err(Problem::rule(at, text).into());
            }
            (_, other @ ("output_text" | "refusal")) => {
                let text = format!(
                    "Invalid value: '{other}'. Supported values are: 'input_text', 'input_image' and 'input_file'."
                );
                return Err(Problem::rule(at, text).into());
            }
            ("user", "input_text") => {
                prompt.ask(text);
                continue;
            }
            (_, "input_text") => {
                prompt.instruct(text);
                continue;
            }
            (_, "input_image") if part["image_url"].is_string() => {
                Media::of_url(part["image_url"].as_str().unwrap_or_default())
            }
            (_, "input_file") if part["file_data"].is_string() => {
                Media::of_url(part["file_data"].as_str().unwrap_or_default())
            }
            _ => {
                let at_provider = part["file_id"].as_str().or(part["file_url"].as_str());
                at_provider.map(|id| Media::At(id.to_owned())).ok_or_else(|| "nothing to look at".to_owned())
            }
        };
        prompt.show(media.map_err(|why| Problem::rule(at, format!("Invalid image or file: {why}.")))?);
    }
    Ok(())
}

fn text_of(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        parts => parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// Returns reasoning that only a stand-in can read.
fn seal(text: &str) -> String {
    let hidden = base64::engine::general_purpose::STANDARD.encode(text);
    format!("{hidden}.{}", sign(text))
}

fn check_seal(item: &Value) -> Result<(), String> {
    let Some(sealed) = item["encrypted_content"].as_str() else {
        let id = item["id"].as_str().unwrap_or_default();
        return Err(format!(
            "Item with id '{id}' not found. Items are not persisted here: send 'encrypted_content' back."
        ));
    };
    let text = sealed
        .split_once('.')
        .and_then(|(hidden, _)| base64::engine::general_purpose::STANDARD.decode(hidden).ok());
    match text.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) if seal(&text) == sealed => Ok(()),
        _ => Err("The encrypted content could not be verified.".into()),
    }
}

/// Returns the finished output items.
fn items(body: &Value, said: &Said, context: &Context<'_>) -> Vec<Value> {
    let mut items = Vec::new();
    if !said.reasoning.is_empty() {
        let summary =
            match body["reasoning"]["summary"].as_str().or(body["reasoning"]["generate_summary"].as_str()) {
                Some(_) => json!([{"type": "summary_text", "text": said.reasoning_text()}]),
                None => json!([]),
            };
        let mut item = json!({"id": context.id("rs_", 3, 48), "type": "reasoning", "summary": summary});
        let wants_seal = |name: &Value| name == "reasoning.encrypted_content";
        if body["include"].as_array().is_some_and(|names| names.iter().any(wants_seal)) {
            item["encrypted_content"] = json!(seal(&said.reasoning_text()));
        }
        items.push(item);
    }
    let status = if said.ending == Ending::Length || said.ending == Ending::Filter {
        "incomplete"
    } else {
        "completed"
    };
    if said.calls.is_empty() {
        let part = match said.ending {
            Ending::Refusal => json!({"type": "refusal", "refusal": said.text()}),
            _ => {
                let logprobs: Vec<Value> = said.text.iter().filter_map(|token| scores(body, token)).collect();
                json!({"type": "output_text", "annotations": [], "logprobs": logprobs, "text": said.text()})
            }
        };
        let id = context.id("msg_", 4, 48);
        items.push(
            json!({"id": id, "type": "message", "status": status, "content": [part], "role": "assistant"}),
        );
    }
    for (place, call) in (0..).zip(&said.calls) {
        items.push(json!({
            "id": context.id("fc_", 10 + place, 48),
            "type": "function_call",
            "status": "completed",
            "arguments": call.arguments.to_string(),
            "call_id": context.id("call_", 100 + place, 24),
            "name": call.name,
        }));
    }
    items
}

/// Returns how likely a token was, if that was asked for.
pub fn scores(body: &Value, token: &str) -> Option<Value> {
    let wants = |name: &Value| name == "message.output_text.logprobs";
    body["include"].as_array().filter(|names| names.iter().any(wants))?;
    let own = logprob(token);
    let entry =
        |text: &str, logprob: f64| json!({"token": text, "bytes": text.as_bytes(), "logprob": logprob});
    let rivals = (0..body["top_logprobs"].as_u64().unwrap_or(0)).map(|rank| match rank {
        0 => entry(token, own),
        rank => entry(&format!("{token}~{rank}"), own - rank as f64),
    });
    let mut scores = entry(token, own);
    scores["top_logprobs"] = rivals.collect();
    Some(scores)
}

impl Response<'_> {
    pub fn body(&self) -> &Value {
        self.body
    }

    pub fn finished(&self) -> Value {
        let (status, reason) = match self.said.ending {
            Ending::Length => ("incomplete", Some("max_output_tokens")),
            Ending::Filter => ("incomplete", Some("content_filter")),
            _ => ("completed", None),
        };
        let usage = match self.quirk {
            UsageQuirk::Missing => Value::Null,
            _ => self.usage(),
        };
        let mut response = self.envelope(status, json!(self.items), usage);
        response["incomplete_details"] = reason.map_or(Value::Null, |reason| json!({"reason": reason}));
        if status == "completed" {
            response["completed_at"] = json!(now());
        }
        response
    }

    pub fn begun(&self) -> Value {
        self.envelope("in_progress", json!([]), Value::Null)
    }

    pub fn failed(&self) -> Value {
        let mut response = self.envelope("failed", json!([]), Value::Null);
        response["error"] =
            json!({"code": "server_error", "message": "The model failed to generate a response."});
        response
    }

    fn usage(&self) -> Value {
        let tally = self.tally;
        json!({
            "input_tokens": tally.input(),
            "input_tokens_details": {"cached_tokens": tally.cache_read, "cache_write_tokens": 0},
            "output_tokens": tally.output,
            "output_tokens_details": {"reasoning_tokens": tally.reasoning},
            "total_tokens": tally.total(),
        })
    }

    fn envelope(&self, status: &str, output: Value, usage: Value) -> Value {
        let said = |name: &str, default: Value| match &self.body[name] {
            Value::Null => default,
            value => value.clone(),
        };
        let tier = match self.body["service_tier"].as_str() {
            None | Some("auto") if status == "in_progress" => "auto",
            None | Some("auto") => "default",
            Some(tier) => tier,
        };
        let format = said("text", json!({"format": {"type": "text"}, "verbosity": "medium"}));
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": false,
            "completed_at": null,
            "error": null,
            "incomplete_details": null,
            "instructions": self.body["instructions"],
            "max_output_tokens": self.body["max_output_tokens"],
            "max_tool_calls": null,
            "model": self.body["model"],
            "output": output,
            "parallel_tool_calls": said("parallel_tool_calls", json!(true)),
            "previous_response_id": null,
            "prompt_cache_key": self.body["prompt_cache_key"],
            "prompt_cache_retention": null,
            "reasoning": {"effort": self.body["reasoning"]["effort"], "summary": self.body["reasoning"]["summary"]},
            "safety_identifier": self.body["safety_identifier"],
            "service_tier": tier,
            "store": said("store", json!(true)),
            "temperature": said("temperature", json!(1.0)),
            "text": format,
            "tool_choice": said("tool_choice", json!("auto")),
            "tools": said("tools", json!([])),
            "top_logprobs": said("top_logprobs", json!(0)),
            "top_p": said("top_p", json!(1.0)),
            "truncation": said("truncation", json!("disabled")),
            "usage": usage,
            "user": null,
            "metadata": said("metadata", json!({})),
        })
    }
}
