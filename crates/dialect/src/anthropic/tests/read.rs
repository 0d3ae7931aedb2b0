//! What is read in a provider's answer, well-formed or ugly.

use serde_json::{Value, json};

use domain::{Answer, AnswerEvent, FinishReason, Part, Reasoning, ServiceTier, ToolCall, Usage, UsageReport};

use super::super::Messages;
use crate::{BadAnswer, Fault, FaultKind, Upstream};

/// Returns a stream's body: each event under its own name.
fn stream(events: &[Value]) -> String {
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(event).collect()
}

fn begin(usage: Value) -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-opus-5-5", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage}})
}

fn block(index: u32, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u32, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u32) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn text(index: u32, text: &str) -> [Value; 3] {
    let piece = json!({"type": "text_delta", "text": text});
    [block(index, json!({"type": "text", "text": ""})), delta(index, piece), stop(index)]
}

fn end(reason: &str, usage: Value) -> [Value; 2] {
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    [json!({"type": "message_delta", "delta": delta, "usage": usage}), json!({"type": "message_stop"})]
}

fn read(body: &str, is_stream: bool) -> (Answer, Result<(), BadAnswer>) {
    let (mut reader, mut events) = (Messages.reader(is_stream), Vec::new());
    let result = reader.feed(body.as_bytes(), &mut events).and_then(|()| reader.end(&mut events));
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    (answer, result)
}

fn streamed(events: &[Value]) -> Answer {
    let (answer, result) = read(&stream(events), true);
    result.unwrap();
    answer
}

fn usage(answer: &Answer) -> Usage {
    answer.report.as_ref().unwrap().usage
}

fn reason(answer: &Answer) -> FinishReason {
    answer.choices[0].finish.as_ref().unwrap().reason
}

fn reasoning(text: &str, proof: Option<&str>) -> Part {
    Part::Reasoning(Reasoning { text: text.into(), proof: proof.map(Into::into), id: None })
}

fn call(id: &str, arguments: &str) -> Part {
    Part::ToolCall(ToolCall { id: id.into(), name: "add".into(), arguments: arguments.into(), proof: None })
}

