//! What is heard in a client's request.

use serde_json::{Value, json};

use domain::{
    AnswerFormat, CacheMark, ChatMessage, Media, MediaKind, MediaSource, Part, Reasoning, ReasoningWish,
    Role, ServiceTier, Tool, ToolCall, ToolChoice,
};

use super::super::{DIALECT, count_to_json, read, read_count};
use super::{chat_of, hear};

/// A request with these fields beside the three that must be there.
fn request(fields: Value) -> Value {
    let mut request =
        json!({"model": "main", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

fn heard(fields: Value) -> crate::Heard {
    read(request(fields).to_string().as_bytes()).unwrap()
}

fn messages(messages: Value) -> Vec<ChatMessage> {
    chat_of(&hear(&request(json!({"messages": messages})))).messages.clone()
}

fn bad(fields: Value) -> String {
    let bad = read(request(fields).to_string().as_bytes()).err().expect("a bad request");
    format!("{}: {}", bad.param.unwrap_or_default(), bad.message)
}

fn marked(text: &str, cache: CacheMark) -> Part {
    Part::Text { text: text.into(), cache: Some(cache) }
}

#[test]
fn the_least_request_is_a_model_a_length_and_a_message() {
    let heard = heard(json!({}));
    assert_eq!((heard.ask.model.as_str(), heard.ask.max_output_tokens), ("main", Some(64)));
    assert_eq!(chat_of(&heard.ask).messages, [ChatMessage::of_text(Role::User, "Hi")]);
    assert_eq!((heard.ask.choices, heard.ask.stream), (1, false));
    assert!(heard.ignored.is_empty());
    assert_eq!((heard.form.dialect(), heard.form.answer_id("7").as_str()), (DIALECT, "msg_7"));
    for name in ["model", "max_tokens", "messages"] {
        let mut request = request(json!({}));
        request.as_object_mut().unwrap().remove(name);
        let bad = read(request.to_string().as_bytes()).err().unwrap();
        assert_eq!(bad.param.as_deref(), Some(name));
    }
}

#[test]
fn system_is_a_message_before_all_others() {
    let system = json!([
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]);
    let ask = hear(&request(json!({"system": system})));
    let parts = vec![Part::text("Be brief."), marked("Be kind.", CacheMark::OneHour)];
    assert_eq!(chat_of(&ask).messages[0], ChatMessage::new(Role::System, parts));
    let ask = hear(&request(json!({"system": "Be brief."})));
    assert_eq!(chat_of(&ask).messages[0], ChatMessage::of_text(Role::System, "Be brief."));
    assert_eq!(chat_of(&hear(&request(json!({"system": ""})))).messages.len(), 1);
}

#[test]
fn results_of_tools_are_messages_of_their_own_and_what_follows_is_another() {
    let said = messages(json!([{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "21 °C",
         "cache_control": {"type": "ephemeral"}},
        {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": [
            {"type": "text", "text": "no such file"},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ]},
        {"type": "tool_result", "tool_use_id": "toolu_3"},
        {"type": "text", "text": "Go on."},
    ]}]));
    let result = |id: &str, parts| ChatMessage {
        tool_call_id: Some(id.into()),
        ..ChatMessage::new(Role::Tool, parts)
    };
    let picture = Part::Media(Media {
        kind: MediaKind::Image,
        source: MediaSource::Url("https://example.com/a.png".into()),
        detail: None,
        name: None,
        cache: None,
    });
    let expected = [
        result("toolu_1", vec![marked("21 °C", CacheMark::FiveMinutes)]),
        ChatMessage { is_error: true, ..result("toolu_2", vec![Part::text("no such file"), picture]) },
        result("toolu_3", vec![]),
        ChatMessage::of_text(Role::User, "Go on."),
    ];
    assert_eq!(said, expected);
}

