//! What servers of the chat dialect really answer.

use proptest::prelude::*;
use serde_json::{Value, json};

use domain::{Answer, AnswerEvent, FinishReason, Part, Reasoning, Usage};

use super::*;
use crate::{BadAnswer, Fault, FaultKind, Upstream};

fn events(is_stream: bool, body: &[u8]) -> Result<Vec<AnswerEvent>, BadAnswer> {
    let mut reader = ChatUpstream::default().reader(is_stream);
    let mut events = Vec::new();
    reader.feed(body, &mut events)?;
    reader.end(&mut events)?;
    Ok(events)
}

fn answered(is_stream: bool, body: &[u8]) -> Result<Answer, BadAnswer> {
    let mut answer = Answer::default();
    events(is_stream, body)?.into_iter().for_each(|event| answer.fold(event));
    Ok(answer)
}

/// A stream of these events; texts are sent as they are.
fn stream(events: &[Value]) -> Vec<u8> {
    let line = |event: &Value| match event {
        Value::String(raw) => raw.clone(),
        event => format!("data: {event}\n\n"),
    };
    events.iter().map(line).collect::<String>().into_bytes()
}

fn done() -> Value {
    json!("data: [DONE]\n\n")
}

fn chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "g",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn text() -> Value {
    chunk(json!({"role": "assistant", "content": "Hi"}), Value::Null)
}

fn stop() -> Value {
    chunk(json!({}), json!("stop"))
}

fn with(mut one: Value, name: &str, value: Value) -> Value {
    one[name] = value;
    one
}

/// Returns the usage that is left after all reports, and how many there were.
fn usage(is_stream: bool, body: &[u8]) -> (Option<Usage>, usize) {
    let events = events(is_stream, body).unwrap();
    let reports: Vec<Usage> = events
        .iter()
        .filter_map(|event| match event {
            AnswerEvent::Used(report) => Some(report.usage),
            _ => None,
        })
        .collect();
    (reports.last().copied(), reports.len())
}

#[test]
fn usage_is_found_wherever_it_is_reported_and_never_made_up() {
    let reported = json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13});
    let expected = Usage { input_uncached: 9, output: 4, ..Usage::default() };
    let alone = json!({"id": "c", "choices": [], "usage": reported});
    let zero = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    let rows: Vec<(&str, Vec<Value>, Option<Usage>, usize)> = vec![
        ("in a chunk of its own", vec![text(), stop(), alone.clone(), done()], Some(expected), 1),
        (
            "beside the last choice",
            vec![text(), with(stop(), "usage", reported.clone()), done()],
            Some(expected),
            1,
        ),
        (
            "null until it is known",
            vec![with(text(), "usage", Value::Null), stop(), alone.clone(), done()],
            Some(expected),
            1,
        ),
        (
            "twice the same",
            vec![text(), with(stop(), "usage", reported.clone()), alone.clone(), done()],
            Some(expected),
            1,
        ),
        (
            "a first guess, corrected later",
            vec![with(text(), "usage", zero.clone()), stop(), alone.clone(), done()],
            Some(expected),
            2,
        ),
        ("never", vec![text(), stop(), done()], None, 0),
        ("an empty report", vec![text(), with(stop(), "usage", json!({})), done()], None, 0),
        ("zero is zero", vec![text(), with(stop(), "usage", zero), done()], Some(Usage::default()), 1),
        (
            "in Groq's own place",
            vec![text(), with(stop(), "x_groq", json!({"id": "r", "usage": reported})), done()],
            Some(expected),
            1,
        ),
        ("without [DONE]", vec![text(), stop(), alone.clone()], Some(expected), 1),
        (
            "without choices at all",
            vec![text(), stop(), json!({"usage": reported}), done()],
            Some(expected),
            1,
        ),
    ];
    for (what, chunks, expected, reports) in rows {
        assert_eq!(usage(true, &stream(&chunks)), (expected, reports), "{what}");
    }
}