#[test]
fn a_whole_answer_and_a_streamed_one_are_the_same() {
    let whole = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5-5","content":[
        {"type":"thinking","thinking":"Let me see.","signature":"c2ln"},
        {"type":"thinking","thinking":"","signature":"b21pdHRlZA"},
        {"type":"redacted_thinking","data":"c2VhbGVk"},
        {"type":"text","text":"Hello","citations":null},
        {"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"x"}},
        {"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","text":7}]},
        {"type":"text","text":" there."},
        {"type":"tool_use","id":"toolu_1","name":"add","input":{"a":12345678901234567890123}},
        {"type":"tool_use","id":"toolu_2","name":"add","input":{}}],
        "stop_reason":"tool_use","stop_sequence":null,
        "usage":{"input_tokens":10,"output_tokens":20,"service_tier":"standard"}}"#;
    let (from_whole, result) = read(whole, false);
    result.unwrap();

    let mut events = vec![begin(json!({"input_tokens": 10, "output_tokens": 1, "service_tier": "standard"}))];
    events.extend([
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        json!({"type": "ping"}),
        delta(0, json!({"type": "thinking_delta", "thinking": "Let me "})),
        delta(0, json!({"type": "thinking_delta", "thinking": "see."})),
        delta(0, json!({"type": "signature_delta", "signature": "c2"})),
        delta(0, json!({"type": "signature_delta", "signature": "ln"})),
        stop(0),
        block(1, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(1, json!({"type": "signature_delta", "signature": "b21pdHRlZA"})),
        stop(1),
        block(2, json!({"type": "redacted_thinking", "data": "c2VhbGVk"})),
        stop(2),
    ]);
    events.extend(text(3, "Hello"));
    events.extend([
        block(4, json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}})),
        delta(4, json!({"type": "input_json_delta", "partial_json": "{\"query\":\"x\"}"})),
        stop(4),
        block(5, json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []})),
        stop(5),
        block(6, json!({"type": "text", "text": "", "citations": []})),
        delta(
            6,
            json!({"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "no"}}),
        ),
        delta(6, json!({"type": "text_delta", "text": " there."})),
        stop(6),
        block(7, json!({"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}})),
        delta(7, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(7, json!({"type": "input_json_delta", "partial_json": "{\"a\":1234567890"})),
        delta(7, json!({"type": "input_json_delta", "partial_json": "1234567890123}"})),
        stop(7),
        block(8, json!({"type": "tool_use", "id": "toolu_2", "name": "add", "input": {}})),
        stop(8),
        json!({"type": "a_new_kind_of_event", "index": {"any": "thing"}}),
    ]);
    // The new kind of event has an index of another type, so it is no event of ours.
    assert!(matches!(read(&stream(&events), true).1, Err(BadAnswer::Malformed(_))));
    *events.last_mut().unwrap() = json!({"type": "a_new_kind_of_event", "any": "thing"});
    events.extend(end("tool_use", json!({"output_tokens": 20})));
    let from_stream = streamed(&events);

    assert_eq!(from_whole, from_stream);
    let expected = [
        reasoning("Let me see.", Some("c2ln")),
        reasoning("", Some("b21pdHRlZA")),
        Part::SealedReasoning("c2VhbGVk".into()),
        Part::text("Hello there."),
        call("toolu_1", r#"{"a":12345678901234567890123}"#),
        call("toolu_2", "{}"),
    ];
    assert_eq!(from_stream.choices[0].parts, expected);
    assert_eq!(
        (from_stream.id.as_deref(), from_stream.model.as_deref()),
        (Some("msg_1"), Some("claude-opus-5-5"))
    );
    assert_eq!(reason(&from_stream), FinishReason::ToolCalls);
    let usage = Usage { input_uncached: 10, output: 20, ..Usage::default() };
    let service_tier = Some(ServiceTier::Standard);
    assert_eq!(from_stream.report, Some(UsageReport { usage, service_tier }));
}

#[test]
fn usage_is_read_in_every_shape_it_comes_in() {
    let of = |input_uncached, cache_read, cache_write_5m, cache_write_1h, output| Usage {
        input_uncached,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        output,
        ..Usage::default()
    };
    let split = json!({"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70});
    let table = [
        (
            "the plain one",
            json!({"input_tokens": 5, "output_tokens": 1}),
            json!({"output_tokens": 9}),
            of(5, 0, 0, 0, 9),
        ),
        (
            "a total alone is of the default lifetime",
            json!({"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 7, "output_tokens": 1}),
            json!({"output_tokens": 9}),
            of(5, 7, 100, 0, 9),
        ),
        (
            "a split divides the total",
            json!({"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_creation": split, "output_tokens": 1}),
            json!({"output_tokens": 9}),
            of(5, 0, 30, 70, 9),
        ),
        (
            "totals updated at the end win",
            json!({"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}),
            json!({"input_tokens": 6, "cache_creation_input_tokens": 40, "cache_read_input_tokens": 8, "output_tokens": 9}),
            of(6, 8, 40, 0, 9),
        ),
        (
            "a total updated without its split keeps what was said of an hour",
            json!({"input_tokens": 5, "cache_creation_input_tokens": 100, "cache_creation": split, "output_tokens": 1}),
            json!({"cache_creation_input_tokens": 150, "output_tokens": 9}),
            of(5, 0, 80, 70, 9),
        ),
        (
            "null is not said",
            json!({"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation": null, "output_tokens": 1}),
            json!({"input_tokens": null, "cache_read_input_tokens": null, "output_tokens": 9}),
            of(5, 7, 0, 0, 9),
        ),
        (
            "a reported zero is zero",
            json!({"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1}),
            json!({"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}),
            of(0, 0, 0, 0, 0),
        ),
        (
            "a compaction is billed beside the totals",
            json!({"input_tokens": 5, "output_tokens": 1}),
            json!({"output_tokens": 9, "iterations": [
                {"type": "compaction", "input_tokens": 1000, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 0, "output_tokens": 50},
                {"type": "message", "input_tokens": 5, "output_tokens": 9}]}),
            of(1005, 10, 0, 0, 59),
        ),
        (
            "nonsense does not overflow",
            json!({"input_tokens": u64::MAX, "cache_read_input_tokens": u64::MAX, "output_tokens": 1}),
            json!({"output_tokens": 9}),
            of(1 << 40, 1 << 40, 0, 0, 9),
        ),
    ];
    for (what, first, last, expected) in table {
        let mut events = vec![begin(first)];
        events.extend(text(0, "Hi"));
        events.extend(end("end_turn", last));
        assert_eq!(usage(&streamed(&events)), expected, "{what}");
    }
}

#[test]
fn reasoning_and_the_tier_are_reported() {
    let first = json!({"input_tokens": 5, "output_tokens": 1, "service_tier": "priority"});
    let last = json!({"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}});
    let mut events = vec![begin(first)];
    events.extend(end("end_turn", last.clone()));
    let answer = streamed(&events);
    assert_eq!(usage(&answer).reasoning, 4);
    assert_eq!(answer.report.unwrap().service_tier, Some(ServiceTier::Priority));
    events[0] = begin(json!({"input_tokens": 5, "service_tier": "standard", "speed": "fast"}));
    assert_eq!(streamed(&events).report.unwrap().service_tier, Some(ServiceTier::Priority));
}

#[test]
fn usage_twice_is_the_later_and_usage_never_is_unknown() {
    let mut events = vec![begin(json!({"input_tokens": 5, "output_tokens": 1}))];
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": null}, "usage": {"output_tokens": 3}}),
    );
    events.extend(end("end_turn", json!({"output_tokens": 9})));
    assert_eq!(usage(&streamed(&events)).output, 9);
    let never =
        [begin(Value::Null), end("end_turn", Value::Null)[0].clone(), json!({"type": "message_stop"})];
    assert_eq!(streamed(&never).report, None);
}

#[test]
fn the_placeholder_of_a_stream_that_died_is_nobodys_output() {
    let first = json!({"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1});
    let mut events = vec![begin(first)];
    events.extend(text(0, "Much text."));
    let (answer, result) = read(&stream(&events), true);
    assert_eq!(result, Err(BadAnswer::Unfinished));
    assert_eq!(usage(&answer), Usage { input_uncached: 5, cache_read: 7, ..Usage::default() });
    assert_eq!(answer.choices[0].text(), "Much text.");
}

#[test]
fn every_reason_to_stop_is_understood() {
    let table = [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("tool_use", FinishReason::ToolCalls),
        ("refusal", FinishReason::ContentFilter),
        ("pause_turn", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("compaction", FinishReason::Length),
        ("a_word_of_tomorrow", FinishReason::Length),
    ];
    for (word, expected) in table {
        let mut events = vec![begin(json!({"input_tokens": 1}))];
        events.extend(end(word, json!({"output_tokens": 1})));
        assert_eq!(reason(&streamed(&events)), expected, "{word}");
    }
    let named =
        json!({"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"}});
    let answer = streamed(&[begin(json!({})), named, json!({"type": "message_stop"})]);
    assert_eq!(answer.choices[0].finish.as_ref().unwrap().stop.as_deref(), Some("END"));
}

#[test]
fn an_error_in_a_stream_is_the_upstreams_fault() {
    let table = [
        ("overloaded_error", FaultKind::Overloaded),
        ("api_error", FaultKind::Server),
        ("rate_limit_error", FaultKind::RateLimited),
        ("timeout_error", FaultKind::Timeout),
        ("invalid_request_error", FaultKind::BadRequest),
    ];
    for (kind, expected) in table {
        let mut events = vec![begin(json!({"input_tokens": 1}))];
        events.extend(text(0, "Hal"));
        events.push(json!({"type": "error", "error": {"type": kind, "message": "Oh."}}));
        let (answer, result) = read(&stream(&events), true);
        let code = Some(kind.to_owned());
        assert_eq!(result, Err(BadAnswer::Fault(Fault { code, ..Fault::new(expected, "Oh.") })));
        assert_eq!(answer.choices[0].text(), "Hal");
    }
    let whole = r#"{"type":"error","error":{"type":"overloaded_error","message":"Oh."}}"#;
    assert!(matches!(read(whole, false).1, Err(BadAnswer::Fault(_))));
}

#[test]
fn an_answer_that_is_none_is_called_so() {
    let start = begin(json!({"input_tokens": 1}));
    let piece = |kind: &str| delta(0, json!({"type": kind, "text": "x", "partial_json": "x"}));
    let call = |block: Value| block_of(&start, block);
    let malformed = [
        vec![start.clone(), json!({"type": "message_stop"})],
        vec![start.clone(), piece("text_delta")],
        vec![start.clone(), block(0, json!({"type": "text", "text": ""})), piece("input_json_delta")],
        call(json!({"type": "tool_use", "name": "x"})),
        vec![start.clone(), json!({"type": "content_block_stop"})],
        vec![json!({"type": "message_start"})],
    ];
    for events in malformed {
        let (_, result) = read(&stream(&events), true);
        assert!(matches!(result, Err(BadAnswer::Malformed(_))), "{events:?}: {result:?}");
    }
    for body in ["data: {\"id\":\"x\",\"choices\":[]}\n\n", "data: {oops}\n\n", "data: {\"type\":\n\n"] {
        assert!(matches!(read(body, true).1, Err(BadAnswer::Malformed(_))), "{body:?}");
    }
    for body in ["", ": ping\n\n", "event: message_start\ndata: {\"type\":\"mess"] {
        assert_eq!(read(body, true).1, Err(BadAnswer::Unfinished), "{body:?}");
    }
    for (body, is_cut) in
        [("", true), ("{\"type\":\"mess", true), ("<html>", false), ("{\"type\":\"message\"}", false)]
    {
        let (_, result) = read(body, false);
        assert_eq!(result == Err(BadAnswer::Unfinished), is_cut, "{body:?}: {result:?}");
        assert!(result.is_err());
    }
}

fn block_of(start: &Value, block_value: Value) -> Vec<Value> {
    vec![start.clone(), block(0, block_value)]
}

#[test]
fn what_comes_after_the_end_is_not_read() {
    let mut events = vec![begin(json!({"input_tokens": 1}))];
    events.extend(end("end_turn", json!({"output_tokens": 1})));
    events.push(json!({"type": "error", "error": {"type": "api_error", "message": "too late"}}));
    assert_eq!(reason(&streamed(&events)), FinishReason::Stop);
}

#[test]
fn an_event_without_end_is_bounded() {
    let mut reader = Messages.reader(true);
    let piece = vec![b'x'; 1 << 20];
    let mut events: Vec<AnswerEvent> = Vec::new();
    let result = (0..20).try_for_each(|_| reader.feed(&piece, &mut events));
    assert!(matches!(result, Err(BadAnswer::TooLarge(_))));
}
