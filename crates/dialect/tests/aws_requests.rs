//! Is Converse asked in words that it knows, and is what it has no words for refused by name?

mod asking;

use asking::{
    asked, call, chat, function, inline, long, media, refused, request, result, short, thought, with_chat,
};
use dialect::aws::Converse;
use dialect::{Target, Upstream};
use domain::{
    AnswerFormat, Ask, CacheMark, ChatMessage, Input, MediaKind, MediaSource, Part, Prompt, ReasoningWish,
    Role, ServiceTier, Tool, ToolChoice,
};
use serde_json::{Value, json};

const CLAUDE: &str = "us.anthropic.claude-opus-4-7";
const OLD_CLAUDE: &str = "anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "amazon.nova-2-lite-v1:0";
const LLAMA: &str = "meta.llama4-maverick-17b-instruct-v1:0";

fn body(ask: &Ask, model: &str) -> Value {
    request(&Converse, ask, model).unwrap().2
}

#[test]
fn a_long_conversation_keeps_its_order_its_proofs_and_its_marks() {
    let (path, headers, body) = request(&Converse, &long(), CLAUDE).unwrap();
    assert_eq!((path.as_str(), headers.len()), ("/model/us.anthropic.claude-opus-4-7/converse", 0));
    let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": false});
    let expected = json!({
        "messages": [
            {"role": "user", "content": [
                {"text": "Look at these."},
                {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"document": {"format": "pdf", "name": "Q3 report pdf", "source": {"bytes": "AAAA"}}},
                {"text": "Which city is warmer?"},
                {"cachePoint": {"type": "default", "ttl": "1h"}}
            ]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Of another maker.", "signature": "ErUB"}}},
                {"text": "I look."},
                {"toolUse": {"toolUseId": "call_gemini_0_r1", "name": "weather", "input": {"city": "Oslo"}}},
                {"toolUse": {"toolUseId": "toolu_2", "name": "weather", "input": {"city": "Bergen"}}}
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "call_gemini_0_r1", "content": [{"text": "{\"celsius\":4}"}]}},
                {"toolResult": {"toolUseId": "toolu_2", "content": [{"text": "no such city"}], "status": "error"}},
                {"text": "And?"}
            ]}
        ],
        "system": [{"text": "Be short."}, {"text": "Use Celsius."}],
        "toolConfig": {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": schema}, "description": "Looks."}}]},
        "inferenceConfig": {"maxTokens": 500, "temperature": 0.7, "topP": 0.9, "stopSequences": ["END"]},
        "outputConfig": {
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {
                "schema": "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}", "name": "city"}}},
            "effort": "low"
        },
        "additionalModelRequestFields": {"thinking": {"type": "adaptive"}, "top_k": 40},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "requestMetadata": {"user": "u-1"}
    });
    assert_eq!(body, expected);
}

#[test]
fn a_model_is_one_step_of_the_path_whatever_its_name() {
    let arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x";
    let mut ask = short();
    ask.stream = true;
    let (path, _, _) = request(&Converse, &ask, arn).unwrap();
    let step = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x";
    assert_eq!(path, format!("/model/{step}/converse-stream"));
    let passed = Converse.passed(b"{}", &Target { model: "m", stream: false }).unwrap();
    assert_eq!((passed.path.as_str(), passed.body), ("/model/m/converse", b"{}".to_vec()));
}