#[test]
fn every_providers_counts_become_the_same_disjoint_ones() {
    let of = |input_uncached, cache_read, cache_write_5m, output, reasoning| Usage {
        input_uncached,
        cache_read,
        cache_write_5m,
        output,
        reasoning,
        ..Usage::default()
    };
    let rows = [
        (
            "OpenAI",
            json!({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 20, "accepted_prediction_tokens": 0}}),
            of(10, 60, 30, 50, 20),
        ),
        (
            "DeepSeek",
            json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
                "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}),
            of(36, 64, 0, 5, 0),
        ),
        (
            "Moonshot",
            json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "cached_tokens": 7}),
            of(93, 7, 0, 5, 0),
        ),
        (
            "Mistral",
            json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "num_cached_tokens": 50}),
            of(50, 50, 0, 5, 0),
        ),
        (
            "xAI counts reasoning beside the answer",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
                "completion_tokens_details": {"reasoning_tokens": 100}}),
            of(10, 0, 0, 105, 100),
        ),
        (
            "Google says it in the total alone",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}),
            of(10, 0, 0, 30, 25),
        ),
        (
            "a gateway that counts the cache beside the prompt",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
                "prompt_tokens_details": {"cached_tokens": 100}}),
            of(10, 100, 0, 5, 0),
        ),
        (
            "LiteLLM before Anthropic",
            json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
                "cache_read_input_tokens": 40, "cache_creation_input_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 40, "cache_creation_tokens": 50}}),
            of(10, 40, 50, 5, 0),
        ),
        (
            "nulls and decimals",
            json!({"prompt_tokens": 10.0, "completion_tokens": 5, "total_tokens": null,
                "prompt_tokens_details": null, "completion_tokens_details": {"reasoning_tokens": null}}),
            of(10, 0, 0, 5, 0),
        ),
        (
            "numbers that cannot be",
            json!({"prompt_tokens": 18446744073709551615u64, "completion_tokens": 18446744073709551615u64,
                "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 18446744073709551615u64}}),
            of(0, u64::MAX, 0, u64::MAX, 0),
        ),
    ];
    for (who, reported, expected) in rows {
        let whole = with(
            json!({"id": "c", "model": "g", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}),
            "usage",
            reported,
        );
        assert_eq!(usage(false, whole.to_string().as_bytes()), (Some(expected), 1), "{who}");
    }
}

#[test]
fn an_answer_is_good_only_when_it_says_its_own_end() {
    let cut = chunk(json!({"content": "x"}), json!(""));
    let other = json!({"choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": null}]});
    let rows: Vec<(&str, Vec<Value>, bool)> = vec![
        ("finish and [DONE]", vec![text(), stop(), done()], true),
        ("finish without [DONE]: the model's own word is enough", vec![text(), stop()], true),
        ("[DONE] without finish: a proxy's word for a dead server", vec![text(), done()], false),
        ("an empty finish is none", vec![cut, done()], false),
        ("nothing", vec![], false),
        ("only [DONE]", vec![done()], false),
        ("only a heartbeat", vec![json!(": ping\n\n"), done()], false),
        ("one choice of two", vec![text(), other, stop(), done()], false),
        (
            "usage without any choice",
            vec![json!({"choices": [], "usage": {"prompt_tokens": 1}}), done()],
            false,
        ),
        ("torn in its last event, after the finish", vec![text(), stop(), json!("data: {\"choi")], true),
        ("torn before the finish", vec![text(), json!("data: {\"choi")], false),
        ("its last event lacks the empty line", vec![text(), json!(format!("data: {}", stop()))], true),
        ("a finish that is repeated", vec![text(), stop(), stop(), done()], true),
        (
            "a finish in every chunk",
            vec![chunk(json!({"content": "H"}), json!("stop")), stop(), done()],
            true,
        ),
        ("more after [DONE]", vec![text(), stop(), done(), json!("data: {\"x\":1}\n\n")], true),
    ];
    for (what, chunks, is_good) in rows {
        let answer = answered(true, &stream(&chunks));
        assert_eq!(answer.is_ok(), is_good, "{what}: {answer:?}");
        if let Err(error) = answer {
            assert_eq!(error, BadAnswer::Unfinished, "{what}");
        }
    }
    let malformed = stream(&[text(), json!("data: {oops}\n\n"), stop(), done()]);
    assert!(
        matches!(answered(true, &malformed), Err(BadAnswer::Malformed(_))),
        "a broken line is no heartbeat"
    );
}

#[test]
fn lines_may_end_as_they_like_and_comments_say_nothing() {
    let body =
        String::from_utf8(stream(&[json!(": hello\n\n"), text(), json!("event: x\n\n"), stop(), done()]))
            .unwrap();
    for body in [body.clone(), body.replace('\n', "\r\n"), body.replace("data: ", "data:")] {
        assert_eq!(answered(true, body.as_bytes()).unwrap().choices[0].text(), "Hi");
    }
}