#[test]
fn an_assistants_turn_keeps_its_thoughts_calls_and_their_order() {
    let said = messages(json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Ask the tool.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "c2VhbGVk"},
            {"type": "thinking", "thinking": "Unsigned.", "signature": ""},
            {"type": "text", "text": "One moment."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Graz", "days": 2}},
        ]},
    ]));
    let reasoning = |text: &str, proof: Option<&str>| {
        Part::Reasoning(Reasoning { text: text.into(), proof: proof.map(Into::into), id: None })
    };
    let arguments = r#"{"city":"Graz","days":2}"#.into();
    let call = ToolCall { id: "toolu_1".into(), name: "weather".into(), arguments, proof: None };
    let parts = vec![
        reasoning("Ask the tool.", Some("c2ln")),
        Part::SealedReasoning("c2VhbGVk".into()),
        reasoning("Unsigned.", None),
        Part::text("One moment."),
        Part::ToolCall(call),
    ];
    assert_eq!(said[1], ChatMessage::new(Role::Assistant, parts));
}

#[test]
fn documents_and_pictures_come_from_everywhere() {
    let said = messages(json!([{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "title": "Terms", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
         "cache_control": {"type": "ephemeral", "ttl": "5m"}},
    ]}]));
    let media = |kind, source, name: Option<&str>, cache| {
        Part::Media(Media { kind, source, detail: None, name: name.map(Into::into), cache })
    };
    let inline = |media_type: &str, data: &str| MediaSource::Inline {
        media_type: media_type.into(),
        data: data.into(),
    };
    let expected = [
        media(MediaKind::Image, inline("image/png", "AAAA"), None, None),
        media(MediaKind::Image, MediaSource::File("file_1".into()), None, None),
        media(MediaKind::Document, inline("text/plain", "SGk="), Some("Terms"), None),
        media(MediaKind::Document, inline("application/pdf", "JVBE"), None, Some(CacheMark::FiveMinutes)),
    ];
    assert_eq!(said[0].parts, expected);
}

#[test]
fn tools_are_functions_or_the_providers_own() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 3});
    let ask = hear(&request(json!({
        "tools": [{"name": "weather", "description": "Looks.", "input_schema": schema,
                   "cache_control": {"type": "ephemeral"}}, search],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": true},
    })));
    let chat = chat_of(&ask);
    let function = Tool::Function {
        name: "weather".into(),
        description: Some("Looks.".into()),
        parameters: Some(schema),
        strict: None,
        cache: Some(CacheMark::FiveMinutes),
    };
    assert_eq!(chat.tools, [function, Tool::Native { dialect: DIALECT, tool: search }]);
    assert_eq!(chat.tool_choice, ToolChoice::Named("weather".into()));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    for (word, choice) in
        [("auto", ToolChoice::Auto), ("any", ToolChoice::Required), ("none", ToolChoice::None)]
    {
        let ask = hear(&request(json!({"tool_choice": {"type": word}})));
        assert_eq!(chat_of(&ask).tool_choice, choice);
    }
}

#[test]
fn thinking_and_effort_are_one_wish() {
    let wish = |effort: Option<&str>, budget_tokens, summary: Option<&str>| {
        let (effort, summary) = (effort.map(Into::into), summary.map(Into::into));
        Some(ReasoningWish { effort, budget_tokens, summary })
    };
    let table = [
        (json!({}), None),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}), wish(None, Some(2048), None)),
        (json!({"thinking": {"type": "adaptive", "display": "summarized"}}), wish(None, None, Some("auto"))),
        (json!({"thinking": {"type": "disabled"}}), wish(Some("none"), None, None)),
        (json!({"output_config": {"effort": "high"}}), wish(Some("high"), None, None)),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
            wish(Some("max"), None, None),
        ),
    ];
    for (fields, expected) in table {
        assert_eq!(chat_of(&hear(&request(fields.clone()))).reasoning, expected, "{fields}");
    }
}

