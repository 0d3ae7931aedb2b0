use domain::{AnswerFormat, CacheMark, MediaKind, Role, ServiceTier};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A plain question.
pub fn ask(text: &str) -> Ask {
    Ask {
        model: "m".into(),
        input: Input::Chat(Chat {
            messages: vec![ChatMessage::of_text(Role::User, text)],
            ..Chat::default()
        }),
        max_output_tokens: None,
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

fn key(ask: &Ask) -> AskKey {
    ask_key(ask, &Account::from("acme"), &Map::new())
}

fn chat(ask: &mut Ask) -> &mut Chat {
    match &mut ask.input {
        Input::Chat(chat) => chat,
        Input::Completion(_) => panic!("it is a chat"),
    }
}

fn weather(parameters: Value) -> Tool {
    Tool::Function {
        name: "weather".into(),
        description: None,
        parameters: Some(parameters),
        strict: None,
        cache: None,
    }
}

/// One question with something in every place.
fn full() -> Ask {
    let mut full = ask("Hi");
    let media = Media {
        kind: MediaKind::Image,
        source: MediaSource::Url("https://example.com/a.png".into()),
        detail: Some("low".into()),
        name: None,
        cache: None,
    };
    let call = ToolCall { id: "call_1".into(), name: "weather".into(), arguments: "{}".into(), proof: None };
    let messages = &mut chat(&mut full).messages;
    messages[0].parts.push(Part::Media(media));
    messages.push(ChatMessage::new(
        Role::Assistant,
        vec![Part::Reasoning(Reasoning { text: "hm".into(), ..Reasoning::default() }), Part::ToolCall(call)],
    ));
    let mut result = ChatMessage::of_text(Role::Tool, "rain");
    result.tool_call_id = Some("call_1".into());
    messages.push(result);
    chat(&mut full).tools = vec![weather(json!({"type": "object", "properties": {"a": {}, "b": {}}}))];
    chat(&mut full).format = AnswerFormat::JsonSchema {
        name: "answer".into(),
        description: None,
        schema: json!({"type": "object", "properties": {"why": {"type": "string"}, "what": {"type": "string"}}}),
        strict: Some(true),
    };
    chat(&mut full).reasoning =
        Some(ReasoningWish { effort: Some("low".into()), ..ReasoningWish::default() });
    chat(&mut full).template_variables.insert("enable_thinking".into(), json!(true));
    full
}

/// A name, and what it does to [`full`].
type Change = (&'static str, fn(&mut Ask));

/// Whatever of these is changed, the answer may be another.
const MEANINGFUL: &[Change] = &[
    ("model", |ask| ask.model = "n".into()),
    ("max_output_tokens", |ask| ask.max_output_tokens = Some(5)),
    ("temperature", |ask| ask.sampling.temperature = Some(0.0)),
    ("top_p", |ask| ask.sampling.top_p = Some(0.0)),
    ("top_k", |ask| ask.sampling.top_k = Some(0)),
    ("min_p", |ask| ask.sampling.min_p = Some(0.0)),
    ("repetition_penalty", |ask| ask.sampling.repetition_penalty = Some(0.0)),
    ("presence_penalty", |ask| ask.sampling.presence_penalty = Some(0.0)),
    ("frequency_penalty", |ask| ask.sampling.frequency_penalty = Some(0.0)),
    ("logit_bias", |ask| ask.sampling.logit_bias = Some(vec![(1, 2.0)])),
    ("an empty logit_bias", |ask| ask.sampling.logit_bias = Some(Vec::new())),
    ("seed", |ask| ask.sampling.seed = Some(0)),
    ("stop", |ask| ask.stop = vec!["x".into()]),
    ("two stops", |ask| ask.stop = vec!["x".into(), "y".into()]),
    ("two stops that read as one", |ask| ask.stop = vec!["xy".into()]),
    ("logprobs", |ask| ask.logprobs = Some(0)),
    ("choices", |ask| ask.choices = 2),
    ("echo", |ask| ask.echo = true),
    ("ignore_eos", |ask| ask.ignore_eos = true),
    ("role", |ask| chat(ask).messages[0].role = Role::System),
    ("text", |ask| chat(ask).messages[0].parts[0] = Part::text("Hi!")),
    ("two texts for one", |ask| {
        chat(ask).messages[0].parts.splice(..1, [Part::text("H"), Part::text("i")]);
    }),
    ("a refusal for a text", |ask| chat(ask).messages[0].parts[0] = Part::Refusal("Hi".into())),
    ("sealed reasoning", |ask| chat(ask).messages[1].parts[0] = Part::SealedReasoning("hm".into())),
    ("the order of parts", |ask| chat(ask).messages[0].parts.reverse()),
    ("the order of messages", |ask| chat(ask).messages.reverse()),
    ("name", |ask| chat(ask).messages[0].name = Some("Hi".into())),
    ("tool_call_id", |ask| chat(ask).messages[2].tool_call_id = None),
    ("is_error", |ask| chat(ask).messages[2].is_error = true),
    ("media source", |ask| media(ask).source = MediaSource::File("https://example.com/a.png".into())),
    ("media kind", |ask| media(ask).kind = MediaKind::Document),
    ("media detail", |ask| media(ask).detail = Some("high".into())),
    ("media name", |ask| media(ask).name = Some("a".into())),
    ("a tool more", |ask| chat(ask).tools.push(weather(json!({})))),
    ("a tool's parameters", |ask| chat(ask).tools[0] = weather(json!({"type": "object"}))),
    ("the order of a tool's parameters", |ask| {
        chat(ask).tools[0] = weather(json!({"type": "object", "properties": {"b": {}, "a": {}}}));
    }),
    ("a native tool", |ask| chat(ask).tools[0] = Tool::Native { dialect: "anthropic", tool: json!({}) }),
    ("tool_choice", |ask| chat(ask).tool_choice = ToolChoice::None),
    ("a tool's name", |ask| chat(ask).tool_choice = ToolChoice::Named("weather".into())),
    ("parallel_tool_calls", |ask| chat(ask).parallel_tool_calls = Some(true)),
    ("format", |ask| chat(ask).format = AnswerFormat::JsonObject),
    ("the order of a schema's properties", |ask| {
        let properties = json!({"what": {"type": "string"}, "why": {"type": "string"}});
        match &mut chat(ask).format {
            AnswerFormat::JsonSchema { schema, .. } => schema["properties"] = properties,
            _ => panic!("it has a schema"),
        }
    }),
    ("effort", |ask| chat(ask).reasoning = Some(ReasoningWish::default())),
    ("no wish for reasoning", |ask| chat(ask).reasoning = None),
    ("template variables", |ask| chat(ask).template_variables.clear()),
    ("a completion", |ask| ask.input = Input::Completion(vec![Prompt::Text("Hi".into())])),
    ("tokens", |ask| ask.input = Input::Completion(vec![Prompt::Tokens(vec![1])])),
];

/// Whatever of these is changed, it is the same question.
const MEANINGLESS: &[Change] = &[
    ("stream", |ask| ask.stream = true),
    ("stream_usage", |ask| ask.stream_usage = true),
    ("user", |ask| ask.user = Some("alice".into())),
    ("service_tier", |ask| ask.service_tier = Some(ServiceTier::Flex)),
    ("cache_key", |ask| ask.cache_key = Some("k".into())),
    ("a cache mark", |ask| {
        chat(ask).messages[0].parts[0] = Part::Text { text: "Hi".into(), cache: Some(CacheMark::OneHour) };
    }),
    ("a picture's cache mark", |ask| media(ask).cache = Some(CacheMark::FiveMinutes)),
];

fn media(ask: &mut Ask) -> &mut Media {
    match &mut chat(ask).messages[0].parts[1] {
        Part::Media(media) => media,
        other => panic!("{other:?} is no picture"),
    }
}

#[test]
fn every_meaningful_change_makes_another_question_and_no_two_make_the_same() {
    let mut keys = vec![("nothing", key(&full()))];
    for (name, change) in MEANINGFUL {
        let mut changed = full();
        change(&mut changed);
        keys.push((name, key(&changed)));
    }
    for (index, (name, key)) in keys.iter().enumerate() {
        let same = keys[..index].iter().find(|(_, other)| other == key);
        assert_eq!(same, None, "{name} makes the same question");
    }
}

#[test]
fn how_an_answer_is_delivered_is_no_part_of_the_question() {
    for (name, change) in MEANINGLESS {
        let mut changed = full();
        change(&mut changed);
        assert_eq!(key(&changed), key(&full()), "{name}");
    }
}

#[test]
fn another_scope_or_another_unread_field_is_another_question() {
    let unread = |text: Value| text.as_object().cloned().unwrap();
    let of = |scope: &str, fields: Value| ask_key(&full(), &scope.into(), &unread(fields));
    assert_ne!(of("acme", json!({})), of("acme/research", json!({})));
    assert_ne!(of("acme", json!({})), of("acme", json!({"verbosity": "low"})));
    assert_ne!(of("acme", json!({"verbosity": "low"})), of("acme", json!({"verbosity": "high"})));
    assert_eq!(
        of("acme", json!({"a": {"x": 1, "y": 2}, "b": 2})),
        of("acme", json!({"b": 2, "a": {"y": 2, "x": 1}}))
    );
}

#[test]
fn a_key_keeps_its_meaning_from_version_to_version() {
    // Where this changes, `VERSION` must change too: shared caches outlive a server.
    assert_eq!(key(&full()).to_string(), "c0c2eb884c78370e6146a8e5fbeaa11d357bb968fd6449c85d793b6727051436");
}

/// Any JSON, small enough to be changed in many places.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-d]{1,2}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The same JSON with the fields of every object in the opposite order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(reversed).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect())
        }
        other => other.clone(),
    }
}

