//! Messages: what is understood, and what does the whole message say?

use serde_json::{Value, json};

use super::shape::{COUNT_REQUEST, REQUEST};
use super::stream;
use crate::standin::behaviour::UsageQuirk;
use crate::standin::check::{Problem, Step, check, key};
use crate::standin::mind::{Ending, Said, sign, think};
use crate::standin::prompt::{Choice, Format, Lifetime, Media, Piece, Prompt, Tally};
use crate::standin::reply::{Class, Reply, Trouble};
use crate::standin::server::Context;

/// Places where a prompt may be marked for the cache.
const MARKS_MAX: usize = 4;

/// One answer, for both of its forms.
pub struct Message {
    pub id: String,
    pub model: Value,
    pub blocks: Vec<Value>,
    pub stop_reason: &'static str,
    pub stop_sequence: Value,
    pub tally: Tally,
    pub quirk: UsageQuirk,
    pub said: Said,
}

pub fn answer(body: &Value, context: &mut Context<'_>) -> Result<Reply, Trouble> {
    check(body, &REQUEST)?;
    let model = body["model"].as_str().expect("the shape says so");
    if model.starts_with("no-such") {
        return Err(Trouble::new(404, Class::NotFound, format!("model: {model}")));
    }
    check_fields(body)?;
    let prompt = read(body)?;
    context.check_length(&prompt)?;
    let said = think(&prompt, 0);
    let found = context.cache.by_marks(model, &prompt.pieces, context.behaviour.cache);
    let tally = Tally {
        input_uncached: found.uncached,
        cache_read: found.read,
        cache_write_5m: found.written_5m,
        cache_write_1h: found.written_1h,
        output: said.output_tokens(),
        reasoning: said.reasoning.len() as u64,
    };
    let (stop_reason, stop_sequence) = match &said.ending {
        Ending::Stop => ("end_turn", Value::Null),
        Ending::StopString(stop) => ("stop_sequence", json!(stop)),
        Ending::Length => ("max_tokens", Value::Null),
        Ending::Calls => ("tool_use", Value::Null),
        Ending::Refusal | Ending::Filter => ("refusal", Value::Null),
    };
    let message = Message {
        id: context.id("msg_01", 2, 22),
        model: body["model"].clone(),
        blocks: blocks(body, &said, context),
        stop_reason,
        stop_sequence,
        tally: context.reported(tally),
        quirk: context.plan.usage(),
        said,
    };
    let reply = match body["stream"].as_bool() {
        Some(true) => Reply::stream(stream::stream(&message)),
        _ => Reply::json(200, &message.whole()),
    };
    Ok(reply.counted(tally))
}

pub fn count(body: &Value, context: &Context<'_>) -> Result<Reply, Trouble> {
    check(body, &COUNT_REQUEST)?;
    let prompt = read(body)?;
    context.check_length(&prompt)?;
    let tokens: u64 = prompt.pieces.iter().map(Piece::token_count).sum();
    Ok(Reply::json(200, &json!({"input_tokens": tokens})))
}

fn check_fields(body: &Value) -> Result<(), Problem> {
    let rule = |name: &str, text: &str| Err(Problem::rule([key(name)], text));
    let top = |text: String| Err(Problem::rule([], text));
    let thinks = body["thinking"]["type"] == "enabled" || body["thinking"]["type"] == "adaptive";
    if body["thinking"]["type"] == "enabled"
        && body["thinking"]["budget_tokens"].as_u64() >= body["max_tokens"].as_u64()
    {
        return top("`max_tokens` must be greater than `thinking.budget_tokens`.".into());
    }
    if thinks && body["temperature"].as_f64().is_some_and(|value| value != 1.0) {
        return top("`temperature` may only be set to 1 when thinking is enabled.".into());
    }
    if thinks && !body["top_k"].is_null() {
        return top("`top_k` must be unset when thinking is enabled.".into());
    }
    if thinks && matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return top("Thinking may not be enabled when tool_choice forces tool use.".into());
    }
    if !body["tool_choice"].is_null()
        && body["tools"].as_array().is_none_or(Vec::is_empty)
        && body["tool_choice"]["type"] != "none"
    {
        return rule("tool_choice", "tool_choice may only be specified while providing tools.");
    }
    let marks = body.to_string().matches("\"cache_control\":{").count();
    if marks > MARKS_MAX {
        return top(format!(
            "A maximum of {MARKS_MAX} blocks with cache_control may be provided. Found {marks}."
        ));
    }
    let is_text = |stop: &Value| stop.as_str().is_some_and(|text| !text.trim().is_empty());
    if !body["stop_sequences"].as_array().into_iter().flatten().all(is_text) {
        return rule("stop_sequences", "each stop sequence must contain non-whitespace");
    }
    let names = || body["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str());
    for (place, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
        let name = tool["name"].as_str().unwrap_or_default();
        let is_good = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
        let at = [key("tools"), Step::Place(place), key("custom")];
        if !(1..=128).contains(&name.len()) || !name.chars().all(is_good) {
            return Err(Problem::rule(
                at.into_iter().chain([key("name")]),
                "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
            ));
        }
        if tool["input_schema"]["type"] != "object" {
            let at = at.into_iter().chain([key("input_schema"), key("type")]);
            return Err(Problem::rule(at, "Input should be 'object'"));
        }
        if names().filter(|known| *known == name).count() > 1 {
            return rule("tools", "Tool names must be unique.");
        }
    }
    if body["output_config"]["format"]["schema"].is_object()
        && !closed(&body["output_config"]["format"]["schema"])
    {
        return top("output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false".into());
    }
    check_messages(body)
}

