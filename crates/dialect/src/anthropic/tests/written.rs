//! What is written to a client.

use serde_json::{Value, json};

use domain::{Answer, AnswerEvent, Delta, Finish, FinishReason, ServiceTier, Usage, UsageReport};

use super::super::MessagesForm;
use crate::{Form, Head, Trouble, TroubleKind, Writer};

fn head() -> Head {
    Head { id: "msg_1".into(), created: 0, model: "main".into(), system_fingerprint: None }
}

fn writer() -> Box<dyn Writer> {
    MessagesForm.writer(head(), 1)
}

fn report() -> UsageReport {
    let usage = Usage {
        input_uncached: 5,
        cache_read: 7,
        cache_write_5m: 30,
        cache_write_1h: 70,
        output: 9,
        reasoning: 4,
        compute_us: 0,
    };
    UsageReport { usage, service_tier: Some(ServiceTier::Standard) }
}

/// Returns the events' data; each event's name must be its type.
fn events(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let read = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), value["type"].as_str().unwrap());
        value
    };
    text.split_terminator("\n\n").map(read).collect()
}

/// Says in a line what an event is.
fn line(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap();
    let index = &event["index"];
    match kind {
        "content_block_start" => {
            format!("start {index} {}", event["content_block"]["type"].as_str().unwrap())
        }
        "content_block_stop" => format!("stop {index}"),
        "content_block_delta" => {
            let delta = event["delta"].as_object().unwrap();
            let said = delta.iter().find(|(name, _)| *name != "type").unwrap().1;
            format!("{index} {}", said.as_str().unwrap())
        }
        _ => kind.to_owned(),
    }
}

fn lines(deltas: &[Delta]) -> Vec<String> {
    let mut writer = writer();
    let mut bytes = writer.open();
    deltas.iter().for_each(|delta| bytes.append(&mut writer.delta(0, std::slice::from_ref(delta))));
    bytes.append(&mut writer.finish(0, &Finish::of(FinishReason::Stop)));
    bytes.append(&mut writer.end(&report()));
    events(&bytes).iter().map(line).collect()
}

fn call(index: u32) -> Delta {
    Delta::ToolCall { index, id: format!("call_{index}"), name: "add".into(), proof: None }
}

fn arguments(index: u32, json: &str) -> Delta {
    Delta::Arguments { index, json: json.into() }
}

#[test]
fn a_stream_begins_before_anything_is_known_and_ends_with_the_truth() {
    let mut writer = writer();
    let mut bytes = writer.open();
    bytes.append(&mut writer.delta(0, &[Delta::Text("Hel".into()), Delta::Text("lo".into())]));
    let stop = Some("END".to_owned());
    bytes.append(&mut writer.finish(0, &Finish { reason: FinishReason::Stop, stop }));
    bytes.append(&mut writer.end(&report()));
    let expected = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"main","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":30,"ephemeral_1h_input_tokens":70},"output_tokens":9,"output_tokens_details":{"thinking_tokens":4},"service_tier":"standard"}}

event: message_stop
data: {"type":"message_stop"}

