//! generateContent: what is understood, and what is answered, whole or in chunks?

use serde_json::{Value, json};

use super::Verb;
use super::shape::REQUEST;
use crate::standin::Kind;
use crate::standin::behaviour::UsageQuirk;
use crate::standin::check::{Problem, Step, check, key};
use crate::standin::mind::{Call, Ending, Said, logprob, sign, think};
use crate::standin::prompt::{Choice, Media, Piece, Prompt, Tally};
use crate::standin::reply::{Event, Framing, Part, Reply, Stream, Trouble};
use crate::standin::server::{Context, format_of};

/// What the documentation lets stand for a signature that another model's call never had.
const STANDS_FOR_SIGNATURE: [&str; 2] =
    ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];

struct Frame<'a> {
    body: &'a Value,
    model: &'a str,
    id: String,
    context: &'a Context<'a>,
}

pub fn answer(body: &Value, model: &str, verb: Verb, context: &mut Context<'_>) -> Result<Reply, Trouble> {
    check(body, &REQUEST)?;
    check_fields(body, model, context.kind)?;
    let prompt = read(body, model)?;
    context.check_length(&prompt)?;
    if verb == Verb::Count {
        let tokens: u64 = prompt.pieces.iter().map(Piece::token_count).sum();
        let details = json!([{"modality": "TEXT", "tokenCount": tokens}]);
        return Ok(Reply::json(200, &json!({"totalTokens": tokens, "promptTokensDetails": details})));
    }
    let count = body["generationConfig"]["candidateCount"].as_u64().unwrap_or(1);
    let said: Vec<Said> = (0..count).map(|choice| think(&prompt, choice)).collect();
    let found = context.cache.by_itself(model, &prompt.pieces, context.behaviour.cache);
    let tally = Tally {
        input_uncached: found.uncached,
        cache_read: found.read,
        output: said.iter().map(Said::output_tokens).sum(),
        reasoning: said.iter().map(|said| said.reasoning.len() as u64).sum(),
        ..Tally::default()
    };
    let frame = Frame { body, model, id: context.id("", 2, 22), context };
    let reply = match verb {
        Verb::Generate => Reply::json(200, &frame.whole(&said, tally)),
        Verb::StreamEvents => Reply::stream(frame.stream(&said, tally, Framing::ServerSent)),
        Verb::StreamArray | Verb::Count => Reply::stream(frame.stream(&said, tally, Framing::JsonArray)),
    };
    Ok(reply.with("server-timing", "gfet4t7; dur=7").with("x-gemini-service-tier", "standard").counted(tally))
}

fn check_fields(body: &Value, model: &str, kind: Kind) -> Result<(), Problem> {
    let rule = |name: &str, text: String| Err(Problem::rule([key(name)], text));
    let generation = &body["generationConfig"];
    let given = |name: &str| !generation[name].is_null();
    if given("responseSchema") && given("responseJsonSchema") {
        return rule(
            "generationConfig",
            "Only one of response_schema and response_json_schema may be set.".into(),
        );
    }
    if (given("responseSchema") || given("responseJsonSchema"))
        && generation["responseMimeType"] != "application/json"
    {
        return rule("generationConfig", "Function calling config or response schema is set without response_mime_type: 'application/json'".into());
    }
    if given("logprobs") && generation["responseLogprobs"] != json!(true) {
        return rule("generationConfig", "Logprobs is set but response_logprobs is not.".into());
    }
    if generation["stopSequences"].as_array().is_some_and(|stops| stops.len() > 5) {
        return rule("generationConfig", "The number of stop sequences must be at most 5.".into());
    }
    let thinking = &generation["thinkingConfig"];
    if !thinking["thinkingBudget"].is_null() && !thinking["thinkingLevel"].is_null() {
        return rule(
            "generationConfig",
            "You can only set only one of thinking budget and thinking level.".into(),
        );
    }
    if !thinking["thinkingLevel"].is_null() && model.starts_with("gemini-2") {
        return rule("generationConfig", "Thinking level is not supported for this model.".into());
    }
    if body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"].is_array()
        && !matches!(body["toolConfig"]["functionCallingConfig"]["mode"].as_str(), Some("ANY" | "VALIDATED"))
    {
        return rule(
            "toolConfig",
            "Allowed function names are only supported when the mode is ANY or VALIDATED.".into(),
        );
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        for declared in tool["functionDeclarations"].as_array().into_iter().flatten() {
            if !declared["parameters"].is_null() && !declared["parametersJsonSchema"].is_null() {
                return rule("tools", "Only one of parameters and parameters_json_schema may be set.".into());
            }
        }
    }
    check_contents(body, model, kind)
}