fn closed(schema: &Value) -> bool {
    let own = schema["type"] != "object" || schema["additionalProperties"] == json!(false);
    let properties = schema["properties"].as_object().into_iter().flat_map(|map| map.values());
    own && properties.chain(schema.get("items")).all(closed)
}

fn check_messages(body: &Value) -> Result<(), Problem> {
    let messages = body["messages"].as_array().expect("the shape says so");
    let rule = |place: usize, text: String| Err(Problem::rule([key("messages"), Step::Place(place)], text));
    match messages.first() {
        None => return Err(Problem::rule([key("messages")], "at least one message is required")),
        Some(first) if first["role"] != "user" => {
            return rule(0, "first message must use the \"user\" role".into());
        }
        Some(_) => {}
    }
    for (place, message) in messages.iter().enumerate() {
        let blocks = |number: usize| {
            messages.get(number).and_then(|message| message["content"].as_array()).into_iter().flatten()
        };
        if message["role"] == "assistant" {
            check_assistant(body, message, place, place + 1 == messages.len())?;
            // Every call is answered in the very next message.
            let calls = blocks(place)
                .filter(|block| block["type"] == "tool_use")
                .filter_map(|block| block["id"].as_str());
            let answered = |id: &str| blocks(place + 1).any(|block| block["tool_use_id"] == id);
            let open: Vec<&str> = calls.filter(|id| !answered(id)).collect();
            if !open.is_empty() {
                let ids = open.join(", ");
                return rule(
                    place,
                    format!(
                        "`tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
                    ),
                );
            }
            continue;
        }
        let mut other_seen = false;
        for (number, block) in blocks(place).enumerate() {
            if block["type"] != "tool_result" {
                other_seen = true;
                continue;
            }
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            let is_known =
                place > 0 && blocks(place - 1).any(|block| block["type"] == "tool_use" && block["id"] == id);
            if !is_known {
                let at = [key("messages"), Step::Place(place), key("content"), Step::Place(number)];
                return Err(Problem::rule(
                    at,
                    format!(
                        "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                    ),
                ));
            }
            if other_seen {
                return rule(place, "`tool_result` blocks must come first in the content.".into());
            }
        }
    }
    Ok(())
}

fn check_assistant(body: &Value, message: &Value, place: usize, is_last: bool) -> Result<(), Problem> {
    let blocks = message["content"].as_array().map_or(&[][..], |blocks| blocks);
    for (number, block) in blocks.iter().enumerate() {
        let at = [key("messages"), Step::Place(place), key("content"), Step::Place(number)];
        let is_own = block["type"] != "thinking"
            || block["signature"] == sign(block["thinking"].as_str().unwrap_or_default());
        if !is_own {
            return Err(Problem::rule(at, "Invalid `signature` in `thinking` block"));
        }
    }
    let first = blocks.first().and_then(|block| block["type"].as_str());
    let calls = blocks.iter().any(|block| block["type"] == "tool_use");
    if body["thinking"]["type"] == "enabled"
        && calls
        && !matches!(first, Some("thinking" | "redacted_thinking"))
    {
        let at = [key("messages"), Step::Place(place), key("content"), Step::Place(0), key("type")];
        let found = first.unwrap_or_default();
        return Err(Problem::rule(
            at,
            format!(
                "Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block."
            ),
        ));
    }
    let text = message["content"].as_str().or(blocks.last().and_then(|block| block["text"].as_str()));
    if is_last && text.is_some_and(|text| text.ends_with(char::is_whitespace)) {
        let text = "final assistant content cannot end with trailing whitespace";
        return Err(Problem::rule([key("messages")], text));
    }
    Ok(())
}

fn read(body: &Value) -> Result<Prompt, Trouble> {
    let texts = |value: &Value| {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut prompt = Prompt {
        max_tokens: body["max_tokens"].as_u64(),
        stop: texts(&body["stop_sequences"]),
        thinks: matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive")),
        one_call_only: body["tool_choice"]["disable_parallel_tool_use"] == json!(true),
        ..Prompt::default()
    };
    for tool in body["tools"].as_array().into_iter().flatten() {
        prompt.offer(tool["name"].as_str().unwrap_or_default(), tool["input_schema"].clone(), tool);
        prompt.mark(lifetime(tool));
    }
    prompt.choice = match body["tool_choice"]["type"].as_str() {
        Some("none") => Choice::None,
        Some("any") => Choice::Any,
        Some("tool") => Choice::Named(body["tool_choice"]["name"].as_str().unwrap_or_default().to_owned()),
        _ => Choice::Auto,
    };
    if let Some(schema) = body["output_config"]["format"].get("schema") {
        prompt.format = Format::Schema(schema.clone());
    }
    for block in listed(&body["system"]) {
        prompt.instruct(block["text"].as_str().unwrap_or_default());
        prompt.mark(lifetime(&block));
    }
    for (place, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        let is_user = message["role"] == "user";
        if is_user {
            prompt.turn();
        }
        for (number, block) in listed(&message["content"]).iter().enumerate() {
            let at = [key("messages"), Step::Place(place), key("content"), Step::Place(number)];
            read_block(block, is_user, &mut prompt).map_err(|why| Problem::rule(at, why))?;
            prompt.mark(lifetime(block));
        }
    }
    if !body["cache_control"].is_null() {
        prompt.mark(lifetime(body));
    }
    Ok(prompt)
}

fn read_block(block: &Value, is_user: bool, prompt: &mut Prompt) -> Result<(), String> {
    let text = block["text"].as_str().unwrap_or_default();
    match block["type"].as_str().unwrap_or_default() {
        "text" if is_user => prompt.ask(text),
        "text" => prompt.say(text),
        "image" | "document" => prompt.show(media(&block["source"])?),
        "tool_result" => {
            let parts = listed(&block["content"]);
            let said: String = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            prompt.say(&*said);
            let failed = if block["is_error"] == json!(true) { "(failed) " } else { "" };
            prompt.tool_results.push(format!("{failed}{said}"));
            for part in parts.iter().filter(|part| part["type"] == "image") {
                prompt.show(media(&part["source"])?);
            }
        }
        "tool_use" => prompt.say(block["input"].to_string()),
        _ => prompt.say(block["thinking"].as_str().or(block["data"].as_str()).unwrap_or_default()),
    }
    Ok(())
}

fn media(source: &Value) -> Result<Media, String> {
    let word = |name: &str| source[name].as_str().unwrap_or_default();
    match word("type") {
        "base64" => Media::of_base64(word("media_type"), word("data")),
        "text" => {
            use base64::Engine as _;
            Media::of_base64("text/plain", &base64::engine::general_purpose::STANDARD.encode(word("data")))
        }
        "url" => Media::of_url(word("url")),
        _ => Ok(Media::At(word("file_id").to_owned())),
    }
}

/// A string stands for one block of text.
fn listed(content: &Value) -> Vec<Value> {
    match content {
        Value::Array(blocks) => blocks.clone(),
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    }
}

fn lifetime(block: &Value) -> Option<Lifetime> {
    let mark = block.get("cache_control").filter(|mark| !mark.is_null())?;
    Some(if mark["ttl"] == "1h" { Lifetime::OneHour } else { Lifetime::FiveMinutes })
}

fn blocks(body: &Value, said: &Said, context: &Context<'_>) -> Vec<Value> {
    let mut blocks = Vec::new();
    if !said.reasoning.is_empty() {
        // A display of `omitted` hides the words, not the proof.
        let shown =
            if body["thinking"]["display"] == "omitted" { String::new() } else { said.reasoning_text() };
        blocks.push(json!({"type": "thinking", "thinking": shown, "signature": sign(&shown)}));
    }
    if !said.text.is_empty() {
        blocks.push(json!({"type": "text", "text": said.text()}));
    }
    for (place, call) in (0..).zip(&said.calls) {
        let id = context.id("toolu_01", 100 + place, 22);
        blocks.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": call.arguments, "caller": {"type": "direct"}}));
    }
    blocks
}

impl Message {
    fn whole(&self) -> Value {
        let mut whole = self.envelope();
        whole["content"] = json!(self.blocks);
        (whole["stop_reason"], whole["stop_sequence"]) =
            (json!(self.stop_reason), self.stop_sequence.clone());
        if self.quirk != UsageQuirk::Missing {
            whole["usage"] = self.usage(self.tally.output);
            if self.tally.reasoning > 0 {
                whole["usage"]["output_tokens_details"] = json!({"thinking_tokens": self.tally.reasoning});
            }
        }
        whole
    }

    pub fn envelope(&self) -> Value {
        json!({
            "model": self.model,
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
        })
    }

    pub fn usage(&self, output: u64) -> Value {
        let tally = self.tally;
        json!({
            "input_tokens": tally.input_uncached,
            "cache_creation_input_tokens": tally.cache_written(),
            "cache_read_input_tokens": tally.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": tally.cache_write_5m,
                "ephemeral_1h_input_tokens": tally.cache_write_1h,
            },
            "output_tokens": output,
            "service_tier": "standard",
            "inference_geo": "not_available",
        })
    }
}
