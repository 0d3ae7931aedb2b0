//! What holds for every ask and every answer.

use proptest::prelude::*;
use serde_json::{Value, json};

use domain::{
    Answer, AnswerEvent, AnswerFormat, Ask, CacheMark, Chat, ChatMessage, Delta, Finish, FinishReason, Input,
    Media, MediaKind, MediaSource, Part, Reasoning, ReasoningWish, Role, SamplingWish, ServiceTier, Tool,
    ToolCall, ToolChoice, Usage, UsageReport,
};

use super::super::{DIALECT, Messages, MessagesForm, read};
use crate::{BadAnswer, Form, Head, Target, Upstream};

fn some_text() -> impl Strategy<Value = String> {
    "[a-z é\"\\\\{}\n]{1,12}"
}

fn mark() -> impl Strategy<Value = Option<CacheMark>> {
    prop_oneof![Just(None), Just(Some(CacheMark::FiveMinutes)), Just(Some(CacheMark::OneHour))]
}

fn text_part() -> impl Strategy<Value = Part> {
    (some_text(), mark()).prop_map(|(text, cache)| Part::Text { text, cache })
}

fn media_part() -> impl Strategy<Value = Part> {
    let inline = |media_type: &'static str, data: &'static str| MediaSource::Inline {
        media_type: media_type.into(),
        data: data.into(),
    };
    let image = prop_oneof![
        Just(MediaSource::Url("https://example.com/a.png".into())),
        Just(MediaSource::File("file_1".into())),
        Just(inline("image/png", "AAAA")),
    ];
    let document = prop_oneof![Just(inline("application/pdf", "JVBE")), Just(inline("text/plain", "SGk="))];
    let of = |kind, source, name, cache| Part::Media(Media { kind, source, detail: None, name, cache });
    prop_oneof![
        (image, mark()).prop_map(move |(source, cache)| of(MediaKind::Image, source, None, cache)),
        (document, prop::option::of("[a-z]{1,4}"), mark()).prop_map(move |(source, name, cache)| of(
            MediaKind::Document,
            source,
            name,
            cache
        )),
    ]
}

fn arguments() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        some_text().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!([1, {}]))
    ];
    prop::collection::btree_map("[a-z\"]{1,3}", leaf, 0..3).prop_map(|map| json!(map).to_string())
}

fn call() -> impl Strategy<Value = ToolCall> {
    ("[a-zA-Z0-9_-]{1,8}", "[a-z_]{1,8}", arguments()).prop_map(|(id, name, arguments)| ToolCall {
        id,
        name,
        arguments,
        proof: None,
    })
}

fn reasoning() -> impl Strategy<Value = Part> {
    (some_text(), "[A-Za-z0-9+/]{1,9}")
        .prop_map(|(text, proof)| Part::Reasoning(Reasoning { text, proof: Some(proof), id: None }))
}

/// Says something of each role in turn, as a conversation that was written once already does.
fn messages() -> impl Strategy<Value = Vec<ChatMessage>> {
    let system = prop::option::of(prop::collection::vec(text_part(), 1..3));
    let user = prop::collection::vec(prop_oneof![text_part(), media_part()], 1..3);
    let said = prop_oneof![
        text_part(),
        reasoning(),
        "[a-z]{1,5}".prop_map(Part::SealedReasoning),
        call().prop_map(Part::ToolCall),
    ];
    let inside = prop_oneof![some_text().prop_map(Part::text)];
    let result = ("[a-z]{1,5}", prop::collection::vec(inside, 0..3), mark(), any::<bool>());
    let turn = (
        prop::collection::vec(said, 1..5),
        prop::collection::vec(result, 0..3),
        prop::option::of(user.clone()),
    );
    (system, user, prop::collection::vec(turn, 0..3)).prop_map(|(system, user, turns)| {
        let mut messages: Vec<ChatMessage> =
            system.into_iter().map(|parts| ChatMessage::new(Role::System, parts)).collect();
        messages.push(ChatMessage::new(Role::User, user));
        for (said, results, user) in turns {
            if messages.last().is_some_and(|last| last.role == Role::Assistant) {
                break;
            }
            messages.push(ChatMessage::new(Role::Assistant, said));
            for (id, mut parts, mark, is_error) in results {
                if let Some(Part::Text { cache, .. }) = parts.last_mut() {
                    *cache = mark;
                }
                let result = ChatMessage::new(Role::Tool, parts);
                messages.push(ChatMessage { tool_call_id: Some(id), is_error, ..result });
            }
            messages.extend(user.map(|parts| ChatMessage::new(Role::User, parts)));
        }
        messages
    })
}

