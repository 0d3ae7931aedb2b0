//! Chat Completions: what is understood, and what is answered, whole or in chunks?

use serde_json::{Map, Value, json};

use super::chat_shape::{COMPATIBLE_EXTRAS, COMPATIBLE_MESSAGE_EXTRAS, REQUEST};
use super::{is_reasoning_model, now};
use crate::standin::Kind;
use crate::standin::behaviour::{ReasoningField, ToolIndex, UsageQuirk};
use crate::standin::check::{Problem, Step, check, key};
use crate::standin::mind::{Ending, Said, logprob, think};
use crate::standin::prompt::{Choice, Format, Media, Prompt, Tally};
use crate::standin::reply::{Event, Framing, Part, Reply, Stream, Trouble};
use crate::standin::server::{Context, format_of};
use crate::standin::tokens::tokens;

const PADDING: &str = "aB3dE5fG7hJ9kL1m";

/// What every piece of one answer repeats.
struct Frame<'a> {
    body: &'a Value,
    model: &'a str,
    id: String,
    kind: Kind,
    context: &'a Context<'a>,
}

pub fn answer(body: &Value, context: &mut Context<'_>) -> Result<Reply, Trouble> {
    check(&without_extras(body, context.kind), &REQUEST)?;
    let model = body["model"].as_str().expect("the shape says so");
    check_fields(body, model, context.kind)?;
    let prompt = read(body, model, context.kind)?;
    context.check_length(&prompt)?;
    let n = body["n"].as_u64().unwrap_or(1);
    let said: Vec<Said> = (0..n).map(|choice| think(&prompt, choice)).collect();
    let scope = format!("{model} {}", body["prompt_cache_key"].as_str().unwrap_or_default());
    let found = context.cache.by_itself(&scope, &prompt.pieces, context.behaviour.cache);
    let tally = Tally {
        input_uncached: found.uncached,
        cache_read: found.read,
        output: said.iter().map(Said::output_tokens).sum(),
        reasoning: said.iter().map(|said| said.reasoning.len() as u64).sum(),
        ..Tally::default()
    };
    let frame = Frame { body, model, id: context.id("chatcmpl-", 2, 29), kind: context.kind, context };
    let reply = match body["stream"].as_bool() {
        Some(true) => Reply::stream(frame.stream(&said, tally)),
        _ => Reply::json(200, &frame.whole(&said, tally)),
    };
    Ok(reply.counted(tally))
}

