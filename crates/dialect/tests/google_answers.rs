//! Is whatever Gemini answers read as what it says, wherever it is cut and however it is wrapped?

mod reading;

use dialect::google::{Gemini, PROOF_MARK};
use dialect::{BadAnswer, FaultKind, Upstream};
use domain::{
    AnswerEvent, Delta, Finish, FinishReason, Part, Reasoning, ServiceTier, ToolCall, Usage, UsageReport,
};
use proptest::prelude::*;
use reading::{cut, events, folded, read};
use serde_json::{Value, json};

const STREAM: &[u8] = include_bytes!("corpus/google/tools.sse");
const WHOLE: &[u8] = include_bytes!("corpus/google/whole.json");

fn gemini() -> Gemini {
    Gemini::studio()
}

fn delta(delta: Delta) -> AnswerEvent {
    AnswerEvent::Delta { choice: 0, delta }
}

/// Returns a stream of these responses.
fn sse(chunks: &[Value]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| format!("data: {chunk}\r\n\r\n").into_bytes()).collect()
}

fn said(parts: Value) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}}]})
}

fn finished(reason: &str) -> Value {
    json!({"candidates": [{"finishReason": reason, "finishMessage": "words"}], "usageMetadata": {"promptTokenCount": 3}})
}

/// Returns the only choice's end.
fn end(body: &[u8]) -> Result<FinishReason, BadAnswer> {
    let (events, end) = read(&gemini(), true, &[body]);
    end.map(|()| folded(events).choices[0].finish.clone().unwrap().reason)
}

#[test]
fn thoughts_text_and_calls_are_told_in_their_order() {
    let used = |usage: Usage, service_tier| AnswerEvent::Used(UsageReport { usage, service_tier });
    let usage = |output, reasoning| Usage {
        input_uncached: 20,
        cache_read: 100,
        output,
        reasoning,
        ..Usage::default()
    };
    let call = |index, name: &str, proof: Option<&str>| {
        let id = format!("call_gemini_{index}_mAitaLmkHPPlz7IPvtfUqQ4");
        delta(Delta::ToolCall { index, id, name: name.into(), proof: proof.map(str::to_owned) })
    };
    let arguments = |index, json: &str| delta(Delta::Arguments { index, json: json.into() });
    let (id, model) = (Some("mAitaLmkHPPlz7IPvtfUqQ4".to_owned()), Some("gemini-3.5-pro".to_owned()));
    let expected = [
        AnswerEvent::Began { id, model },
        used(usage(45, 45), None),
        delta(Delta::Reasoning("**Two cities**\n".into())),
        used(usage(60, 60), None),
        delta(Delta::Reasoning("so two calls.".into())),
        used(usage(65, 60), None),
        delta(Delta::Text("Let me look: é".into())),
        used(usage(90, 60), Some(ServiceTier::Priority)),
        call(0, "weather", Some("CiQBs2c=")),
        arguments(0, r#"{"city":"Oslo","days":2}"#),
        call(1, "now", None),
        arguments(1, "{}"),
        AnswerEvent::Finished { choice: 0, finish: Finish::of(FinishReason::ToolCalls) },
    ];
    assert_eq!(events(&gemini(), true, STREAM), expected);
}

#[test]
fn an_answer_is_the_same_whole_in_events_or_as_an_array() {
    let streamed = events(&gemini(), true, STREAM);
    assert_eq!(folded(events(&gemini(), false, WHOLE)), folded(streamed.clone()));
    let text = std::str::from_utf8(STREAM).unwrap();
    let chunks: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let array = format!("[{}\r\n]\r\n", chunks.join("\r\n,\r\n"));
    assert_eq!(events(&gemini(), true, array.as_bytes()), streamed);
}

#[test]
fn an_answer_is_the_same_wherever_it_is_cut_in_two() {
    for (is_stream, body) in [(true, STREAM), (false, WHOLE)] {
        let expected = events(&gemini(), is_stream, body);
        for place in 0..=body.len() {
            let (events, end) = read(&gemini(), is_stream, &[&body[..place], &body[place..]]);
            assert_eq!((events, end), (expected.clone(), Ok(())), "cut at {place}");
        }
    }
}

#[test]
fn half_an_answer_is_never_taken_for_a_whole_one() {
    // The last event may lack its empty line, and the object its line's end: behind it nothing is missing.
    for (is_stream, body) in [(true, STREAM), (false, WHOLE)] {
        let length = body.trim_ascii_end().len();
        for place in 0..length {
            let (_, end) = read(&gemini(), is_stream, &[&body[..place]]);
            assert_eq!(end, Err(BadAnswer::Unfinished), "ended at {place}");
        }
    }
}

#[test]
fn only_the_last_reason_ends_an_answer() {
    // Some models write STOP into every chunk.
    let chunk = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]});
    let body = sse(&[chunk("a"), chunk("b"), finished("MAX_TOKENS")]);
    let events = events(&gemini(), true, &body);
    let ends = events.iter().filter(|event| matches!(event, AnswerEvent::Finished { .. })).count();
    assert_eq!(ends, 1);
    let answer = folded(events);
    assert_eq!((answer.choices[0].text(), end(&body)), ("ab".into(), Ok(FinishReason::Length)));
}