#[test]
fn how_much_to_think_is_said_in_each_maker_s_words() {
    let effort = |effort: &str| ReasoningWish { effort: Some(effort.into()), ..ReasoningWish::default() };
    let budget = |tokens| ReasoningWish { budget_tokens: Some(tokens), ..ReasoningWish::default() };
    let nothing = Value::Null;
    for (model, wish, fields, output) in [
        (CLAUDE, effort("max"), json!({"thinking": {"type": "adaptive"}}), json!({"effort": "max"})),
        (CLAUDE, effort("minimal"), json!({"thinking": {"type": "adaptive"}}), json!({"effort": "low"})),
        (CLAUDE, effort("none"), json!({"thinking": {"type": "disabled"}}), nothing.clone()),
        (
            OLD_CLAUDE,
            effort("low"),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}),
            nothing.clone(),
        ),
        (
            OLD_CLAUDE,
            budget(5000),
            json!({"thinking": {"type": "enabled", "budget_tokens": 5000}}),
            nothing.clone(),
        ),
        (OLD_CLAUDE, budget(0), json!({"thinking": {"type": "disabled"}}), nothing.clone()),
        (
            NOVA,
            effort("high"),
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
            nothing.clone(),
        ),
        ("openai.gpt-oss-120b-1:0", effort("minimal"), json!({"reasoning_effort": "low"}), nothing.clone()),
        (LLAMA, effort("medium"), nothing.clone(), json!({"effort": "medium"})),
    ] {
        let body = body(&with_chat(|chat| chat.reasoning = Some(wish)), model);
        assert_eq!(body["additionalModelRequestFields"], fields, "{model}");
        assert_eq!(body["outputConfig"], output, "{model}");
    }
    for (model, wish, what) in [
        (CLAUDE, budget(5000), "thinking.budget_tokens"),
        (LLAMA, budget(5000), "thinking.budget_tokens"),
        (LLAMA, effort("none"), "reasoning_effort"),
        (CLAUDE, effort("enormous"), "reasoning_effort"),
    ] {
        assert_eq!(refused(&Converse, &with_chat(|chat| chat.reasoning = Some(wish)), model), what);
    }
}

#[test]
fn a_choice_of_tools_is_said_or_the_tools_are_not_offered() {
    let choice = |choice| {
        body(&with_chat(|chat| (chat.tools, chat.tool_choice) = (vec![function("f", None)], choice)), CLAUDE)
            ["toolConfig"]
            .clone()
    };
    assert_eq!(choice(ToolChoice::Auto)["toolChoice"], Value::Null);
    assert_eq!(choice(ToolChoice::Required)["toolChoice"], json!({"any": {}}));
    assert_eq!(choice(ToolChoice::Named("f".into()))["toolChoice"], json!({"tool": {"name": "f"}}));
    assert_eq!(choice(ToolChoice::None), Value::Null);
    let mut marked = function("f", Some(true));
    let Tool::Function { cache, parameters, description, .. } = &mut marked else { unreachable!() };
    (*cache, *parameters, *description) = (Some(CacheMark::FiveMinutes), None, None);
    let native =
        Tool::Native { dialect: "aws.converse", tool: json!({"systemTool": {"name": "nova_grounding"}}) };
    let ask = with_chat(|chat| chat.tools = vec![marked, native]);
    let empty = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}, "strict": true}});
    let system = json!({"systemTool": {"name": "nova_grounding"}});
    assert_eq!(
        body(&ask, CLAUDE)["toolConfig"]["tools"],
        json!([empty, {"cachePoint": {"type": "default"}}, system])
    );
    assert_eq!(body(&ask, NOVA)["toolConfig"]["tools"], json!([empty, system]));
}