fn with(variables: &Value, tool: &Value, unread: &Value) -> AskKey {
    let mut question = ask("Hi");
    chat(&mut question).template_variables.insert("v".into(), variables.clone());
    chat(&mut question).tools = vec![weather(tool.clone())];
    ask_key(&question, &"acme".into(), &Map::from_iter([("u".to_owned(), unread.clone())]))
}

proptest! {
    #[test]
    fn the_order_of_fields_means_nothing(a in json_value(), b in json_value(), c in json_value()) {
        prop_assert_eq!(with(&a, &b, &c), with(&reversed(&a), &reversed(&b), &reversed(&c)));
    }

    /// `Value`s are equal whatever the order of their fields; so equal keys and equal values are the same thing.
    #[test]
    fn different_json_in_any_place_is_a_different_question(a in json_value(), b in json_value()) {
        let same = a == b;
        prop_assert_eq!(with(&a, &Value::Null, &Value::Null) == with(&b, &Value::Null, &Value::Null), same);
        prop_assert_eq!(with(&Value::Null, &a, &Value::Null) == with(&Value::Null, &b, &Value::Null), same);
        prop_assert_eq!(with(&Value::Null, &Value::Null, &a) == with(&Value::Null, &Value::Null, &b), same);
    }

    /// Where one text ends and the next begins is part of the question.
    #[test]
    fn texts_do_not_run_together(texts in prop::collection::vec("[ab]{0,3}", 0..5), others in prop::collection::vec("[ab]{0,3}", 0..5)) {
        let of = |texts: &[String]| {
            let mut question = ask("");
            chat(&mut question).messages = texts.iter().map(|text| ChatMessage::of_text(Role::User, text)).collect();
            key(&question)
        };
        prop_assert_eq!(of(&texts) == of(&others), texts == others);
    }
}