#[test]
fn a_failure_in_mid_stream_is_a_failure_in_whatever_shape() {
    let rows = [
        (json!({"error": {"message": "boom", "type": "server_error", "code": null}}), FaultKind::Server),
        (json!({"error": {"message": "boom", "code": 429}}), FaultKind::RateLimited),
        (json!({"error": "boom", "error_type": "overloaded"}), FaultKind::Server),
        (
            json!({"object": "error", "message": "boom", "type": "BadRequestError", "code": 400}),
            FaultKind::BadRequest,
        ),
        (
            json!({"id": "x", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
                "error": {"code": 502, "message": "boom"}}),
            FaultKind::Server,
        ),
        (
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": null, "error": {"code": 503, "message": "boom"}}]}),
            FaultKind::Overloaded,
        ),
        (json!("event: error\ndata: boom\n\n"), FaultKind::Server),
        (chunk(json!({}), json!("insufficient_system_resource")), FaultKind::Overloaded),
        (chunk(json!({}), json!("error")), FaultKind::Server),
    ];
    for (event, kind) in rows {
        let Err(BadAnswer::Fault(fault)) = answered(true, &stream(&[text(), event.clone(), done()])) else {
            panic!("{event} is a fault");
        };
        assert_eq!(fault.kind, kind, "{event}");
        assert!(fault.message.contains("boom") || fault.message.contains("ended with"), "{event}: {fault}");
    }
    // A stream was asked for, and an error came whole.
    let Err(BadAnswer::Fault(fault)) =
        answered(true, br#"{"error": {"message": "boom", "code": "rate_limit_exceeded"}}"#)
    else {
        panic!("a fault");
    };
    assert_eq!(fault.kind, FaultKind::RateLimited);
    let whole =
        with(json!({"id": "c"}), "choices", json!([{"message": {"content": "Hi"}, "finish_reason": "stop"}]));
    assert_eq!(answered(true, whole.to_string().as_bytes()).unwrap().choices[0].text(), "Hi");
}

#[test]
fn calls_are_told_apart_however_they_are_numbered() {
    let piece = |fields: Value| chunk(json!({"tool_calls": [fields]}), Value::Null);
    let begin = |fields: Value, name: &str, arguments: Value| {
        piece(with(fields, "function", json!({"name": name, "arguments": arguments})))
    };
    let more =
        |fields: Value, arguments: &str| piece(with(fields, "function", json!({"arguments": arguments})));
    let both = [("a", "f", "{\"x\":1}"), ("b", "g", "{}")];
    type Call<'a> = (&'a str, &'a str, &'a str);
    let rows: Vec<(&str, Vec<Value>, [Call<'_>; 2])> = vec![
        (
            "as OpenAI counts, in turns",
            vec![
                begin(json!({"index": 0, "id": "a"}), "f", json!("")),
                begin(json!({"index": 1, "id": "b"}), "g", json!("")),
                more(json!({"index": 0}), "{\"x\":"),
                more(json!({"index": 1}), "{}"),
                more(json!({"index": 0}), "1}"),
            ],
            both,
        ),
        (
            "without numbers, by id alone",
            vec![
                begin(json!({"id": "a"}), "f", json!("{\"x\":")),
                more(json!({}), "1}"),
                begin(json!({"id": "b"}), "g", json!("{}")),
            ],
            both,
        ),
        (
            "every call has the number 0",
            vec![
                begin(json!({"index": 0, "id": "a"}), "f", json!("{\"x\":1}")),
                begin(json!({"index": 0, "id": "b"}), "g", json!("{}")),
            ],
            both,
        ),
        (
            "id and name with every piece",
            vec![
                begin(json!({"index": 0, "id": "a"}), "f", json!("{\"x\":")),
                begin(json!({"index": 0, "id": "a"}), "f", json!("1}")),
                begin(json!({"index": 1, "id": "b"}), "g", json!("{}")),
            ],
            both,
        ),
        (
            "another id with every piece",
            vec![
                begin(json!({"index": 0, "id": "a"}), "f", json!("{\"x\":")),
                more(json!({"index": 0, "id": "zzz"}), "1}"),
                begin(json!({"index": 1, "id": "b"}), "g", json!("{}")),
            ],
            both,
        ),
        (
            "no ids at all",
            vec![
                begin(json!({"index": 0}), "f", json!("{\"x\":1}")),
                begin(json!({"index": 1, "id": ""}), "g", json!("{}")),
            ],
            [("call_c_0_0", "f", "{\"x\":1}"), ("call_c_0_1", "g", "{}")],
        ),
        (
            "whole calls in one chunk, arguments as objects",
            vec![chunk(
                json!({"tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": {}}},
                ]}),
                Value::Null,
            )],
            both,
        ),
        (
            "an empty piece at the end",
            vec![
                begin(json!({"index": 0, "id": "a"}), "f", json!("{\"x\":1}")),
                begin(json!({"index": 1, "id": "b"}), "g", json!("{}")),
                more(json!({"index": 2}), ""),
            ],
            both,
        ),
    ];
    for (what, mut chunks, expected) in rows {
        chunks.extend([stop(), done()]);
        let answer = answered(true, &stream(&chunks)).unwrap();
        let choice = &answer.choices[0];
        let calls: Vec<_> =
            choice.tool_calls().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
        assert_eq!(calls, expected, "{what}");
        let finish = choice.finish.as_ref().unwrap();
        assert_eq!(finish.reason, FinishReason::ToolCalls, "{what}: it waits for tools, though it said stop");
    }
    let nameless = stream(&[more(json!({"index": 0}), "{}"), stop(), done()]);
    assert!(matches!(answered(true, &nameless), Err(BadAnswer::Malformed(_))));
}