fn check_contents(body: &Value, model: &str, kind: Kind) -> Result<(), Problem> {
    let contents = body["contents"].as_array().expect("the shape says so");
    if contents.is_empty() {
        return Err(Problem::rule(
            [key("contents")],
            "* GenerateContentRequest.contents: contents is not specified",
        ));
    }
    let parts = |place: usize| {
        contents.get(place).and_then(|content| content["parts"].as_array()).into_iter().flatten()
    };
    let last_ask = (0..contents.len()).rev().find(|place| {
        parts(*place).any(|part| part["text"].is_string() && contents[*place]["role"] != "model")
    });
    for (place, content) in contents.iter().enumerate() {
        let rule = |text: String| Err(Problem::rule([key("contents"), Step::Place(place)], text));
        if kind == Kind::Vertex && content["role"].is_null() {
            return rule("Please use a valid role: user, model.".into());
        }
        if content["parts"].as_array().is_none_or(Vec::is_empty) {
            return rule(format!(
                "* GenerateContentRequest.contents[{place}].parts: contents.parts must not be empty."
            ));
        }
        for (number, part) in parts(place).enumerate() {
            let kinds = ["text", "inlineData", "fileData", "functionCall", "functionResponse"];
            let count = kinds.iter().filter(|name| !part[**name].is_null()).count();
            if count != 1 {
                return rule(format!(
                    "* GenerateContentRequest.contents[{place}].parts[{number}].data: required oneof field 'data' must have one initialized field"
                ));
            }
            check_signature(part)?;
        }
        let calls = parts(place).filter(|part| !part["functionCall"].is_null());
        let first_call = calls.clone().next();
        if let Some(call) = first_call {
            let name = call["functionCall"]["name"].as_str().unwrap_or_default();
            // Only the calls of the current turn must be proven.
            let is_current = last_ask.is_none_or(|ask| place > ask);
            if model.starts_with("gemini-3") && is_current && call["thoughtSignature"].is_null() {
                return rule(format!(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance. Additional data, function call `default_api:{name}` , position {place}."
                ));
            }
            let answers = parts(place + 1).filter(|part| !part["functionResponse"].is_null()).count();
            if answers != calls.count() {
                return rule("Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.".into());
            }
        }
        let answers_come = parts(place).any(|part| !part["functionResponse"].is_null());
        if answers_come && (place == 0 || parts(place - 1).all(|part| part["functionCall"].is_null())) {
            return rule(
                "Please ensure that function response turn comes immediately after a function call turn."
                    .into(),
            );
        }
        if let Some(answer) = parts(place).find_map(|part| part["functionResponse"]["name"].as_str()) {
            let known = parts(place - 1).any(|part| part["functionCall"]["name"] == answer);
            if !known {
                return rule(format!("The function response '{answer}' answers no function call."));
            }
        }
    }
    Ok(())
}

fn check_signature(part: &Value) -> Result<(), Problem> {
    let Some(signature) = part["thoughtSignature"].as_str() else { return Ok(()) };
    let signed = match &part["functionCall"] {
        Value::Null => part["text"].as_str().unwrap_or_default().to_owned(),
        call => format!("{}{}", call["name"].as_str().unwrap_or_default(), call["args"]),
    };
    let signature = &*signature.replace('-', "+").replace('_', "/");
    match signature == sign(&signed)
        || STANDS_FOR_SIGNATURE.contains(&part["thoughtSignature"].as_str().unwrap_or_default())
    {
        true => Ok(()),
        false => Err(Problem::rule([key("contents")], "Corrupted thought signature.")),
    }
}

