//! What a provider is asked.

use serde_json::{Value, json};

use domain::{
    AnswerFormat, Ask, CacheMark, Chat, ChatMessage, Input, Media, MediaKind, MediaSource, Part, Reasoning,
    ReasoningWish, Role, SamplingWish, ServiceTier, Tool, ToolCall, ToolChoice,
};

use super::super::{Messages, count_passed, read};
use super::written;
use crate::{Target, Upstream};

fn ask(chat: Chat) -> Ask {
    Ask {
        model: "main".into(),
        input: Input::Chat(chat),
        max_output_tokens: Some(20_000),
        sampling: SamplingWish::default(),
        stop: Vec::new(),
        logprobs: None,
        choices: 1,
        stream: false,
        stream_usage: false,
        echo: false,
        ignore_eos: false,
        user: None,
        service_tier: None,
        cache_key: None,
    }
}

fn greeting() -> Chat {
    Chat { messages: vec![ChatMessage::of_text(Role::User, "Hi")], ..Chat::default() }
}

fn function(name: &str) -> Tool {
    let (description, parameters, strict, cache) = (None, None, None, None);
    Tool::Function { name: name.into(), description, parameters, strict, cache }
}

fn call(id: &str, arguments: &str) -> Part {
    Part::ToolCall(ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), proof: None })
}

fn untellable(ask: &Ask, model: &str) -> String {
    written(ask, model).expect_err("this cannot be said").what
}

#[test]
fn a_conversation_becomes_turns_of_two_and_a_system_prompt() {
    let result = |id: &str, text: &str| ChatMessage {
        tool_call_id: Some(id.into()),
        ..ChatMessage::of_text(Role::Tool, text)
    };
    let marked = |text: &str, cache| Part::Text { text: text.into(), cache: Some(cache) };
    let reasoning = |text: &str, proof: Option<&str>, id: Option<&str>| {
        let (proof, id) = (proof.map(Into::into), id.map(Into::into));
        Part::Reasoning(Reasoning { text: text.into(), proof, id })
    };
    let chat = Chat {
        messages: vec![
            ChatMessage::of_text(Role::System, "Be brief."),
            ChatMessage::new(Role::User, vec![marked("A", CacheMark::OneHour)]),
            ChatMessage::new(Role::User, vec![Part::text(""), Part::text("B")]),
            ChatMessage::new(
                Role::Assistant,
                vec![
                    reasoning("Signed.", Some("c2ln"), None),
                    reasoning("Unsigned.", None, None),
                    reasoning("Another maker's.", Some("x"), Some("rs_1")),
                    reasoning("A third one's.", Some("gemini:c2ln"), None),
                    Part::SealedReasoning("c2VhbGVk".into()),
                    Part::text(""),
                    call("functions.f:0", r#"{"big": 123456789012345678901234567890}"#),
                    call("toolu_2", ""),
                ],
            ),
            result("functions.f:0", "21 °C"),
            ChatMessage {
                is_error: true,
                parts: vec![marked("broken", CacheMark::FiveMinutes)],
                ..result("toolu_2", "")
            },
            ChatMessage::of_text(Role::Developer, "Be kind."),
            ChatMessage::of_text(Role::User, "Go on."),
        ],
        ..Chat::default()
    };
    let ask = ask(chat);
    let request = Messages.request(&ask, &Target { model: "claude-opus-5-5", stream: true }).unwrap();
    insta_like(
        &request.body,
        r#"{"model":"claude-opus-5-5","max_tokens":20000,
        "system":[{"type":"text","text":"Be brief."},{"type":"text","text":"Be kind."}],
        "messages":[
        {"role":"user","content":[{"type":"text","text":"A","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"B"}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"Signed.","signature":"c2ln"},{"type":"redacted_thinking","data":"c2VhbGVk"},
        {"type":"tool_use","id":"functions_f_0","name":"f","input":{"big": 123456789012345678901234567890}},
        {"type":"tool_use","id":"toolu_2","name":"f","input":{}}]},
        {"role":"user","content":[
        {"type":"tool_result","tool_use_id":"functions_f_0","content":[{"type":"text","text":"21 °C"}]},
        {"type":"tool_result","tool_use_id":"toolu_2","content":[{"type":"text","text":"broken"}],"is_error":true,"cache_control":{"type":"ephemeral"}},
        {"type":"text","text":"Go on."}]}],"stream":true}"#,
    );
    assert_eq!(request.path, "/v1/messages");
    let headers = [("content-type", "application/json"), ("anthropic-version", "2023-06-01")];
    assert_eq!(request.headers, headers.map(|(name, value)| (name, value.to_owned())));
}

/// Compares byte for byte, but for the line breaks of the expectation.
fn insta_like(body: &[u8], expected: &str) {
    let expected: String = expected.lines().map(str::trim_start).collect();
    assert_eq!(String::from_utf8_lossy(body), expected);
}

#[test]
fn pictures_and_documents_are_sent_from_where_they_are() {
    let media = |kind, source, name: Option<&str>| {
        Part::Media(Media {
            kind,
            source,
            detail: Some("high".into()),
            name: name.map(Into::into),
            cache: None,
        })
    };
    let inline = |media_type: &str, data: &str| MediaSource::Inline {
        media_type: media_type.into(),
        data: data.into(),
    };
    let parts = vec![
        media(MediaKind::Image, MediaSource::Url("https://example.com/a.png".into()), None),
        media(MediaKind::Document, inline("text/markdown", "SGk="), Some("notes.md")),
        media(MediaKind::Document, inline("application/pdf", "JVBE"), None),
        media(MediaKind::Image, MediaSource::File("file_1".into()), None),
    ];
    let chat = Chat { messages: vec![ChatMessage::new(Role::User, parts)], ..Chat::default() };
    let ask_one = ask(chat);
    let request = Messages.request(&ask_one, &Target { model: "claude-opus-5-5", stream: false }).unwrap();
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let expected = json!([
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}, "title": "notes.md"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    ]);
    assert_eq!(body["messages"][0]["content"], expected);
    assert_eq!(request.headers[2], ("anthropic-beta", "files-api-2025-04-14".to_owned()));

    let sound = media(MediaKind::Audio, inline("audio/wav", "AAAA"), None);
    let chat = Chat { messages: vec![ChatMessage::new(Role::User, vec![sound])], ..Chat::default() };
    assert_eq!(untellable(&ask(chat), "claude-opus-5-5"), "messages[0].content[0]");
}

