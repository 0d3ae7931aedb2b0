//! Converse: what is understood, and what is answered, whole or in frames?

use serde_json::{Value, json};

use super::shape::{MODEL_FIELDS, REQUEST};
use crate::standin::behaviour::UsageQuirk;
use crate::standin::check::{Fault, Problem, Step, check, key};
use crate::standin::mind::{Ending, Said, sign, think};
use crate::standin::prompt::{Choice, Format, Lifetime, Media, Prompt, Tally};
use crate::standin::reply::{Event, Framing, Part, Reply, Stream, Trouble};
use crate::standin::server::Context;
use crate::standin::tokens::tokens;

const PADDING: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

pub fn answer(body: &Value, model: &str, streams: bool, context: &mut Context<'_>) -> Result<Reply, Trouble> {
    check(body, &REQUEST)?;
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
    let reply = match streams {
        true => Reply::stream(stream(&said, tally, context)),
        false => Reply::json(200, &whole(&said, tally, context)),
    };
    Ok(reply.counted(tally))
}

fn check_fields(body: &Value) -> Result<(), Problem> {
    let top = |text: &str| Err(Problem::rule([], text));
    for name in body["additionalModelRequestFields"].as_object().into_iter().flat_map(|map| map.keys()) {
        if !MODEL_FIELDS.contains(&&**name) {
            return Err(Problem { path: vec![key(name)], fault: Fault::Unknown });
        }
    }
    let thinking = &body["additionalModelRequestFields"]["thinking"];
    if thinking["type"] == "enabled" {
        let budget = thinking["budget_tokens"].as_u64();
        if budget.is_none_or(|budget| budget < 1024) {
            return top(
                "The model returned the following errors: thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
            );
        }
        if body["inferenceConfig"]["maxTokens"].as_u64().is_some_and(|most| budget >= Some(most)) {
            return top(
                "The model returned the following errors: `max_tokens` must be greater than `thinking.budget_tokens`.",
            );
        }
        if body["inferenceConfig"]["temperature"].as_f64().is_some_and(|value| value != 1.0) {
            return top(
                "The model returned the following errors: `temperature` may only be set to 1 when thinking is enabled.",
            );
        }
        if body["toolConfig"]["toolChoice"]
            .get("any")
            .or(body["toolConfig"]["toolChoice"].get("tool"))
            .is_some()
        {
            return top(
                "The model returned the following errors: Thinking may not be enabled when tool_choice forces tool use.",
            );
        }
    }
    for tool in body["toolConfig"]["tools"].as_array().into_iter().flatten() {
        let name = tool["toolSpec"]["name"].as_str().unwrap_or("x");
        let is_good = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
        if !(1..=64).contains(&name.len()) || !name.chars().all(is_good) {
            return top(
                "1 validation error detected: Value at 'toolConfig.tools.1.member.toolSpec.name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+",
            );
        }
    }
    if body["toolConfig"]["tools"].as_array().is_some_and(Vec::is_empty) {
        return top(
            "1 validation error detected: Value '[]' at 'toolConfig.tools' failed to satisfy constraint: Member must have length greater than or equal to 1",
        );
    }
    check_messages(body)
}

fn check_messages(body: &Value) -> Result<(), Problem> {
    let messages = body["messages"].as_array().expect("the shape says so");
    let top = |text: String| Err(Problem::rule([], text));
    if messages.first().is_none_or(|first| first["role"] != "user") {
        return top("A conversation must start with a user message. Try again with a conversation that starts with a user message.".into());
    }
    if messages.last().is_none_or(|last| last["role"] != "user") {
        return top("This model does not support assistant message prefill. The conversation must end with a user message.".into());
    }
    for (place, message) in messages.iter().enumerate() {
        let at = |number: usize| [key("messages"), Step::Place(place), key("content"), Step::Place(number)];
        if place > 0 && messages[place - 1]["role"] == message["role"] {
            return top("A conversation must alternate between user and assistant roles. Make sure the conversation alternates between user and assistant roles and try again.".into());
        }
        let blocks = |number: usize| {
            messages.get(number).and_then(|message| message["content"].as_array()).into_iter().flatten()
        };
        if blocks(place).next().is_none() {
            let shown = place + 1;
            return top(format!(
                "The content field in the Message object at messages.{shown} is empty. Add a ContentBlock object to the content field and try again."
            ));
        }
        let calls: Vec<&str> =
            blocks(place).filter_map(|block| block["toolUse"]["toolUseId"].as_str()).collect();
        let answers: Vec<&str> =
            blocks(place + 1).filter_map(|block| block["toolResult"]["toolUseId"].as_str()).collect();
        if calls.iter().any(|id| !answers.contains(id)) {
            return top(format!(
                "Expected toolResult blocks at messages.{}.content for the following Ids: {}",
                place + 1,
                calls.join(", ")
            ));
        }
        if answers.len() > calls.len() {
            return top("The number of toolResult blocks at messages.content exceeds the number of toolUse blocks of previous turn.".into());
        }
        if !calls.is_empty() && body["toolConfig"].is_null() {
            return top(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
                    .into(),
            );
        }
        for (number, block) in blocks(place).enumerate() {
            if block["text"].as_str().is_some_and(|text| text.trim().is_empty()) {
                return Err(Problem::rule(
                    at(number),
                    "The text field in the ContentBlock object is blank. Add text to the text field, and try again.",
                ));
            }
            let thought = &block["reasoningContent"]["reasoningText"];
            let is_own = thought.is_null()
                || thought["signature"] == sign(thought["text"].as_str().unwrap_or_default());
            if !is_own {
                return Err(Problem::rule(
                    at(number),
                    "The model returned the following errors: Invalid `signature` in `thinking` block",
                ));
            }
            let name = block["document"]["name"].as_str().unwrap_or("x");
            let is_good = |letter: char| letter.is_ascii_alphanumeric() || " -()[]".contains(letter);
            if !name.chars().all(is_good) || name.contains("  ") {
                return Err(Problem::rule(
                    at(number),
                    "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, parentheses, and square brackets. The name can't contain more than one consecutive whitespace character.",
                ));
            }
        }
    }
    Ok(())
}