#[test]
fn each_reason_is_an_end_or_a_fault() {
    for (reason, expected) in [
        ("STOP", FinishReason::Stop),
        ("MAX_TOKENS", FinishReason::Length),
        ("SAFETY", FinishReason::ContentFilter),
        ("RECITATION", FinishReason::ContentFilter),
        ("BLOCKLIST", FinishReason::ContentFilter),
        ("PROHIBITED_CONTENT", FinishReason::ContentFilter),
        ("SPII", FinishReason::ContentFilter),
        ("OTHER", FinishReason::ContentFilter),
        ("SOMETHING_NEW", FinishReason::ContentFilter),
    ] {
        assert_eq!(end(&sse(&[said(json!([{"text": "x"}])), finished(reason)])), Ok(expected), "{reason}");
    }
    assert_eq!(end(&sse(&[finished("FINISH_REASON_UNSPECIFIED")])), Err(BadAnswer::Unfinished));
}

#[test]
fn a_call_that_went_wrong_is_a_fault_whose_tokens_are_known() {
    let (events, end) = read(&gemini(), true, &[&sse(&[finished("MALFORMED_FUNCTION_CALL")])]);
    let Err(BadAnswer::Fault(fault)) = end else { panic!("{end:?}") };
    assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Server, Some("MALFORMED_FUNCTION_CALL")));
    assert_eq!(folded(events).report.unwrap().usage.input_uncached, 3);
}

#[test]
fn a_blocked_prompt_is_a_fault_whose_tokens_are_known() {
    let body = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}});
    for (is_stream, body) in
        [(true, sse(std::slice::from_ref(&body))), (false, body.to_string().into_bytes())]
    {
        let (events, end) = read(&gemini(), is_stream, &[&body]);
        let Err(BadAnswer::Fault(fault)) = end else { panic!("{end:?}") };
        assert_eq!(
            (fault.kind, fault.code.as_deref()),
            (FaultKind::ContentFiltered, Some("PROHIBITED_CONTENT"))
        );
        assert_eq!(folded(events).report.unwrap().usage.input_uncached, 9);
    }
}

#[test]
fn an_error_amid_a_stream_is_the_upstream_s_fault_however_it_is_wrapped() {
    let error =
        json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "The model is overloaded."}});
    let begun = sse(&[said(json!([{"text": "Half"}]))]);
    let raw = format!("{error:#}\n").into_bytes();
    for tail in [sse(std::slice::from_ref(&error)), sse(&[json!([error])]), raw] {
        let (events, end) = read(&gemini(), true, &[&begun, &tail]);
        let Err(BadAnswer::Fault(fault)) = end else { panic!("{end:?}") };
        assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Overloaded, "The model is overloaded."));
        assert_eq!(folded(events).choices[0].text(), "Half");
    }
}