fn without_extras(body: &Value, kind: Kind) -> Value {
    let mut body = body.clone();
    if kind == Kind::Compatible {
        let messages = body["messages"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        messages.for_each(|message| message.retain(|name, _| !COMPATIBLE_MESSAGE_EXTRAS.contains(&&**name)));
        if let Some(map) = body.as_object_mut() {
            map.retain(|name, _| !COMPATIBLE_EXTRAS.contains(&&**name));
        }
    }
    body
}

/// Rules between fields.
fn check_fields(body: &Value, model: &str, kind: Kind) -> Result<(), Problem> {
    let rule = |name: &str, text: String| Err(Problem::rule([key(name)], text));
    let given = |name: &str| !body[name].is_null();
    if is_reasoning_model(model) && kind != Kind::Compatible {
        if given("max_tokens") {
            let text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
            return rule("max_tokens", text.into());
        }
        for name in ["temperature", "top_p"] {
            if body[name].as_f64().is_some_and(|value| value != 1.0) {
                let text = format!(
                    "Unsupported value: '{name}' does not support {} with this model. Only the default (1) value is supported.",
                    body[name]
                );
                return rule(name, text);
            }
        }
        if given("logprobs") || given("stop") {
            let name = if given("stop") { "stop" } else { "logprobs" };
            return rule(name, format!("Unsupported parameter: '{name}' is not supported with this model."));
        }
    } else if given("reasoning_effort") && kind != Kind::Compatible {
        return rule(
            "reasoning_effort",
            "Unsupported parameter: 'reasoning_effort' is not supported with this model.".into(),
        );
    }
    if given("max_tokens") && given("max_completion_tokens") && kind != Kind::Compatible {
        return rule(
            "max_tokens",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.".into(),
        );
    }
    if given("top_logprobs") && body["logprobs"] != json!(true) {
        return rule("top_logprobs", "'logprobs' must be set to true if 'top_logprobs' is used.".into());
    }
    if given("stream_options") && body["stream"] != json!(true) {
        return rule(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.".into(),
        );
    }
    if body["stop"].as_array().is_some_and(|stops| stops.len() > 4) {
        return rule(
            "stop",
            "Invalid 'stop': array too long. Expected an array with maximum length 4.".into(),
        );
    }
    if !given("tools") && (given("tool_choice") || given("parallel_tool_calls")) {
        let name = if given("tool_choice") { "tool_choice" } else { "parallel_tool_calls" };
        return rule(name, format!("'{name}' is only allowed when 'tools' are specified."));
    }
    if body["tools"].as_array().is_some_and(Vec::is_empty) {
        return rule(
            "tools",
            "Invalid 'tools': empty array. Expected an array with minimum length 1.".into(),
        );
    }
    if body["response_format"]["type"] == "json_object"
        && !body["messages"].to_string().to_lowercase().contains("json")
    {
        let text = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
        return rule("messages", text.into());
    }
    check_strict(&body["response_format"]["json_schema"])?;
    check_calls(body)
}

/// With `strict`, every object of the schema names all its properties and admits no others.
fn check_strict(format: &Value) -> Result<(), Problem> {
    fn closed(schema: &Value) -> bool {
        let children =
            ["properties", "$defs"].iter().filter_map(|name| schema[name].as_object()).flat_map(Map::values);
        let is_object = schema["type"] == "object";
        let own = !is_object
            || schema["additionalProperties"] == json!(false)
                && schema["properties"].as_object().is_none_or(|properties| {
                    properties.keys().all(|name| {
                        schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)))
                    })
                });
        own && children.chain(schema.get("items")).all(closed)
    }
    if format["strict"] == json!(true) && !closed(&format["schema"]) {
        let name = format["name"].as_str().unwrap_or_default();
        let text = format!(
            "Invalid schema for response_format '{name}': 'additionalProperties' is required to be supplied and to be false, and 'required' to name every property."
        );
        return Err(Problem::rule([key("response_format")], text));
    }
    Ok(())
}

/// Every call is answered by a tool's message right after it, and nothing else is.
fn check_calls(body: &Value) -> Result<(), Problem> {
    let messages = body["messages"].as_array().expect("the shape says so");
    if messages.is_empty() {
        return Err(Problem::rule(
            [key("messages")],
            "Invalid 'messages': empty array. Expected an array with minimum length 1.",
        ));
    }
    let mut open: Vec<&str> = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        let at = || [key("messages"), Step::Place(place)];
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let Some(found) = open.iter().position(|known| *known == id) else {
                let text =
                    "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return Err(Problem::rule(at(), text));
            };
            open.remove(found);
            continue;
        }
        if !open.is_empty() {
            break;
        }
        if message["role"] == "assistant" {
            open = message["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|call| call["id"].as_str())
                .collect();
            let says_nothing =
                message["content"].is_null() && message["refusal"].is_null() && open.is_empty();
            if says_nothing {
                return Err(Problem::rule(at(), "Invalid value for 'content': expected a string, got null."));
            }
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let ids = open.join(", ");
    let text = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {ids}"
    );
    Err(Problem::rule([key("messages")], text))
}