fn read(body: &Value) -> Result<Prompt, Trouble> {
    let inference = &body["inferenceConfig"];
    let stops = inference["stopSequences"].as_array().into_iter().flatten();
    let mut prompt = Prompt {
        max_tokens: inference["maxTokens"].as_u64(),
        stop: stops.filter_map(Value::as_str).map(str::to_owned).collect(),
        thinks: matches!(
            body["additionalModelRequestFields"]["thinking"]["type"].as_str(),
            Some("enabled" | "adaptive")
        ),
        one_call_only: body["additionalModelRequestFields"]["tool_choice"]["disable_parallel_tool_use"]
            == json!(true),
        ..Prompt::default()
    };
    for tool in body["toolConfig"]["tools"].as_array().into_iter().flatten() {
        match &tool["toolSpec"] {
            Value::Null => prompt.mark(lifetime(&tool["cachePoint"])),
            spec => prompt.offer(
                spec["name"].as_str().unwrap_or_default(),
                spec["inputSchema"]["json"].clone(),
                spec,
            ),
        }
    }
    let choice = &body["toolConfig"]["toolChoice"];
    prompt.choice = match choice["tool"]["name"].as_str() {
        Some(name) => Choice::Named(name.to_owned()),
        None if choice.get("any").is_some() => Choice::Any,
        None => Choice::Auto,
    };
    if let Some(schema) = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"].as_str() {
        let schema = serde_json::from_str(schema);
        let at = [key("outputConfig"), key("textFormat")];
        prompt.format =
            Format::Schema(schema.map_err(|_| Problem::rule(at, "The JSON schema is not valid JSON."))?);
    }
    for block in body["system"].as_array().into_iter().flatten() {
        match block["text"].as_str() {
            Some(text) => prompt.instruct(text),
            None => prompt.mark(lifetime(&block["cachePoint"])),
        }
    }
    for (place, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        let is_user = message["role"] == "user";
        if is_user {
            prompt.turn();
        }
        for block in message["content"].as_array().into_iter().flatten() {
            let at = [key("messages"), Step::Place(place)];
            read_block(block, is_user, &mut prompt).map_err(|why| Problem::rule(at, why))?;
        }
    }
    Ok(prompt)
}

fn read_block(block: &Value, is_user: bool, prompt: &mut Prompt) -> Result<(), String> {
    if let Some(text) = block["text"].as_str() {
        if is_user { prompt.ask(text) } else { prompt.say(text) }
    } else if !block["image"].is_null() {
        prompt.show(media("image", &block["image"])?);
    } else if !block["document"].is_null() {
        prompt.show(media("document", &block["document"])?);
    } else if !block["toolResult"].is_null() {
        let result = &block["toolResult"];
        let said: String = result["content"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|part| match part.get("json") {
                Some(value) => value.to_string(),
                None => part["text"].as_str().unwrap_or_default().to_owned(),
            })
            .collect();
        prompt.say(&*said);
        let failed = if result["status"] == "error" { "(failed) " } else { "" };
        prompt.tool_results.push(format!("{failed}{said}"));
    } else if !block["toolUse"].is_null() {
        prompt.say(block["toolUse"]["input"].to_string());
    } else if !block["cachePoint"].is_null() {
        prompt.mark(lifetime(&block["cachePoint"]));
    } else {
        prompt.say(block["reasoningContent"].to_string());
    }
    Ok(())
}

fn media(family: &str, block: &Value) -> Result<Media, String> {
    let format = block["format"].as_str().unwrap_or("txt");
    let media_type = match (family, format) {
        ("image", format) => format!("image/{format}"),
        (_, "txt") => "text/plain".into(),
        (_, format) => format!("application/{format}"),
    };
    match block["source"]["bytes"].as_str() {
        Some(data) => Media::of_base64(&media_type, data),
        None => Ok(Media::At(block["source"]["s3Location"]["uri"].as_str().unwrap_or("text").to_owned())),
    }
}