fn read(body: &Value, model: &str) -> Result<Prompt, Trouble> {
    let generation = &body["generationConfig"];
    let thinking = &generation["thinkingConfig"];
    let stops = generation["stopSequences"].as_array().into_iter().flatten();
    let mut prompt = Prompt {
        max_tokens: generation["maxOutputTokens"].as_u64(),
        stop: stops.filter_map(Value::as_str).map(str::to_owned).collect(),
        thinks: thinking["thinkingBudget"] != json!(0)
            && (thinking.is_object() || model.starts_with("gemini-3")),
        ..Prompt::default()
    };
    let calling = &body["toolConfig"]["functionCallingConfig"];
    let allowed = calling["allowedFunctionNames"].as_array();
    for tool in body["tools"].as_array().into_iter().flatten() {
        for declared in tool["functionDeclarations"].as_array().into_iter().flatten() {
            let name = declared["name"].as_str().unwrap_or_default();
            let is_good = |letter: char| letter.is_ascii_alphanumeric() || "_-.:".contains(letter);
            let starts_well = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
            if !starts_well || !name.chars().all(is_good) || name.len() > 128 {
                let text = format!(
                    "Invalid function name `{name}`. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128."
                );
                return Err(Problem::rule([key("tools")], text).into());
            }
            let schema = declared.get("parametersJsonSchema").or(declared.get("parameters"));
            prompt.offer(name, schema.cloned().unwrap_or_default(), declared);
        }
    }
    prompt.choice = match (calling["mode"].as_str(), allowed.map(|names| &names[..])) {
        (Some("NONE"), _) => Choice::None,
        (Some("ANY"), Some([name, ..])) => Choice::Named(name.as_str().unwrap_or_default().to_owned()),
        (Some("ANY"), _) => Choice::Any,
        _ => Choice::Auto,
    };
    if generation["responseMimeType"] == "application/json" {
        prompt.format = format_of(generation.get("responseJsonSchema").or(generation.get("responseSchema")));
    }
    for part in body["systemInstruction"]["parts"].as_array().into_iter().flatten() {
        prompt.instruct(part["text"].as_str().unwrap_or_default());
    }
    for (place, content) in body["contents"].as_array().into_iter().flatten().enumerate() {
        let is_user = content["role"] != "model";
        if is_user {
            prompt.turn();
        }
        for part in content["parts"].as_array().into_iter().flatten() {
            let at = [key("contents"), Step::Place(place)];
            read_part(part, is_user, &mut prompt).map_err(|why| Problem::rule(at, why))?;
        }
    }
    Ok(prompt)
}

fn read_part(part: &Value, is_user: bool, prompt: &mut Prompt) -> Result<(), String> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if !part["inlineData"].is_null() {
        prompt.show(Media::of_base64(
            &word(&part["inlineData"]["mimeType"]),
            &word(&part["inlineData"]["data"]),
        )?);
    } else if !part["fileData"].is_null() {
        prompt.show(Media::At(word(&part["fileData"]["fileUri"])));
    } else if !part["functionResponse"].is_null() {
        let said = &part["functionResponse"]["response"];
        // The documentation's own names for what a function gave.
        let said = said.get("output").or(said.get("result")).or(said.get("error")).unwrap_or(said);
        let text = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
        prompt.say(&*text);
        prompt.tool_results.push(text);
    } else if !part["functionCall"].is_null() {
        prompt.say(part["functionCall"]["args"].to_string());
    } else if is_user {
        prompt.ask(&word(&part["text"]));
    } else {
        prompt.say(word(&part["text"]));
    }
    Ok(())
}

