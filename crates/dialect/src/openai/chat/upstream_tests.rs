//! What servers of the chat dialect are asked, and what their errors mean.

use proptest::prelude::*;
use serde_json::{Value, json};

use domain::{
    CacheMark, Input, Media, MediaKind, MediaSource, Part, Reasoning, ReasoningWish, ServiceTier, Tool,
    ToolCall, ToolChoice,
};

use super::*;
use crate::openai::Manner;
use crate::{ErrorAnswer, Fault, FaultKind, Target, Upstream};

pub(super) fn fault(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let answer = ErrorAnswer { status, headers: &headers, body: body.as_bytes(), now: 0 };
    ChatUpstream::default().fault(&answer)
}

#[test]
fn every_error_is_blamed_on_whom_it_concerns() {
    use FaultKind::*;
    let rows = [
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            ContextOverflow,
        ),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However…","type":"BadRequestError","param":null,"code":400}"#,
            ContextOverflow,
        ),
        (
            400,
            r#"{"error":{"message":"Invalid 'temperature'","type":"invalid_request_error","param":"temperature","code":"decimal_above_max_value"}}"#,
            BadRequest,
        ),
        (
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-abc***xyz.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            Credentials,
        ),
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            QuotaExhausted,
        ),
        (
            429,
            r#"{"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
            RateLimited,
        ),
        (
            404,
            r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            UnknownModel,
        ),
        (
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
            UnknownModel,
        ),
        (
            400,
            r#"{"error":{"code":"content_filter","message":"The response was filtered","param":"prompt","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{}}}}"#,
            ContentFiltered,
        ),
        (401, r#"{"statusCode":401,"message":"Access denied due to invalid subscription key"}"#, Credentials),
        (429, r#"{"error":{"code":"429","message":"Requests have exceeded call rate limit"}}"#, RateLimited),
        (
            403,
            r#"{"error":{"code":403,"message":"flagged","metadata":{"reasons":["x"],"flagged_input":"…"}}}"#,
            ContentFiltered,
        ),
        (
            402,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
            QuotaExhausted,
        ),
        (
            500,
            r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#,
            Server,
        ),
        (
            503,
            r#"{"error":{"message":"overloaded","type":"server_error","code":"engine_overloaded"}}"#,
            Overloaded,
        ),
        (
            422,
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","top_k"],"msg":"Extra inputs are not permitted"}]}"#,
            BadRequest,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            Credentials,
        ),
        (
            429,
            r#"[{"error":{"code":429,"message":"Resource exhausted","status":"RESOURCE_EXHAUSTED"}}]"#,
            RateLimited,
        ),
        (
            498,
            r#"{"error":{"message":"flex tier has no room","type":"flex","code":"capacity_exceeded"}}"#,
            Overloaded,
        ),
        (502, "<html><head><title>502 Bad Gateway</title></head><body></body></html>", Server),
        (504, "", Timeout),
        (503, "upstream connect error", Overloaded),
        (413, "<html><title>413 Request Entity Too Large</title></html>", ContextOverflow),
        (302, "", Server),
        (418, "null", BadRequest),
        (500, "[]", Server),
        (400, r#"{"error":null}"#, BadRequest),
    ];
    for (status, body, kind) in rows {
        let fault = fault(status, &[], body);
        assert_eq!(fault.kind, kind, "{status} {body}: {fault:?}");
        assert!(!fault.message.is_empty() && !fault.message.contains("sk-"), "{fault:?}");
        assert!(!fault.message.contains('<'), "{fault:?}");
    }
    let place = fault(422, &[], r#"{"detail":[{"loc":["body","top_k",0],"msg":"Extra inputs"}]}"#);
    assert_eq!(place.message, "body.top_k.0: Extra inputs");
    let named = fault(400, &[], r#"{"error":{"message":"m","param":"stop","code":"invalid_value"}}"#);
    assert_eq!((named.param.as_deref(), named.code.as_deref()), (Some("stop"), Some("invalid_value")));
}

#[test]
fn a_wait_is_heard_where_one_is_told() {
    let millis = |fault: Fault| fault.retry_after.map(|wait| wait.as_millis());
    assert_eq!(millis(fault(503, &[("retry-after", "3")], "")), Some(3_000));
    let reset = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
    assert_eq!(millis(fault(429, &reset, "")), Some(360_000));
    assert_eq!(millis(fault(400, &reset, "")), None, "these headers are in every answer");
}

const TARGET: Target<'static> = Target { model: "m", stream: true };

#[test]
fn the_clients_own_bytes_pass_but_for_the_model_and_the_usage() {
    let upstream = ChatUpstream::default();
    let passed = |body: &str, stream| {
        let request = upstream.passed(body.as_bytes(), &Target { model: "gpt \"x\"", stream }).unwrap();
        assert_eq!(request.path, "/chat/completions");
        String::from_utf8(request.body).unwrap()
    };
    assert_eq!(
        passed(
            r#"{"messages": [ {"role":"user", "n": 1.00} ], "mod\u0065l":"a", "new":{"b":1,"a":[ ]}, "session_id":"s"}"#,
            false
        ),
        r#"{"model":"gpt \"x\"","messages":[ {"role":"user", "n": 1.00} ],"new":{"b":1,"a":[ ]}}"#
    );
    assert_eq!(
        passed(r#"{"model":"a","stream":true,"stream_options":{"include_obfuscation":false},"x":1}"#, true),
        r#"{"model":"gpt \"x\"","x":1,"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}}"#
    );
    assert_eq!(
        passed(r#"{"model":"a","stream":true,"stream_options":{}}"#, false),
        r#"{"model":"gpt \"x\""}"#
    );
    assert!(upstream.passed(b"[1]", &TARGET).is_err());
    let azure =
        ChatUpstream { manner: Manner { azure_api_version: Some("2026-01-01".into()), ..Manner::default() } };
    let request = azure.passed(b"{}", &Target { model: "my-gpt", stream: false }).unwrap();
    assert_eq!(request.path, "/openai/deployments/my-gpt/chat/completions?api-version=2026-01-01");
}

#[test]
fn what_an_upstream_has_no_words_for_is_named() {
    let ask = |fields: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read(body.to_string().as_bytes()).unwrap().ask
    };
    let openai = ChatUpstream::default();
    for (fields, what) in [
        (json!({"top_k": 5}), "top_k"),
        (json!({"min_p": 0.1}), "min_p"),
        (json!({"ignore_eos": true}), "ignore_eos"),
        (json!({"chat_template_kwargs": {"x": 1}}), "chat_template_kwargs"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "https://x/y.wav"}}]}]}),
            "messages[0].content[0]",
        ),
    ] {
        assert_eq!(openai.request(&ask(fields.clone()), &TARGET).unwrap_err().what, what);
        let compatible = ChatUpstream { manner: Manner::compatible() };
        assert!(compatible.request(&ask(fields), &TARGET).is_ok());
    }
    let mut foreign = ask(json!({}));
    if let Input::Chat(chat) = &mut foreign.input {
        chat.tools.push(Tool::Native { dialect: "anthropic.messages", tool: json!({"type": "computer"}) });
    }
    assert_eq!(openai.request(&foreign, &TARGET).unwrap_err().what, "tools[0]");
}