fn lifetime(point: &Value) -> Option<Lifetime> {
    Some(if point["ttl"] == "1h" { Lifetime::OneHour } else { Lifetime::FiveMinutes })
}

fn whole(said: &Said, tally: Tally, context: &Context<'_>) -> Value {
    let mut content = Vec::new();
    if !said.reasoning.is_empty() {
        let text = said.reasoning_text();
        content
            .push(json!({"reasoningContent": {"reasoningText": {"text": text, "signature": sign(&text)}}}));
    }
    if !said.text.is_empty() {
        content.push(json!({"text": said.text()}));
    }
    for (place, call) in (0..).zip(&said.calls) {
        let id = context.id("tooluse_", 100 + place, 22);
        content.push(json!({"toolUse": {"toolUseId": id, "name": call.name, "input": call.arguments}}));
    }
    let mut whole = json!({
        "metrics": {"latencyMs": 7},
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": stop_reason(said),
    });
    if context.plan.usage() != UsageQuirk::Missing {
        whole["usage"] = usage(context.reported(tally));
    }
    whole
}

fn stream(said: &Said, tally: Tally, context: &Context<'_>) -> Stream {
    let mut events = Vec::new();
    let mut add = |part: Part, name: &'static str, mut data: Value| {
        // Padding hides how long tokens are from those who watch the wire.
        data["p"] = json!(&PADDING[..1 + name.len() % PADDING.len()]);
        events.push(Event::new(part, Some(name), &data));
    };
    add(Part::Opening, "messageStart", json!({"role": "assistant"}));
    let mut index = 0;
    if !said.reasoning.is_empty() {
        let thoughts = said.reasoning.iter().map(|token| json!({"reasoningContent": {"text": token}}));
        let proof = json!({"reasoningContent": {"signature": sign(&said.reasoning_text())}});
        for delta in thoughts.chain([proof]) {
            add(Part::Content, "contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
        }
        add(Part::Opening, "contentBlockStop", json!({"contentBlockIndex": index}));
        index += 1;
    }
    if !said.text.is_empty() {
        for token in &said.text {
            add(
                Part::Content,
                "contentBlockDelta",
                json!({"contentBlockIndex": index, "delta": {"text": token}}),
            );
        }
        add(Part::Opening, "contentBlockStop", json!({"contentBlockIndex": index}));
        index += 1;
    }
    for (place, call) in (0..).zip(&said.calls) {
        let start =
            json!({"toolUse": {"toolUseId": context.id("tooluse_", 100 + place, 22), "name": call.name}});
        add(Part::Opening, "contentBlockStart", json!({"contentBlockIndex": index, "start": start}));
        for piece in tokens(&call.arguments.to_string()) {
            let delta = json!({"toolUse": {"input": piece}});
            add(Part::Content, "contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
        }
        add(Part::Opening, "contentBlockStop", json!({"contentBlockIndex": index}));
        index += 1;
    }
    add(Part::Finish, "messageStop", json!({"stopReason": stop_reason(said)}));
    let reports = match context.plan.usage() {
        UsageQuirk::Missing => 0,
        UsageQuirk::Twice => 2,
        _ => 1,
    };
    for _ in 0..reports {
        let metadata = json!({"metrics": {"latencyMs": 7}, "usage": usage(context.reported(tally))});
        add(Part::Usage, "metadata", metadata);
    }
    let broken = json!({"message": "The system encountered an unexpected error during processing. Try your request again."});
    Stream {
        framing: Framing::Binary,
        events,
        broken: vec![Event::new(Part::Error, Some("internalServerException"), &broken)],
        ping: None,
    }
}

/// Its input excludes what the cache held and what was written to it.
fn usage(tally: Tally) -> Value {
    let mut usage = json!({
        "inputTokens": tally.input_uncached,
        "outputTokens": tally.output,
        "totalTokens": tally.total(),
        "cacheReadInputTokens": tally.cache_read,
        "cacheWriteInputTokens": tally.cache_written(),
    });
    if tally.cache_written() > 0 {
        let kept = [("5m", tally.cache_write_5m), ("1h", tally.cache_write_1h)]
            .into_iter()
            .filter(|(_, tokens)| *tokens > 0);
        usage["cacheDetails"] =
            kept.map(|(ttl, tokens)| json!({"ttl": ttl, "inputTokens": tokens})).collect();
    }
    usage
}

fn stop_reason(said: &Said) -> &'static str {
    match said.ending {
        Ending::Stop | Ending::Refusal => "end_turn",
        Ending::StopString(_) => "stop_sequence",
        Ending::Length => "max_tokens",
        Ending::Calls => "tool_use",
        Ending::Filter => "content_filtered",
    }
}