fn tool() -> impl Strategy<Value = Tool> {
    let function = ("[a-z_-]{1,8}", prop::option::of(some_text()), prop::option::of(any::<bool>()), mark());
    prop_oneof![
        3 => function.prop_map(|(name, description, strict, cache)| {
            let parameters = Some(json!({"type": "object", "properties": {"a": {"type": "string"}}}));
            Tool::Function { name, description, parameters, strict, cache }
        }),
        1 => Just(Tool::Native {
            dialect: DIALECT,
            tool: json!({"type": "web_search_20250305", "name": "web_search"}),
        }),
    ]
}

/// A wish, and the name of a model that is told it in the very words it came in.
fn reasoning_wish() -> impl Strategy<Value = (Option<ReasoningWish>, &'static str)> {
    let summary = || prop::option::of(Just("auto".to_owned()));
    let effort = prop::sample::select(vec!["low", "medium", "high", "xhigh", "max"]);
    let none = ReasoningWish { effort: Some("none".into()), ..ReasoningWish::default() };
    prop_oneof![
        Just((None, "claude-3-haiku-20240307")),
        Just((Some(none), "claude-opus-4-8")),
        (1024u32..60_000, summary()).prop_map(|(budget, summary)| {
            let budget_tokens = Some(budget);
            (Some(ReasoningWish { effort: None, budget_tokens, summary }), "claude-sonnet-4-5")
        }),
        (prop::option::of(effort), summary()).prop_map(|(effort, summary)| {
            let effort = effort.map(str::to_owned);
            (Some(ReasoningWish { effort, budget_tokens: None, summary }), "claude-opus-5-5")
        }),
    ]
}

/// What this dialect can say, and the model to say it to.
fn ask() -> impl Strategy<Value = (Ask, &'static str)> {
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::Required),
        "[a-z]{1,5}".prop_map(ToolChoice::Named)
    ];
    let format = prop_oneof![
        Just(AnswerFormat::Text),
        Just(AnswerFormat::JsonSchema {
            name: "answer".into(),
            description: None,
            schema: json!({"type": "object", "additionalProperties": false}),
            strict: Some(true),
        }),
    ];
    let tools = (prop::collection::vec(tool(), 0..3), choice, prop::option::of(any::<bool>()));
    let sampling =
        (prop::option::of(0.0f32..=1.0), prop::option::of(0.1f32..=1.0), prop::option::of(1u32..99));
    let rest = (
        prop::collection::vec("[a-z]{1,4}", 0..3),
        any::<bool>(),
        prop::option::of("[a-z]{1,6}"),
        prop::option::of(Just(ServiceTier::Standard)),
    );
    (messages(), tools, format, reasoning_wish(), sampling, rest).prop_map(
        |(messages, (tools, choice, parallel), format, (reasoning, model), sampling, rest)| {
            let (stop, stream, user, service_tier) = rest;
            let has_tools = !tools.is_empty();
            let is_free = model.starts_with("claude-3");
            let is_budget = reasoning.as_ref().is_some_and(|wish| wish.budget_tokens.is_some());
            let (temperature, top_p, top_k) = if is_free { sampling } else { (None, None, None) };
            let chat = Chat {
                messages,
                tools,
                // A choice needs tools; a forced one allows no budget.
                tool_choice: if has_tools && !is_budget { choice } else { ToolChoice::Auto },
                parallel_tool_calls: parallel.filter(|_| has_tools),
                format,
                reasoning,
                ..Chat::default()
            };
            let ask = Ask {
                model: model.into(),
                input: Input::Chat(chat),
                max_output_tokens: Some(64_000),
                sampling: SamplingWish { temperature, top_p, top_k, ..SamplingWish::default() },
                stop,
                logprobs: None,
                choices: 1,
                stream,
                stream_usage: false,
                echo: false,
                ignore_eos: false,
                user,
                service_tier,
                cache_key: None,
            };
            (ask, model)
        },
    )
}