#[test]
fn what_a_tool_shows_follows_all_answers_of_tools() {
    let image = Media {
        kind: MediaKind::Image,
        source: MediaSource::Url("https://x/y.png".into()),
        detail: None,
        name: None,
        cache: None,
    };
    let tool = |id: &str, parts| domain::ChatMessage {
        tool_call_id: Some(id.into()),
        ..domain::ChatMessage::new(domain::Role::Tool, parts)
    };
    let messages = [
        tool("a", vec![Part::text("see"), Part::Media(image)]),
        tool("b", vec![Part::text("done")]),
        domain::ChatMessage::of_text(domain::Role::User, "well?"),
    ];
    let wire = crate::openai::messages::written::to_wire(&messages, &Manner::default()).unwrap();
    let roles: Vec<&str> =
        wire.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["tool", "tool", "user", "user"]);
    assert_eq!(wire[2]["content"][0]["type"], "image_url");
}

fn any_part() -> impl Strategy<Value = Part> {
    let mark = || prop::sample::select(vec![None, Some(CacheMark::FiveMinutes), Some(CacheMark::OneHour)]);
    let inline =
        |media_type: &str, data: String| MediaSource::Inline { media_type: media_type.to_owned(), data };
    prop_oneof![
        ("\\PC{0,6}", mark()).prop_map(|(text, cache)| Part::Text { text, cache }),
        ("[a-z]{1,4}", prop::option::of("low|high"), mark(), any::<bool>()).prop_map(
            move |(data, detail, cache, is_url)| {
                let source = if is_url {
                    MediaSource::Url(format!("https://{data}"))
                } else {
                    inline("image/png", data)
                };
                Part::Media(Media { kind: MediaKind::Image, source, detail, name: None, cache })
            }
        ),
        ("[a-z]{1,4}", prop::option::of("[a-z]{1,3}"), any::<bool>()).prop_map(
            move |(data, name, is_file)| {
                let source = if is_file { MediaSource::File(data) } else { inline("application/pdf", data) };
                let name = name.filter(|_| !is_file);
                Part::Media(Media { kind: MediaKind::Document, source, detail: None, name, cache: None })
            }
        ),
        ("[a-z]{1,4}", prop::sample::select(vec!["audio/wav", "audio/mpeg"])).prop_map(
            move |(data, media_type)| {
                let source = inline(media_type, data);
                Part::Media(Media { kind: MediaKind::Audio, source, detail: None, name: None, cache: None })
            }
        ),
    ]
}