#[test]
fn reasoning_is_told_to_each_generation_in_its_own_words() {
    let of = |effort: Option<&str>, budget_tokens| ReasoningWish {
        effort: effort.map(Into::into),
        budget_tokens,
        summary: None,
    };
    let enabled = |budget: u32| json!({"type": "enabled", "budget_tokens": budget});
    let (adaptive, disabled) = (json!({"type": "adaptive"}), json!({"type": "disabled"}));
    let table = [
        ("claude-sonnet-4-5", of(None, Some(3000)), enabled(3000), Value::Null),
        ("claude-sonnet-4-5", of(Some("high"), None), enabled(16_384), Value::Null),
        ("claude-sonnet-4-5", of(None, Some(90_000)), enabled(19_999), Value::Null),
        ("claude-sonnet-4-5", of(None, Some(500)), disabled.clone(), Value::Null),
        ("claude-sonnet-4-6", of(None, Some(3000)), enabled(3000), Value::Null),
        ("claude-sonnet-4-6", of(Some("xhigh"), None), adaptive.clone(), json!("high")),
        ("claude-opus-5-5", of(None, Some(3000)), adaptive.clone(), json!("medium")),
        ("claude-opus-5-5", of(Some("minimal"), None), adaptive.clone(), json!("low")),
        ("claude-opus-5-5", of(Some("xhigh"), None), adaptive.clone(), json!("xhigh")),
        ("claude-opus-5-5", of(None, None), adaptive, Value::Null),
        ("claude-opus-5-5", of(Some("none"), None), disabled, Value::Null),
        ("somebody-elses", of(Some("low"), None), enabled(2048), Value::Null),
    ];
    for (model, wish, thinking, effort) in table {
        let ask = ask(Chat { reasoning: Some(wish.clone()), ..greeting() });
        let body = written(&ask, model).unwrap();
        assert_eq!(
            (&body["thinking"], &body["output_config"]["effort"]),
            (&thinking, &effort),
            "{model} {wish:?}"
        );
    }
    let odd = ask(Chat { reasoning: Some(of(Some("frantic"), None)), ..greeting() });
    assert_eq!(untellable(&odd, "claude-opus-5-5"), "reasoning_effort");
}