"#;
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn each_kind_of_piece_has_its_own_block_and_closes_the_one_before() {
    let proof = |proof: Option<&str>| Delta::ReasoningProof { proof: proof.map(Into::into), id: None };
    let said = lines(&[
        Delta::Reasoning("Hm.".into()),
        proof(Some("c2ln")),
        proof(Some("b21pdHRlZA")),
        Delta::Reasoning("Unsigned.".into()),
        proof(None),
        Delta::SealedReasoning("c2VhbGVk".into()),
        Delta::Text("Hi".into()),
        Delta::Text(String::new()),
        Delta::Scores(Vec::new()),
        Delta::Refusal(" no".into()),
        call(0),
        arguments(0, "{\"a\":"),
        arguments(0, "\"}\\\"\"}"),
        Delta::Text("Bye".into()),
    ]);
    let expected = [
        "message_start",
        "start 0 thinking",
        "0 Hm.",
        "0 c2ln",
        "stop 0",
        "start 1 thinking",
        "1 b21pdHRlZA",
        "stop 1",
        "start 2 thinking",
        "2 Unsigned.",
        "stop 2",
        "start 3 redacted_thinking",
        "stop 3",
        "start 4 text",
        "4 Hi",
        "4  no",
        "stop 4",
        "start 5 tool_use",
        "5 {\"a\":",
        "5 \"}\\\"\"}",
        "stop 5",
        "start 6 text",
        "6 Bye",
        "stop 6",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(said, expected);
}

#[test]
fn calls_follow_each_other_unless_their_arguments_are_mixed() {
    let one_by_one = lines(&[call(0), arguments(0, "{}"), call(1), arguments(1, "{"), arguments(1, "} ")]);
    let expected = [
        "message_start",
        "start 0 tool_use",
        "0 {}",
        "stop 0",
        "start 1 tool_use",
        "1 {",
        "1 } ",
        "stop 1",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(one_by_one, expected);
    let mixed = lines(&[
        call(0),
        call(1),
        arguments(0, "{"),
        arguments(1, "{}"),
        arguments(0, "}"),
        arguments(0, "\n"),
    ]);
    let expected = [
        "message_start",
        "start 0 tool_use",
        "start 1 tool_use",
        "0 {",
        "1 {}",
        "stop 1",
        "0 }",
        "stop 0",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(mixed, expected);
    let without_arguments = lines(&[call(0), Delta::Text("Hi".into())]);
    assert_eq!(without_arguments[1..4], ["start 0 tool_use", "stop 0", "start 1 text"]);
}

#[test]
fn an_answer_that_a_budget_cut_is_delivered_and_billed_but_no_good_end() {
    let mut writer = writer();
    let mut bytes = writer.delta(0, &[Delta::Text("Hi".into())]);
    bytes.append(&mut writer.finish(0, &Finish::of(FinishReason::BudgetExhausted)));
    bytes.append(&mut writer.end(&report()));
    let events = events(&bytes);
    let [.., delta, error] = &events[..] else { panic!("too few events") };
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]),
        (&json!("budget_exhausted"), &json!(9))
    );
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("billing_error")));
    assert!(!events.iter().any(|event| event["type"] == "message_stop"));
}

#[test]
fn an_answer_that_broke_ends_with_its_error() {
    let mut writer = writer();
    writer.delta(0, &[Delta::Text("Hi".into())]);
    assert_eq!(events(writer.ping()), [json!({"type": "ping"})]);
    let error = events(&writer.broken(&Trouble::new(TroubleKind::ServiceUnavailableError, "gone")));
    assert_eq!(error, [json!({"type": "error", "error": {"type": "overloaded_error", "message": "gone"}})]);
}

#[test]
fn a_whole_answer_has_its_blocks_in_their_order() {
    let deltas = [
        Delta::Reasoning("Hm.".into()),
        Delta::ReasoningProof { proof: None, id: Some("rs_1".into()) },
        Delta::Text("Hi".into()),
        call(0),
        arguments(0, "{\"a\": 12345678901234567890123}"),
        call(1),
        call(2),
        arguments(2, "{oops"),
    ];
    let mut answer = Answer::default();
    deltas.into_iter().for_each(|delta| answer.fold(AnswerEvent::Delta { choice: 0, delta }));
    answer.fold(AnswerEvent::Finished { choice: 0, finish: Finish::of(FinishReason::Stop) });
    let body = String::from_utf8(MessagesForm.whole(&head(), &answer, &report())).unwrap();
    let expected = r#"{"id":"msg_1","type":"message","role":"assistant","model":"main","content":[{"type":"thinking","thinking":"Hm.","signature":""},{"type":"text","text":"Hi"},{"type":"tool_use","id":"call_0","name":"add","input":{"a": 12345678901234567890123}},{"type":"tool_use","id":"call_1","name":"add","input":{}},{"type":"tool_use","id":"call_2","name":"add","input":{"INVALID_JSON":"{oops"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,"#;
    assert!(body.starts_with(expected), "{body}");
}