fn read(body: &Value, model: &str, kind: Kind) -> Result<Prompt, Trouble> {
    let mut prompt = Prompt {
        max_tokens: body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()),
        one_call_only: body["parallel_tool_calls"] == json!(false),
        ..Prompt::default()
    };
    let wants_thought = match kind {
        Kind::Compatible => {
            !body["reasoning_effort"].is_null()
                || body["chat_template_kwargs"]["enable_thinking"] == json!(true)
        }
        _ => is_reasoning_model(model),
    };
    prompt.thinks = wants_thought && body["reasoning_effort"] != "none";
    for tool in body["tools"].as_array().into_iter().flatten() {
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        check_name(name, "tools")?;
        prompt.offer(name, function["parameters"].clone(), tool);
    }
    prompt.choice = match &body["tool_choice"] {
        choice if choice == "none" => Choice::None,
        choice if choice == "required" => Choice::Any,
        choice => match choice["function"]["name"].as_str() {
            Some(name) if !prompt.tools.iter().any(|tool| tool.name == name) => {
                let text = format!("Tool choice '{name}' not found in 'tools' parameter.");
                return Err(Problem::rule([key("tool_choice")], text).into());
            }
            Some(name) => Choice::Named(name.to_owned()),
            None => Choice::Auto,
        },
    };
    prompt.format = match &body["response_format"] {
        format if format["type"] == "json_schema" => format_of(format["json_schema"].get("schema")),
        format if format["type"] == "json_object" => Format::Object,
        _ => Format::Text,
    };
    prompt.stop = match &body["stop"] {
        Value::String(stop) => vec![stop.clone()],
        stops => {
            stops.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        }
    };
    for (place, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        read_message(message, place, &mut prompt)?;
    }
    Ok(prompt)
}

fn read_message(message: &Value, place: usize, prompt: &mut Prompt) -> Result<(), Trouble> {
    let role = message["role"].as_str().unwrap_or_default();
    let single = [json!({"type": "text", "text": message["content"]})];
    let parts = match &message["content"] {
        Value::Array(parts) => &**parts,
        Value::String(_) => &single,
        _ => &[],
    };
    if role == "user" {
        prompt.turn();
    }
    for (number, part) in parts.iter().enumerate() {
        let text = part["text"].as_str().unwrap_or_default();
        let media = match (role, part["type"].as_str().unwrap_or_default()) {
            ("system" | "developer", _) => {
                prompt.instruct(text);
                continue;
            }
            ("user", "text") => {
                prompt.ask(text);
                continue;
            }
            ("tool", _) => {
                prompt.say(text);
                prompt.tool_results.push(text.to_owned());
                continue;
            }
            ("user", "image_url") => Media::of_url(part["image_url"]["url"].as_str().unwrap_or_default()),
            ("user", "input_audio") => {
                let audio = &part["input_audio"];
                let media_type = format!("audio/{}", audio["format"].as_str().unwrap_or_default());
                Media::of_base64(&media_type, audio["data"].as_str().unwrap_or_default())
            }
            ("user", "file") => match part["file"]["file_data"].as_str() {
                Some(data) => Media::of_url(data),
                None => Ok(Media::At(part["file"]["file_id"].as_str().unwrap_or_default().to_owned())),
            },
            _ => {
                prompt.say(text);
                continue;
            }
        };
        let at = [key("messages"), Step::Place(place), key("content"), Step::Place(number)];
        prompt.show(media.map_err(|why| Problem::rule(at, format!("Invalid image or file: {why}.")))?);
    }
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    calls.for_each(|call| prompt.say(call["function"].to_string()));
    Ok(())
}

pub fn check_name(name: &str, at: &str) -> Result<(), Trouble> {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    match (1..=64).contains(&name.len()) && name.chars().all(is_good) {
        true => Ok(()),
        false => {
            let text = format!(
                "Invalid name '{name}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
            );
            Err(Problem::rule([key(at)], text).into())
        }
    }
}