#[test]
fn sampling_that_a_model_would_refuse_is_refused_by_name() {
    let wish =
        |temperature, top_p, top_k| SamplingWish { temperature, top_p, top_k, ..SamplingWish::default() };
    let of = |sampling| Ask { sampling, ..ask(greeting()) };
    let table = [
        ("claude-opus-5-5", wish(Some(0.2), None, None), Err("temperature")),
        ("claude-opus-5-5", wish(Some(1.0), Some(1.0), Some(0)), Ok(json!([null, null, null]))),
        ("claude-opus-5-5", wish(None, None, Some(40)), Err("top_k")),
        ("claude-sonnet-4-5", wish(Some(0.5), Some(0.5), None), Err("top_p")),
        ("claude-sonnet-4-5", wish(Some(0.5), Some(1.0), Some(40)), Ok(json!([0.5, null, 40]))),
        ("claude-3-haiku-20240307", wish(Some(0.5), Some(0.5), None), Ok(json!([0.5, 0.5, null]))),
        ("somebody-elses", wish(Some(1.5), None, None), Err("temperature")),
    ];
    for (model, sampling, expected) in table {
        let got = written(&of(sampling.clone()), model)
            .map(|body| json!([body["temperature"], body["top_p"], body["top_k"]]))
            .map_err(|untellable| untellable.what);
        assert_eq!(got, expected.map_err(str::to_owned), "{model} {sampling:?}");
    }
    let thinks = Chat { reasoning: Some(ReasoningWish::default()), ..greeting() };
    let both = Ask { sampling: wish(Some(0.5), None, None), ..ask(thinks) };
    assert_eq!(untellable(&both, "claude-sonnet-4-5"), "temperature");
}

#[test]
fn tools_their_choice_and_their_number_are_said() {
    let chat = |tool_choice, parallel_tool_calls| Chat {
        tools: vec![function("f")],
        tool_choice,
        parallel_tool_calls,
        ..greeting()
    };
    let table = [
        (chat(ToolChoice::Auto, None), Value::Null),
        (chat(ToolChoice::Auto, Some(false)), json!({"type": "auto", "disable_parallel_tool_use": true})),
        (chat(ToolChoice::Required, None), json!({"type": "any"})),
        (
            chat(ToolChoice::Named("f".into()), Some(true)),
            json!({"type": "tool", "name": "f", "disable_parallel_tool_use": false}),
        ),
        (chat(ToolChoice::None, Some(false)), json!({"type": "none"})),
        (Chat { tool_choice: ToolChoice::None, ..greeting() }, Value::Null),
    ];
    for (chat, expected) in table {
        let body = written(&ask(chat.clone()), "claude-opus-5-5").unwrap();
        assert_eq!(body["tool_choice"], expected, "{chat:?}");
    }
    let body = written(&ask(chat(ToolChoice::Auto, None)), "claude-opus-5-5").unwrap();
    let schema = json!({"type": "object", "properties": {}});
    assert_eq!(body["tools"], json!([{"name": "f", "input_schema": schema}]));
}

#[test]
fn a_model_without_a_length_gets_what_its_generation_can_give() {
    let open = Ask { max_output_tokens: None, ..ask(greeting()) };
    for (model, expected) in [
        ("claude-opus-5-5", 128_000),
        ("claude-haiku-4-5", 64_000),
        ("claude-3-5-haiku", 8_192),
        ("x", 4_096),
    ] {
        assert_eq!(written(&open, model).unwrap()["max_tokens"], expected, "{model}");
    }
}