fn any_turn() -> impl Strategy<Value = Vec<domain::ChatMessage>> {
    let thought = ("\\PC{1,5}", "[a-z]{1,3}")
        .prop_map(|(text, proof)| Part::Reasoning(Reasoning { text, proof: Some(proof), id: None }));
    let call = ("[a-z]{1,4}", "\\PC{1,6}", prop::option::of("[a-z]{1,3}"));
    let user = prop::collection::vec(any_part(), 1..4);
    let assistant = (prop::collection::vec(thought, 0..3), "\\PC{1,6}", prop::collection::vec(call, 0..3));
    (user, assistant, "\\PC{1,6}").prop_map(|(user, (thoughts, text, calls), output)| {
        let mut parts = thoughts;
        parts.push(Part::text(text));
        let mut turn = vec![domain::ChatMessage::new(domain::Role::User, user)];
        let mut outputs = Vec::new();
        for (place, (name, arguments, proof)) in calls.into_iter().enumerate() {
            let id = format!("c{place}");
            let message = domain::ChatMessage::of_text(domain::Role::Tool, output.clone());
            outputs.push(domain::ChatMessage { tool_call_id: Some(id.clone()), ..message });
            parts.push(Part::ToolCall(ToolCall { id, name, arguments, proof }));
        }
        turn.push(domain::ChatMessage::new(domain::Role::Assistant, parts));
        turn.extend(outputs);
        turn
    })
}

proptest! {
    #[test]
    fn an_ask_that_is_written_for_an_upstream_reads_back_as_itself(
        turns in prop::collection::vec(any_turn(), 1..3),
        choice in prop::sample::select(vec![ToolChoice::Auto, ToolChoice::None, ToolChoice::Required, ToolChoice::Named("f".into())]),
        format in 0usize..3,
        (temperature, top_p, penalty) in (prop::option::of(0f32..2.0), prop::option::of(0.01f32..1.0), prop::option::of(-2f32..2.0)),
        (seed, top_k, logprobs, tokens) in (prop::option::of(any::<u64>()), prop::option::of(0u32..99), prop::option::of(0u8..20), prop::option::of(1u32..)),
        effort in prop::option::of("low|high|none"),
        tier in prop::sample::select(vec![None, Some(ServiceTier::Flex), Some(ServiceTier::Standard), Some(ServiceTier::Priority)]),
        stream: bool,
    ) {
        let mut ask = read(br#"{"model": "m", "messages": [{"role": "system", "content": "s"}], "stop": ["a", "b"], "n": 2,
            "user": "u", "prompt_cache_key": "k", "logit_bias": {"5": -1.5}, "ignore_eos": true, "parallel_tool_calls": false,
            "chat_template_kwargs": {"x": [1]}, "web_search_options": {"search_context_size": "low"}, "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"b": 1, "a": 2}, "strict": true},
             "cache_control": {"type": "ephemeral"}}, {"type": "web_search", "x": 1}]}"#).unwrap().ask;
        (ask.max_output_tokens, ask.logprobs, ask.service_tier) = (tokens, logprobs, tier);
        (ask.stream, ask.stream_usage) = (stream, stream);
        let sampling = &mut ask.sampling;
        (sampling.temperature, sampling.top_p, sampling.presence_penalty) = (temperature, top_p, penalty);
        (sampling.seed, sampling.top_k) = (seed, top_k);
        let Input::Chat(chat) = &mut ask.input else { panic!("a chat") };
        chat.messages.extend(turns.into_iter().flatten());
        chat.tool_choice = choice;
        chat.reasoning = effort.map(|effort| ReasoningWish { effort: Some(effort), ..ReasoningWish::default() });
        let schema = json!({"type": "object", "x": 1.5});
        chat.format = match format {
            0 => domain::AnswerFormat::Text,
            1 => domain::AnswerFormat::JsonObject,
            _ => domain::AnswerFormat::JsonSchema { name: "n".into(), description: None, schema, strict: Some(true) },
        };
        let upstream = ChatUpstream { manner: Manner::compatible() };
        let request = upstream.request(&ask, &Target { model: "m", stream }).unwrap();
        let heard = read(&request.body).unwrap();
        prop_assert_eq!(&heard.ask, &ask);
        prop_assert!(heard.ignored.is_empty(), "{:?}", heard.ignored);
        // Passed on as it is, the request still means the same.
        let passed = upstream.passed(&request.body, &Target { model: "m", stream }).unwrap();
        prop_assert_eq!(read(&passed.body).unwrap().ask, ask);
    }
}