impl Frame<'_> {
    fn whole(&self, said: &[Said], tally: Tally) -> Value {
        let choice = |(index, said): (usize, &Said)| {
            json!({
                "index": index,
                "message": self.message(index, said),
                "logprobs": self.scores(&said.text),
                "finish_reason": finish_reason(said),
            })
        };
        let choices: Vec<_> = said.iter().enumerate().map(choice).collect();
        let mut whole = self.envelope("chat.completion", json!(choices));
        if self.context.plan.usage() != UsageQuirk::Missing {
            whole["usage"] = self.usage(tally);
        }
        self.sign_off(&mut whole);
        whole
    }

    fn stream(&self, said: &[Said], tally: Tally) -> Stream {
        let quirk = self.context.plan.usage();
        let wants_usage = self.body["stream_options"]["include_usage"] == json!(true);
        let mut events = Vec::new();
        let count = said.len();
        let chunk = |part: Part, choices: Value, usage: Option<Value>| {
            let mut chunk = self.envelope("chat.completion.chunk", choices);
            self.sign_off(&mut chunk);
            if wants_usage || usage.is_some() {
                chunk["usage"] = usage.unwrap_or(Value::Null);
            }
            if self.kind == Kind::OpenAi
                && part == Part::Content
                && self.body["stream_options"]["include_obfuscation"] != json!(false)
            {
                // Hides how long tokens are from those who watch the wire.
                chunk["obfuscation"] = json!(&PADDING[..1 + chunk.to_string().len() % PADDING.len()]);
            }
            Event::new(part, None, &chunk)
        };
        let of = |index: usize, delta: Value, logprobs: Value, finish: Value| {
            let mut choice =
                json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
            if self.kind == Kind::Azure {
                choice["content_filter_results"] = json!({});
            }
            json!([choice])
        };
        if self.kind == Kind::Azure {
            // Its filter speaks first, in a chunk that has nothing else.
            let results = json!([{"prompt_index": 0, "content_filter_results": {}}]);
            let first = json!({"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": results});
            events.push(Event::new(Part::Opening, None, &first));
        }
        for (index, said) in said.iter().enumerate() {
            let opening = json!({"role": "assistant", "content": "", "refusal": null});
            events.push(chunk(Part::Opening, of(index, opening, Value::Null, Value::Null), None));
            for (delta, logprobs) in self.deltas(index, said) {
                events.push(chunk(Part::Content, of(index, delta, logprobs, Value::Null), None));
            }
            let is_last = index + 1 == count;
            let usage = (quirk == UsageQuirk::WithChoices && is_last).then(|| self.usage(tally));
            let finish = of(index, json!({}), Value::Null, json!(finish_reason(said)));
            events.push(chunk(Part::Finish, finish, usage));
        }
        let reports = match quirk {
            UsageQuirk::Missing | UsageQuirk::WithChoices => 0,
            UsageQuirk::Twice => 2,
            _ => usize::from(wants_usage),
        };
        events.extend((0..reports).map(|_| chunk(Part::Usage, json!([]), Some(self.usage(tally)))));
        events.push(Event::raw(Part::Done, "[DONE]"));
        let error = json!({"message": "The server had an error while processing your request. Sorry about that!",
            "type": "server_error", "param": null, "code": null});
        let broken = vec![Event::new(Part::Error, None, &json!({"error": error}))];
        Stream { framing: Framing::ServerSent, events, broken, ping: None }
    }

    fn deltas(&self, index: usize, said: &Said) -> Vec<(Value, Value)> {
        let mut deltas: Vec<(Value, Value)> = Vec::new();
        if let Some(field) = self.reasoning_field() {
            deltas.extend(said.reasoning.iter().map(|token| (json!({field: token}), Value::Null)));
        }
        let field = if said.ending == Ending::Refusal { "refusal" } else { "content" };
        let text = said.text.iter();
        deltas.extend(text.map(|token| (json!({field: token}), self.scores(std::slice::from_ref(token)))));
        for (place, call) in said.calls.iter().enumerate() {
            let numbered = |mut call: Value| {
                match self.context.plan.tool_index() {
                    ToolIndex::AsDocumented => call["index"] = json!(place),
                    ToolIndex::Duplicated => call["index"] = json!(0),
                    ToolIndex::Missing => {}
                }
                (json!({"tool_calls": [call]}), Value::Null)
            };
            let id = self.call_id(index, place);
            let function = json!({"name": call.name, "arguments": ""});
            deltas.push(numbered(json!({"id": id, "type": "function", "function": function})));
            let pieces = tokens(&call.arguments.to_string()).into_iter();
            deltas.extend(pieces.map(|piece| numbered(json!({"function": {"arguments": piece}}))));
        }
        deltas
    }

    fn message(&self, index: usize, said: &Said) -> Value {
        let is_refusal = said.ending == Ending::Refusal;
        let text = match said.text.is_empty() && !said.calls.is_empty() {
            true => Value::Null,
            false => json!(said.text()),
        };
        let mut message = json!({
            "role": "assistant",
            "content": if is_refusal { &Value::Null } else { &text },
            "refusal": if is_refusal { &text } else { &Value::Null },
            "annotations": [],
        });
        if let (Some(field), false) = (self.reasoning_field(), said.reasoning.is_empty()) {
            message[field] = json!(said.reasoning_text());
        }
        if !said.calls.is_empty() {
            let call = |(place, call): (usize, &crate::standin::mind::Call)| {
                json!({"id": self.call_id(index, place), "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments.to_string()}})
            };
            message["tool_calls"] = said.calls.iter().enumerate().map(call).collect();
        }
        message
    }

    fn scores(&self, text: &[String]) -> Value {
        if self.body["logprobs"] != json!(true) {
            return Value::Null;
        }
        let rivals = self.body["top_logprobs"].as_u64().unwrap_or(0);
        let score = |token: &String| {
            let own = logprob(token);
            let entry = |text: &str, logprob: f64| json!({"token": text, "logprob": logprob, "bytes": text.as_bytes()});
            let rival = |rank: u64| match rank {
                0 => entry(token, own),
                rank => entry(&format!("{token}~{rank}"), own - rank as f64),
            };
            let mut entry = entry(token, own);
            entry["top_logprobs"] = (0..rivals).map(rival).collect();
            entry
        };
        json!({"content": text.iter().map(score).collect::<Vec<_>>(), "refusal": null})
    }

    fn usage(&self, tally: Tally) -> Value {
        let tally = self.context.reported(tally);
        let mut usage = json!({
            "prompt_tokens": tally.input(),
            "completion_tokens": tally.output,
            "total_tokens": tally.total(),
        });
        if self.kind != Kind::Compatible {
            usage["prompt_tokens_details"] = json!({"cached_tokens": tally.cache_read, "audio_tokens": 0});
            usage["completion_tokens_details"] = json!({"reasoning_tokens": tally.reasoning, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0});
        } else if tally.cache_read > 0 {
            usage["prompt_tokens_details"] = json!({"cached_tokens": tally.cache_read});
        }
        usage
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({"id": self.id, "object": object, "created": now(), "model": self.model, "choices": choices})
    }

    fn sign_off(&self, value: &mut Value) {
        if self.kind == Kind::Compatible {
            return;
        }
        let tier = match self.body["service_tier"].as_str() {
            None | Some("auto") => "default",
            Some(tier) => tier,
        };
        value["service_tier"] = json!(tier);
        value["system_fingerprint"] = json!("fp_57a4d1");
    }

    fn reasoning_field(&self) -> Option<&'static str> {
        match (self.context.plan.reasoning_field(), self.kind) {
            (ReasoningField::Reasoning, _) => Some("reasoning"),
            (ReasoningField::ReasoningContent, _) | (_, Kind::Compatible) => Some("reasoning_content"),
            (ReasoningField::AsDocumented, _) => None,
        }
    }

    fn call_id(&self, choice: usize, place: usize) -> String {
        self.context.id("call_", 100 + 50 * choice as u64 + place as u64, 24)
    }
}

fn finish_reason(said: &Said) -> &'static str {
    match said.ending {
        Ending::Stop | Ending::StopString(_) | Ending::Refusal => "stop",
        Ending::Length => "length",
        Ending::Calls => "tool_calls",
        Ending::Filter => "content_filter",
    }
}