#[test]
fn proofs_of_thoughts_and_texts_are_kept_apart_and_marked() {
    let body = sse(&[
        said(json!([{"text": "Hm.", "thought": true, "thoughtSignature": "one"}, {"text": "Yes."}])),
        said(json!([{"text": "", "thoughtSignature": "two"}])),
        finished("STOP"),
    ]);
    let marked = |text: &str, proof: &str| {
        let proof = Some(format!("{PROOF_MARK}{proof}"));
        Part::Reasoning(Reasoning { text: text.into(), proof, id: None })
    };
    let expected = [marked("Hm.", "one"), Part::text("Yes."), marked("", "two")];
    assert_eq!(folded(events(&gemini(), true, &body)).choices[0].parts, expected);
}

#[test]
fn calls_without_ids_get_their_own_and_given_ones_stay() {
    let calls = |response: Value| {
        let mut chunk = said(json!([
            {"functionCall": {"name": "a", "args": {"x": 1}}},
            {"functionCall": {"name": "a", "args": {"x": 2}}},
            {"functionCall": {"id": "given", "name": "a"}}
        ]));
        chunk["responseId"] = response;
        let answer = folded(events(&gemini(), true, &sse(&[chunk, finished("STOP")])));
        answer.choices[0].tool_calls().map(|call| call.id.clone()).collect::<Vec<_>>()
    };
    let of_answer = calls(json!("r/1=x"));
    assert_eq!(of_answer, ["call_gemini_0_r1x", "call_gemini_1_r1x", "given"]);
    let nameless = calls(Value::Null);
    assert_eq!(nameless, calls(Value::Null));
    assert_ne!(nameless[0], nameless[1]);
    assert!(nameless.iter().all(|id| id.len() <= 64));
}

#[test]
fn several_choices_and_their_likelihoods_are_told_apart() {
    let token = |text: &str, logprob: f32| json!({"token": text, "logProbability": logprob});
    let body = json!({"candidates": [
        {"content": {"parts": [{"text": "A"}]}, "finishReason": "STOP", "logprobsResult": {
            "chosenCandidates": [token("A", -0.5)], "topCandidates": [{"candidates": [token("A", -0.5), token("B", -1.0)]}]}},
        {"index": 1, "content": {"parts": [{"text": "B"}]}, "finishReason": "MAX_TOKENS"}
    ]});
    let answer = folded(events(&gemini(), false, body.to_string().as_bytes()));
    assert_eq!((answer.choices[0].text(), answer.choices[1].text()), ("A".into(), "B".into()));
    let scores = answer.choices[0].scores.as_ref().unwrap();
    assert_eq!((scores[0].logprob, scores[0].top[1].text.as_str()), (Some(-0.5), "B"));
    let far = json!({"candidates": [{"index": 5000, "finishReason": "STOP"}]});
    let (_, end) = read(&gemini(), false, &[far.to_string().as_bytes()]);
    assert!(matches!(end, Err(BadAnswer::Malformed(_))));
}

#[test]
fn what_no_answer_can_carry_is_not_dropped_in_silence() {
    let picture = said(json!([{"inlineData": {"mimeType": "image/png", "data": "iVBOR"}}]));
    let pieces = said(
        json!([{"functionCall": {"name": "a", "partialArgs": [{"jsonPath": "$.x"}], "willContinue": true}}]),
    );
    for chunk in [picture, pieces] {
        assert!(matches!(end(&sse(&[chunk, finished("STOP")])), Err(BadAnswer::Malformed(_))));
    }
    // What Google's own tools did is no part of the answer.
    let code = said(
        json!([{"executableCode": {"language": "PYTHON", "code": "1+1"}}, {"codeExecutionResult": {"outcome": "OUTCOME_OK"}}]),
    );
    assert_eq!(end(&sse(&[code, finished("STOP")])), Ok(FinishReason::Stop));
}

#[test]
fn a_complaint_about_an_answer_does_not_repeat_it() {
    let body = sse(&[json!({"candidates": [{"content": {"parts": "my secret"}}]})]);
    let (_, end) = read(&gemini(), true, &[&body]);
    assert!(!end.unwrap_err().to_string().contains("secret"));
}