/// What this dialect can answer: no two texts in a row, no empty pieces.
fn answer() -> impl Strategy<Value = Answer> {
    let omitted = "[A-Za-z0-9]{1,9}"
        .prop_map(|proof| Part::Reasoning(Reasoning { text: String::new(), proof: Some(proof), id: None }));
    let unsigned = some_text().prop_map(|text| Part::Reasoning(Reasoning { text, ..Reasoning::default() }));
    let part = prop_oneof![
        some_text().prop_map(Part::text),
        reasoning(),
        omitted,
        unsigned,
        "[a-z]{1,5}".prop_map(Part::SealedReasoning),
        call().prop_map(Part::ToolCall),
    ];
    let count = || 0u64..1_000_000;
    let usage = (count(), count(), count(), count(), count(), prop::option::of(Just(ServiceTier::Standard)));
    (prop::collection::vec(part, 0..6), 0usize..4, usage).prop_map(|(parts, reason, usage)| {
        let mut answer = Answer::default();
        answer.fold(AnswerEvent::Began { id: Some("msg_1".into()), model: Some("main".into()) });
        let mut calls = 0;
        for part in parts {
            let is_text = |part: &Part| matches!(part, Part::Text { .. });
            let last = answer.choices.first().and_then(|choice| choice.parts.last());
            if !(is_text(&part) && last.is_some_and(is_text)) {
                calls += u32::from(matches!(part, Part::ToolCall(_)));
                let mut alone = domain::AnsweredChoice::default();
                alone.parts.push(part);
                let alone = Answer { choices: vec![alone], ..Answer::default() };
                for event in alone.events().into_iter().skip(1) {
                    answer.fold(renumbered(event, calls.saturating_sub(1)));
                }
            }
        }
        let finish = match (reason, calls) {
            (0, 0) => Finish::of(FinishReason::Stop),
            (0, _) => Finish::of(FinishReason::ToolCalls),
            (1, _) => Finish::of(FinishReason::Length),
            (2, _) => Finish { reason: FinishReason::Stop, stop: Some("END".into()) },
            _ => Finish::of(FinishReason::ContentFilter),
        };
        answer.fold(AnswerEvent::Finished { choice: 0, finish });
        let (input_uncached, cache_read, cache_write_5m, cache_write_1h, output, service_tier) = usage;
        let reasoning = output / 2;
        let compute_us = 0;
        let usage = Usage {
            input_uncached,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
            compute_us,
        };
        answer.fold(AnswerEvent::Used(UsageReport { usage, service_tier }));
        answer
    })
}

/// A call's events, which number it 0, under its number in the answer.
fn renumbered(event: AnswerEvent, index: u32) -> AnswerEvent {
    let AnswerEvent::Delta { choice, delta } = event else {
        return event;
    };
    let delta = match delta {
        Delta::ToolCall { id, name, proof, .. } => Delta::ToolCall { index, id, name, proof },
        Delta::Arguments { json, .. } => Delta::Arguments { index, json },
        other => other,
    };
    AnswerEvent::Delta { choice, delta }
}

fn head() -> Head {
    Head { id: "msg_1".into(), created: 0, model: "main".into(), system_fingerprint: None }
}

fn stream_of(answer: &Answer) -> Vec<u8> {
    let mut writer = MessagesForm.writer(head(), 1);
    let mut bytes = writer.open();
    for event in answer.events() {
        match event {
            AnswerEvent::Delta { choice, delta } => bytes.append(&mut writer.delta(choice, &[delta])),
            AnswerEvent::Finished { choice, finish } => bytes.append(&mut writer.finish(choice, &finish)),
            AnswerEvent::Began { .. } | AnswerEvent::Used(_) => {}
        }
    }
    bytes.append(&mut writer.end(answer.report.as_ref().unwrap()));
    bytes
}

fn read_pieces(pieces: &[&[u8]], is_stream: bool) -> (Answer, Result<(), BadAnswer>) {
    let (mut reader, mut events) = (Messages.reader(is_stream), Vec::new());
    let fed = pieces.iter().try_for_each(|piece| reader.feed(piece, &mut events));
    let result = fed.and_then(|()| reader.end(&mut events));
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    (answer, result)
}