#[test]
fn formats_users_stops_and_tiers_are_said() {
    let schema = json!({"type": "object"});
    let format = AnswerFormat::JsonSchema {
        name: "answer".into(),
        description: None,
        schema: schema.clone(),
        strict: Some(true),
    };
    let full = Ask {
        stop: vec!["END".into()],
        user: Some("u1".into()),
        service_tier: Some(ServiceTier::Standard),
        cache_key: Some("a hint".into()),
        ..ask(Chat { format, ..greeting() })
    };
    let body = written(&full, "claude-opus-5-5").unwrap();
    assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": schema}}));
    assert_eq!((&body["stop_sequences"], &body["metadata"]), (&json!(["END"]), &json!({"user_id": "u1"})));
    assert_eq!(body["service_tier"], "standard_only");
}

#[test]
fn what_there_are_no_words_for_is_named() {
    let base = || ask(greeting());
    let chat = |chat: Chat| ask(chat);
    let with = |sampling| Ask { sampling, ..base() };
    let alone = |message| chat(Chat { messages: vec![message], ..Chat::default() });
    let native = Tool::Native { dialect: "openai.responses", tool: json!({"type": "web_search"}) };
    let table = [
        (Ask { choices: 2, ..base() }, "n"),
        (Ask { logprobs: Some(0), ..base() }, "logprobs"),
        (with(SamplingWish { seed: Some(1), ..SamplingWish::default() }), "seed"),
        (with(SamplingWish { presence_penalty: Some(0.5), ..SamplingWish::default() }), "presence_penalty"),
        (with(SamplingWish { logit_bias: Some(vec![(1, 1.0)]), ..SamplingWish::default() }), "logit_bias"),
        (Ask { service_tier: Some(ServiceTier::Flex), ..base() }, "service_tier"),
        (Ask { input: Input::Completion(Vec::new()), ..base() }, "prompt"),
        (chat(Chat { format: AnswerFormat::JsonObject, ..greeting() }), "response_format"),
        (chat(Chat { tools: vec![native], ..greeting() }), "tools[0]"),
        (chat(Chat { tools: vec![function("a.b")], ..greeting() }), "tools[0].name"),
        (alone(ChatMessage::of_text(Role::System, "Only this.")), "messages"),
        (alone(ChatMessage::of_text(Role::Tool, "Whose?")), "messages[0]"),
        (alone(ChatMessage::new(Role::Assistant, vec![call("a", "[1]")])), "messages[0].content[0]"),
    ];
    for (ask, what) in table {
        assert_eq!(untellable(&ask, "claude-opus-5-5"), what);
    }
}

#[test]
fn a_request_that_only_this_dialect_can_say_is_not_rewritten() {
    let body = json!({"model": "m", "max_tokens": 1, "mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}],
        "messages": [{"role": "user", "content": "Hi"}]});
    let heard = read(body.to_string().as_bytes()).unwrap();
    assert_eq!(untellable(&heard.ask, "claude-opus-5-5"), "mcp_servers");
}

#[test]
fn passing_changes_the_model_and_nothing_else() {
    let original =
        br#"{ "model":"smart","max_tokens" : 1e2, "x":{"b":1.0,"a":[ 1,2 ]},"messages":[],"stream":true}"#;
    let passed = Messages.passed(original, &Target { model: "claude-opus-5-5", stream: true }).unwrap();
    let expected = r#"{"model":"claude-opus-5-5","max_tokens":1e2,"x":{"b":1.0,"a":[ 1,2 ]},"messages":[],"stream":true}"#;
    assert_eq!(String::from_utf8(passed.body).unwrap(), expected);
    let twice = br#"{"model":"a","max_tokens":1,"max_tokens":2}"#;
    let passed = count_passed(twice, &Target { model: "b", stream: true }).unwrap();
    assert_eq!(passed.body, br#"{"model":"b","max_tokens":2}"#);
    assert_eq!(passed.path, "/v1/messages/count_tokens");
}