#[test]
fn memory_is_bounded_whatever_comes() {
    for (is_stream, opening) in [(true, &b"data: "[..]), (true, b"[{\"a\":\""), (false, b"{\"a\":\"")] {
        let mut reader = gemini().reader(is_stream);
        let mut events = Vec::new();
        reader.feed(opening, &mut events).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..40).find_map(|_| reader.feed(&piece, &mut events).err());
        assert!(matches!(refused, Some(BadAnswer::TooLarge(_))), "{refused:?}");
    }
}

/// A piece of an answer, as Gemini and as we would say it.
fn piece() -> impl Strategy<Value = (Value, Part)> {
    let text = "[a-zé\"\\\\\\n{}\\[\\]]{1,12}";
    let proof = prop::option::of("[A-Za-z0-9+/]{4}");
    prop_oneof![
        text.prop_map(|text| (json!({"text": text}), Part::text(text))),
        (text, proof.clone()).prop_map(|(text, proof)| {
            let mut said = json!({"text": text, "thought": true});
            proof.iter().for_each(|proof| said["thoughtSignature"] = json!(proof));
            let proof = proof.map(|proof| format!("{PROOF_MARK}{proof}"));
            (said, Part::Reasoning(Reasoning { text, proof, id: None }))
        }),
        ("[a-z]{1,5}", "[a-z0-9]{1,8}", text, proof).prop_map(|(name, id, value, proof)| {
            let arguments = json!({"x": value});
            let mut said = json!({"functionCall": {"name": name, "id": id, "args": arguments}});
            proof.iter().for_each(|proof| said["thoughtSignature"] = json!(proof));
            (said, Part::ToolCall(ToolCall { id, name, arguments: arguments.to_string(), proof }))
        }),
    ]
}

/// Returns the parts as folding joins them: text to text, and thoughts until their proof.
fn joined(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(Part::Text { text, .. }), Part::Text { text: more, .. }) => text.push_str(&more),
            (Some(Part::Reasoning(known)), Part::Reasoning(more)) if known.proof.is_none() => {
                known.text.push_str(&more.text);
                known.proof = more.proof;
            }
            (_, part) => joined.push(part),
        }
    }
    joined
}

proptest! {
    #[test]
    fn whatever_is_said_is_read_wherever_it_is_cut(
        pieces in prop::collection::vec(piece(), 0..12),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        is_array in any::<bool>(),
    ) {
        let mut chunks: Vec<Value> = pieces.iter().map(|(said_so, _)| said(json!([said_so]))).collect();
        chunks.push(finished("STOP"));
        let body = if is_array { Value::from(chunks).to_string().into_bytes() } else { sse(&chunks) };
        let (events, end) = read(&gemini(), true, &cut(&body, &cuts));
        prop_assert_eq!(end, Ok(()));
        let choice = folded(events).choices.remove(0);
        let expected = joined(pieces.into_iter().map(|(_, part)| part));
        let has_called = expected.iter().any(|part| matches!(part, Part::ToolCall(_)));
        prop_assert_eq!(choice.parts, expected);
        let reason = if has_called { FinishReason::ToolCalls } else { FinishReason::Stop };
        prop_assert_eq!(choice.finish, Some(Finish::of(reason)));
    }

    #[test]
    fn no_count_makes_a_sum_panic(counts in prop::collection::vec(prop::option::of(any::<u64>()), 6)) {
        let names = ["promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount", "totalTokenCount"];
        let usage: serde_json::Map<String, Value> = names.iter().zip(counts).map(|(name, count)| (name.to_string(), json!(count))).collect();
        let body = sse(&[json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage})]);
        let report = folded(events(&gemini(), true, &body)).report;
        prop_assert!(report.is_none_or(|report| report.usage.total() < 1 << 50));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        place in any::<usize>(),
        is_stream in any::<bool>(),
    ) {
        let _ = read(&gemini(), is_stream, &cut(&bytes, &[place]));
        // A good body with some bytes replaced gets further in.
        let mut body = STREAM.to_vec();
        let begin = place % body.len();
        for (known, byte) in body[begin..].iter_mut().zip(bytes.iter().take(3)) {
            *known = *byte;
        }
        let _ = read(&gemini(), is_stream, &[&body]);
    }
}