/// The answer without what only tells how its last block of reasoning ended.
fn plain(answer: &Answer) -> Answer {
    let mut plain = Answer::default();
    answer.events().into_iter().for_each(|event| plain.fold(event));
    plain
}

proptest! {
    // Each case reads the answer once for each of its bytes.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_answer_written_as_a_stream_is_read_again_however_its_bytes_are_cut(answer in answer(), crlf in any::<bool>()) {
        let mut bytes = stream_of(&answer);
        if crlf {
            bytes = String::from_utf8(bytes).unwrap().replace('\n', "\r\n").into_bytes();
        }
        let expected = plain(&answer);
        for cut in 0..=bytes.len() {
            let (read, result) = read_pieces(&[&bytes[..cut], &bytes[cut..]], true);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(&read, &expected);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(read_pieces(&single, true).0, expected);
    }
}

proptest! {
    #[test]
    fn what_is_asked_upstream_is_heard_again((ask, model) in ask()) {
        let target = Target { model, stream: ask.stream };
        let request = Messages.request(&ask, &target).unwrap();
        let heard = read(&request.body).unwrap();
        prop_assert!(heard.ignored.is_empty(), "{:?}", heard.ignored);
        prop_assert_eq!(heard.ask, ask);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_never_taken_for_whole(answer in answer(), at in any::<prop::sample::Index>()) {
        let bytes = stream_of(&answer);
        // What lacks nothing but its last empty line is whole.
        let cut = at.index(bytes.len() - 2);
        prop_assert_eq!(read_pieces(&[&bytes[..cut]], true).1, Err(BadAnswer::Unfinished));
        let whole = MessagesForm.whole(&head(), &answer, answer.report.as_ref().unwrap());
        let cut = at.index(whole.len());
        prop_assert_eq!(read_pieces(&[&whole[..cut]], false).1, Err(BadAnswer::Unfinished));
    }

    #[test]
    fn a_whole_answer_is_read_again(answer in answer()) {
        let whole = MessagesForm.whole(&head(), &answer, answer.report.as_ref().unwrap());
        let (read, result) = read_pieces(&[&whole], false);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(read, plain(&answer));
    }

    #[test]
    fn no_bytes_make_anything_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        status in 0u16..600,
        is_stream in any::<bool>(),
    ) {
        let _ = read(&bytes);
        let _ = Messages.passed(&bytes, &Target { model: "m", stream: is_stream });
        let _ = read_pieces(&[&bytes], is_stream);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let headers = [("retry-after".to_owned(), text.clone()), ("anthropic-ratelimit-x-reset".to_owned(), text),
            ("anthropic-ratelimit-x-remaining".to_owned(), "0".to_owned())];
        let fault = Messages.fault(&crate::ErrorAnswer { status, headers: &headers, body: &bytes, now: 0 });
        prop_assert!(fault.message.chars().count() <= crate::Fault::MESSAGE_CHARS_MAX);
    }

    #[test]
    fn no_json_makes_anything_panic(value in any_json(), is_stream in any::<bool>()) {
        let request = json!({"model": "m", "max_tokens": 1, "messages": value, "system": value, "tools": value,
            "thinking": value, "output_config": value, "metadata": value});
        for body in [&value, &request] {
            if let Ok(heard) = read(body.to_string().as_bytes()) {
                let _ = Messages.request(&heard.ask, &Target { model: "m", stream: is_stream });
            }
        }
        let event = format!("data: {value}\n\n");
        let _ = read_pieces(&[event.as_bytes(), event.as_bytes()], true);
        let _ = read_pieces(&[value.to_string().as_bytes()], false);
    }
}

/// JSON whose names are often those that are read.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "text",
        "content",
        "role",
        "user",
        "assistant",
        "tool_result",
        "tool_use",
        "tool_use_id",
        "id",
        "name",
        "input",
        "source",
        "cache_control",
        "thinking",
        "signature",
        "usage",
        "input_tokens",
        "index",
        "delta",
        "content_block",
        "message",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..4).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}