#[test]
fn a_claude_is_told_to_call_none_or_one_at_a_time_in_its_maker_s_words() {
    let ask = |tools: Vec<Tool>, choice, parallel| {
        let turn = vec![call("a", "f", "{}", None), call("b", "f", "{}", None)];
        let messages = vec![
            ChatMessage::of_text(Role::User, "Go"),
            ChatMessage::new(Role::Assistant, turn),
            result("a", "x", false),
        ];
        let mut chat = chat(messages);
        (chat.tools, chat.tool_choice, chat.parallel_tool_calls) = (tools, choice, parallel);
        let body = body(&asked(chat), CLAUDE);
        let tools = body["toolConfig"]["tools"].as_array().unwrap();
        let names: Vec<String> =
            tools.iter().map(|tool| tool["toolSpec"]["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(body["toolConfig"]["toolChoice"], Value::Null, "two choices are refused");
        (names.join(" "), body["additionalModelRequestFields"]["tool_choice"].clone())
    };
    let tools = || vec![function("g", None)];
    let none = json!({"type": "none"});
    assert_eq!(ask(Vec::new(), ToolChoice::Auto, None), ("f".into(), none.clone()));
    assert_eq!(ask(tools(), ToolChoice::None, None), ("g".into(), none));
    for (choice, expected) in [
        (ToolChoice::Auto, json!({"type": "auto", "disable_parallel_tool_use": true})),
        (ToolChoice::Required, json!({"type": "any", "disable_parallel_tool_use": true})),
        (
            ToolChoice::Named("g".into()),
            json!({"type": "tool", "name": "g", "disable_parallel_tool_use": true}),
        ),
    ] {
        assert_eq!(ask(tools(), choice, Some(false)), ("g".into(), expected));
    }
}

#[test]
fn media_names_and_ids_take_the_letters_that_converse_takes() {
    let document = |name| media(MediaKind::Document, inline("text/plain; charset=utf-8"), name);
    let s3 = media(MediaKind::Image, MediaSource::Url("s3://b/a.jpg".into()), None);
    let sound = media(MediaKind::Audio, inline("audio/mpeg"), None);
    let parts = vec![document(Some("a/b")), document(Some("a_b")), document(None), s3, sound];
    let long_id = "fc_".repeat(30);
    let messages = vec![
        ChatMessage::new(Role::User, parts),
        ChatMessage::new(Role::Assistant, vec![call(&long_id, "f", "", None)]),
        result(&long_id, "", false),
    ];
    let mut ask = asked(chat(messages));
    let Input::Chat(chat) = &mut ask.input else { unreachable!() };
    chat.tools = vec![function("f", None)];
    let body = body(&ask, LLAMA);
    let content = &body["messages"][0]["content"];
    let names: Vec<&str> = (0..3).map(|place| content[place]["document"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a b", "a b 2", "document"]);
    assert_eq!(
        content[3],
        json!({"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://b/a.jpg"}}}})
    );
    assert_eq!(content[4], json!({"audio": {"format": "mp3", "source": {"bytes": "AAAA"}}}));
    let id = body["messages"][1]["content"][0]["toolUse"]["toolUseId"].as_str().unwrap();
    assert!(id.len() <= 64);
    assert_eq!(body["messages"][2]["content"][0]["toolResult"], json!({"toolUseId": id, "content": []}));
}

#[test]
fn marks_and_sealed_thoughts_go_only_to_those_who_know_them() {
    let marked = Part::Text { text: "a".into(), cache: Some(CacheMark::OneHour) };
    let messages = vec![
        ChatMessage::new(Role::User, vec![marked]),
        ChatMessage::new(
            Role::Assistant,
            vec![Part::SealedReasoning("c2VhbA==".into()), thought("t", None), Part::text("b")],
        ),
    ];
    let ask = asked(chat(messages));
    let content = |model, place: usize| body(&ask, model)["messages"][place]["content"].clone();
    assert_eq!(content(CLAUDE, 0), json!([{"text": "a"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]));
    assert_eq!(content(NOVA, 0), json!([{"text": "a"}, {"cachePoint": {"type": "default"}}]));
    assert_eq!(content(LLAMA, 0), json!([{"text": "a"}]));
    assert_eq!(
        content(CLAUDE, 1),
        json!([{"reasoningContent": {"redactedContent": "c2VhbA=="}}, {"text": "b"}])
    );
    assert_eq!(content(LLAMA, 1), json!([{"text": "b"}]));
}

#[test]
fn a_tier_has_converse_s_name() {
    for (tier, name) in
        [(ServiceTier::Standard, "default"), (ServiceTier::Flex, "flex"), (ServiceTier::Priority, "priority")]
    {
        let mut ask = short();
        ask.service_tier = Some(tier);
        assert_eq!(body(&ask, NOVA)["serviceTier"], json!({"type": name}));
    }
}

#[test]
fn a_user_s_name_goes_into_bedrock_s_log_where_it_fits() {
    let metadata = |user: &str| {
        let mut ask = short();
        ask.user = Some(user.into());
        body(&ask, NOVA)["requestMetadata"].clone()
    };
    assert_eq!(metadata("u@x.org"), json!({"user": "u@x.org"}));
    assert_eq!(metadata(""), Value::Null);
    assert_eq!(metadata("{\"id\": 1}"), Value::Null);
    assert_eq!(metadata(&"u".repeat(257)), Value::Null);
}

#[test]
fn what_converse_has_no_words_for_is_refused_by_name() {
    let changed = |change: fn(&mut Ask)| {
        let mut ask = short();
        change(&mut ask);
        ask
    };
    let called = |tools: Vec<Tool>, choice| {
        let messages = vec![
            ChatMessage::new(Role::Assistant, vec![call("a", "f", "{}", None)]),
            result("a", "x", false),
        ];
        let mut chat = chat(messages);
        (chat.tools, chat.tool_choice) = (tools, choice);
        asked(chat)
    };
    let picture =
        |source| asked(chat(vec![ChatMessage::new(Role::User, vec![media(MediaKind::Image, source, None)])]));
    for (ask, what) in [
        (changed(|ask| ask.input = Input::Completion(vec![Prompt::Text("Once".into())])), "prompt"),
        (changed(|ask| ask.choices = 2), "n"),
        (changed(|ask| ask.logprobs = Some(0)), "logprobs"),
        (changed(|ask| ask.ignore_eos = true), "ignore_eos"),
        (changed(|ask| ask.sampling.seed = Some(1)), "seed"),
        (changed(|ask| ask.sampling.presence_penalty = Some(0.5)), "presence_penalty"),
        (changed(|ask| ask.sampling.frequency_penalty = Some(0.5)), "frequency_penalty"),
        (changed(|ask| ask.sampling.min_p = Some(0.5)), "min_p"),
        (changed(|ask| ask.sampling.repetition_penalty = Some(1.5)), "repetition_penalty"),
        (changed(|ask| ask.sampling.logit_bias = Some(vec![(1, 1.0)])), "logit_bias"),
        (changed(|ask| ask.sampling.temperature = Some(1.5)), "temperature"),
        (changed(|ask| ask.sampling.top_k = Some(5)), "top_k"),
        (changed(|ask| ask.service_tier = Some(ServiceTier::Batch)), "service_tier"),
        (with_chat(|chat| chat.format = AnswerFormat::JsonObject), "response_format"),
        (
            with_chat(|chat| {
                (chat.tools, chat.parallel_tool_calls) = (vec![function("f", None)], Some(false))
            }),
            "parallel_tool_calls",
        ),
        (called(Vec::new(), ToolChoice::Auto), "tools"),
        (called(vec![function("f", None)], ToolChoice::None), "tool_choice"),
        (picture(MediaSource::Url("https://x.org/a.png".into())), "messages[0].content"),
        (picture(MediaSource::File("file-1".into())), "messages[0].content"),
        (picture(inline("image/tiff")), "messages[0].content"),
        (asked(chat(vec![ChatMessage::of_text(Role::Tool, "x")])), "messages[0].tool_call_id"),
    ] {
        assert_eq!(refused(&Converse, &ask, LLAMA), what);
    }
    let mut neutral = short();
    neutral.sampling.presence_penalty = Some(0.0);
    neutral.sampling.repetition_penalty = Some(1.0);
    assert_eq!(body(&neutral, LLAMA), json!({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}));
}