#[test]
fn a_format_is_read_under_its_new_name_and_its_old_one() {
    let schema = json!({"type": "object", "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    for fields in [json!({"output_config": {"format": format}}), json!({"output_format": format})] {
        let ask = hear(&request(fields));
        let AnswerFormat::JsonSchema { schema: heard, strict, .. } = &chat_of(&ask).format else {
            panic!("no schema was heard");
        };
        assert_eq!((heard, strict), (&schema, &Some(true)));
    }
}

#[test]
fn sampling_stops_and_tiers_are_heard() {
    let ask = hear(&request(json!({
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop_sequences": ["END"], "stream": true,
        "service_tier": "standard_only",
    })));
    let sampling = (ask.sampling.temperature, ask.sampling.top_p, ask.sampling.top_k);
    assert_eq!(sampling, (Some(0.5), Some(0.9), Some(40)));
    assert_eq!((ask.stop, ask.stream), (vec!["END".to_owned()], true));
    assert_eq!(ask.service_tier, Some(ServiceTier::Standard));
    assert_eq!(hear(&request(json!({"service_tier": "auto"}))).service_tier, None);
    assert_eq!(hear(&request(json!({"speed": "fast"}))).service_tier, Some(ServiceTier::Priority));
}

#[test]
fn metadata_names_the_user_and_the_session() {
    let agent = "user_ab12_account_cd34_session_ef56";
    let json = r#"{"device_id":"d","session_id":"ef56"}"#;
    for user in [agent, json] {
        let heard = heard(json!({"metadata": {"user_id": user}}));
        assert_eq!(heard.ask.user.as_deref(), Some(user));
        assert_eq!(heard.labels.get("metadata.session_id"), Some("ef56"), "{user}");
        assert!(heard.ignored.is_empty());
    }
    let heard = heard(json!({"metadata": {"user_id": "u1", "task": "run-42", "session_id": "s"}}));
    let labels = &heard.labels;
    assert_eq!((labels.get("metadata.task"), labels.get("metadata.session_id")), (Some("run-42"), Some("s")));
}

#[test]
fn a_mark_on_the_whole_request_is_one_on_its_last_part() {
    let said = hear(&request(json!({"cache_control": {"type": "ephemeral"}})));
    assert_eq!(chat_of(&said).messages[0].parts, [marked("Hi", CacheMark::FiveMinutes)]);
}

#[test]
fn what_has_no_effect_is_named_and_what_only_this_dialect_can_say_stays_in_it() {
    let heard_one = heard(json!({
        "context_management": {"edits": []}, "diagnostics": {}, "mcp_servers": [],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "citations": []}]}],
    }));
    assert_eq!(heard_one.ignored, ["messages[0].content[0].citations", "context_management", "diagnostics"]);
    assert!(chat_of(&heard_one.ask).tools.is_empty());
    let heard_two = heard(json!({
        "inference_geo": "us",
        "messages": [
            {"role": "user", "content": "Search."},
            {"role": "assistant", "content": [
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "Found."},
            ]},
        ],
    }));
    let chat = chat_of(&heard_two.ask);
    assert_eq!(chat.messages[1], ChatMessage::of_text(Role::Assistant, "Found."));
    let [Tool::Native { dialect: DIALECT, tool }] = &chat.tools[..] else {
        panic!("nothing keeps the request here");
    };
    let places = "messages[1].content[0] (server_tool_use), messages[1].content[1] (web_search_tool_result), inference_geo";
    assert_eq!(tool["name"], places);
}

#[test]
fn what_is_wrong_is_named() {
    let table = [
        (json!({"temperature": 1.5}), "temperature: Invalid 'temperature'"),
        (json!({"messages": []}), "messages: Invalid 'messages'"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role: Invalid value: 'tool'"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]}),
            "messages[0].content[0]: Invalid 'messages[0].content[0]': a block of type 'tool_use' belongs into a message of role 'assistant'",
        ),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens: Missing"),
        (json!({"tools": [{"name": "a b", "input_schema": {}}]}), "tools[0].name: Invalid"),
        (json!({"tools": [{"name": "a"}]}), "tools[0].input_schema: Missing"),
        (
            json!({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "2h"}}]}),
            "system[0].cache_control.ttl: Invalid value: '2h'",
        ),
        (json!({"stop_sequences": [""]}), "stop_sequences[0]: Invalid"),
        (json!({"service_tier": "flex"}), "service_tier: Invalid value: 'flex'"),
    ];
    for (fields, expected) in table {
        let got = bad(fields.clone());
        assert!(got.starts_with(expected), "{fields}: {got}");
    }
}

#[test]
fn a_count_needs_no_length() {
    let body = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(read_count(body.to_string().as_bytes()).unwrap().ask.max_output_tokens, None);
    assert_eq!(count_to_json(14), br#"{"input_tokens":14}"#);
}