#[test]
fn reasoning_is_heard_once_in_every_shape_and_keeps_its_proof() {
    let thought = |text: &str, proof: Option<&str>| {
        Part::Reasoning(Reasoning { text: text.into(), proof: proof.map(str::to_owned), id: None })
    };
    let details = |details: Value| json!({"reasoning": "hm", "reasoning_details": details});
    let rows: Vec<(Vec<Value>, Vec<Part>)> = vec![
        (
            vec![json!({"reasoning_content": "h"}), json!({"reasoning_content": "m", "content": null})],
            vec![thought("hm", None)],
        ),
        (vec![json!({"reasoning": "hm", "content": ""})], vec![thought("hm", None)]),
        (
            vec![
                details(json!([{"type": "reasoning.text", "text": "hm", "index": 0}])),
                json!({"reasoning_details": [{"type": "reasoning.text", "signature": "S", "index": 0}]}),
            ],
            vec![thought("hm", Some("S"))],
        ),
        (
            vec![details(
                json!([{"type": "reasoning.summary", "summary": "hm"}, {"type": "reasoning.encrypted", "data": "D"}]),
            )],
            vec![thought("hm", None), Part::SealedReasoning("D".into())],
        ),
        (
            vec![
                json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
                json!({"content": [{"type": "text", "text": "Hi"}]}),
            ],
            vec![thought("hm", None), Part::text("Hi")],
        ),
        (
            vec![
                json!({"reasoning_content": "hm"}),
                json!({"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "S"}]}),
            ],
            vec![thought("hm", Some("S"))],
        ),
    ];
    for (deltas, expected) in rows {
        let mut chunks: Vec<Value> = deltas.iter().map(|delta| chunk(delta.clone(), Value::Null)).collect();
        chunks.extend([stop(), done()]);
        assert_eq!(answered(true, &stream(&chunks)).unwrap().choices[0].parts, expected, "{deltas:?}");
    }
}

proptest! {
    #[test]
    fn no_chunk_makes_the_reader_panic(
        value in super::tests::any_json(),
        name in prop::sample::select(vec!["delta", "message", "logprobs", "finish_reason", "index", "text", "error"]),
        status: u16,
    ) {
        let body = json!({"id": "c", "choices": [{name: value}]});
        let _ = answered(true, &stream(&[text(), body.clone(), stop()]));
        let _ = answered(false, body.to_string().as_bytes());
        let _ = answered(true, &stream(&[json!({name: value}), json!({"usage": value, "choices": []}), stop()]));
        for body in [value.to_string(), json!({"error": value}).to_string()] {
            let fault = super::upstream_tests::fault(status, &[("retry-after", &body)], &body);
            prop_assert!(fault.message.chars().count() <= Fault::MESSAGE_CHARS_MAX);
        }
    }
}