impl Frame<'_> {
    fn whole(&self, said: &[Said], tally: Tally) -> Value {
        let candidate = |(index, said): (usize, &Said)| {
            let mut parts = Vec::new();
            if self.shows_thoughts() && !said.reasoning.is_empty() {
                parts.push(json!({"text": said.reasoning_text(), "thought": true}));
            }
            if !said.text.is_empty() {
                parts.push(json!({"text": said.text()}));
            }
            parts.extend(said.calls.iter().enumerate().map(|(place, call)| self.call(place, call, said)));
            self.candidate(index, said, parts, true)
        };
        let candidates: Vec<Value> = said.iter().enumerate().map(candidate).collect();
        self.envelope(json!(candidates), (self.context.plan.usage() != UsageQuirk::Missing).then_some(tally))
    }

    fn stream(&self, said: &[Said], tally: Tally, framing: Framing) -> Stream {
        let quirk = self.context.plan.usage();
        let mut events = Vec::new();
        for (index, said) in said.iter().enumerate() {
            let mut pieces: Vec<Value> = Vec::new();
            if self.shows_thoughts() {
                pieces.extend(said.reasoning.iter().map(|token| json!({"text": token, "thought": true})));
            }
            pieces.extend(said.text.iter().map(|token| json!({"text": token})));
            pieces.extend(said.calls.iter().enumerate().map(|(place, call)| self.call(place, call, said)));
            if pieces.is_empty() {
                pieces.push(json!({"text": ""}));
            }
            let last = pieces.len() - 1;
            for (number, piece) in pieces.into_iter().enumerate() {
                let so_far = Tally { output: tally.reasoning + number as u64 + 1, ..tally };
                let usage = match quirk {
                    UsageQuirk::Missing => None,
                    _ if number == last => Some(tally),
                    _ => Some(so_far),
                };
                let part = if number == last { Part::Finish } else { Part::Content };
                let candidate = self.candidate(index, said, vec![piece], number == last);
                let mut event = Event::new(part, None, &self.envelope(json!([candidate]), usage));
                event.tokens = 1;
                events.push(event);
            }
        }
        let error = json!({"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"});
        let broken = vec![Event::new(Part::Error, None, &json!({"error": error}))];
        Stream { framing, events, broken, ping: None }
    }

    fn candidate(&self, index: usize, said: &Said, parts: Vec<Value>, is_last: bool) -> Value {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": index});
        if is_last {
            candidate["finishReason"] = json!(finish_reason(said));
            if self.body["generationConfig"]["responseLogprobs"] == json!(true) {
                candidate["logprobsResult"] = self.scores(said);
                let sum: f64 = said.text.iter().map(|token| logprob(token)).sum();
                candidate["avgLogprobs"] = json!(sum / said.text.len().max(1) as f64);
            }
        }
        candidate
    }

    fn call(&self, place: usize, call: &Call, said: &Said) -> Value {
        let mut part = json!({"functionCall": {"name": call.name, "args": call.arguments}});
        if self.context.kind == Kind::Gemini {
            part["functionCall"]["id"] = json!(self.context.id("", 100 + place as u64, 8));
        }
        // Of several calls at once, only the first is signed.
        if place == 0 && !said.reasoning.is_empty() {
            part["thoughtSignature"] = json!(sign(&format!("{}{}", call.name, call.arguments)));
        }
        part
    }

    fn scores(&self, said: &Said) -> Value {
        let rivals = self.body["generationConfig"]["logprobs"].as_u64().unwrap_or(0);
        let entry = |text: &str, logprob: f64| json!({"token": text, "tokenId": text.len(), "logProbability": logprob});
        let rival = |token: &str, rank: u64| match rank {
            0 => entry(token, logprob(token)),
            rank => entry(&format!("{token}~{rank}"), logprob(token) - rank as f64),
        };
        let top = |token: &String| json!({"candidates": (0..rivals).map(|rank| rival(token, rank)).collect::<Vec<_>>()});
        let chosen: Vec<Value> = said.text.iter().map(|token| entry(token, logprob(token))).collect();
        json!({"topCandidates": said.text.iter().map(top).collect::<Vec<_>>(), "chosenCandidates": chosen})
    }

    fn envelope(&self, candidates: Value, tally: Option<Tally>) -> Value {
        let mut envelope = json!({"candidates": candidates});
        if let Some(tally) = tally {
            envelope["usageMetadata"] = self.usage(self.context.reported(tally));
        }
        envelope["modelVersion"] = json!(self.model);
        envelope["responseId"] = json!(self.id);
        envelope
    }

    fn usage(&self, tally: Tally) -> Value {
        let mut usage = json!({
            "promptTokenCount": tally.input(),
            "candidatesTokenCount": tally.output - tally.reasoning,
            "totalTokenCount": tally.total(),
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tally.input()}],
        });
        if tally.reasoning > 0 {
            usage["thoughtsTokenCount"] = json!(tally.reasoning);
        }
        if tally.cache_read > 0 {
            usage["cachedContentTokenCount"] = json!(tally.cache_read);
            usage["cacheTokensDetails"] = json!([{"modality": "TEXT", "tokenCount": tally.cache_read}]);
        }
        if self.context.kind == Kind::Vertex {
            usage["trafficType"] = json!("ON_DEMAND");
        }
        usage
    }

    fn shows_thoughts(&self) -> bool {
        self.body["generationConfig"]["thinkingConfig"]["includeThoughts"] == json!(true)
    }
}

fn finish_reason(said: &Said) -> &'static str {
    match said.ending {
        Ending::Length => "MAX_TOKENS",
        Ending::Filter => "SAFETY",
        Ending::Stop | Ending::StopString(_) | Ending::Calls | Ending::Refusal => "STOP",
    }
}
