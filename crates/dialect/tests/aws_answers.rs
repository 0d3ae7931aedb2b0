//! Is whatever Converse answers read as what it says, wherever its frames are cut?

mod reading;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use dialect::aws::Converse;
use dialect::{BadAnswer, FaultKind};
use domain::{
    AnswerEvent, Delta, Finish, FinishReason, Part, Reasoning, ServiceTier, ToolCall, Usage, UsageReport,
};
use proptest::prelude::*;
use reading::{cut, events, folded, read};
use serde_json::{Value, json};

/// Framed by hand and checked with AWS's own Python reader.
const STREAM: &[u8] = include_bytes!("corpus/aws/tools.eventstream");
const THROTTLED: &[u8] = include_bytes!("corpus/aws/throttled.eventstream");
const ERROR: &[u8] = include_bytes!("corpus/aws/error.eventstream");
const WHOLE: &[u8] = include_bytes!("corpus/aws/whole.json");

fn delta(delta: Delta) -> AnswerEvent {
    AnswerEvent::Delta { choice: 0, delta }
}

fn framed(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let header = |(name, value): &(&str, &str)| {
        Header::new(name.to_string(), HeaderValue::String(value.to_string().into()))
    };
    let message = Message::new_from_parts(headers.iter().map(header).collect(), payload.to_vec());
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).unwrap();
    bytes
}

fn event(name: &str, payload: Value) -> Vec<u8> {
    framed(&[(":event-type", name), (":message-type", "event")], payload.to_string().as_bytes())
}

fn stream(events: &[(&str, Value)]) -> Vec<u8> {
    events.iter().flat_map(|(name, payload)| event(name, payload.clone())).collect()
}

fn used() -> UsageReport {
    let usage = Usage {
        input_uncached: 12,
        cache_read: 1500,
        cache_write_5m: 40,
        cache_write_1h: 60,
        output: 58,
        ..Usage::default()
    };
    UsageReport { usage, service_tier: Some(ServiceTier::Flex) }
}

#[test]
fn thoughts_text_and_calls_are_told_in_their_order() {
    let call = |index, id: &str, name: &str| {
        delta(Delta::ToolCall { index, id: id.into(), name: name.into(), proof: None })
    };
    let arguments = |index, json: &str| delta(Delta::Arguments { index, json: json.into() });
    let expected = [
        AnswerEvent::Began { id: None, model: None },
        delta(Delta::Reasoning("Two cities, ".into())),
        delta(Delta::Reasoning("two calls.".into())),
        delta(Delta::ReasoningProof { proof: Some("EpMCsig==".into()), id: None }),
        delta(Delta::Text("Let me ".into())),
        delta(Delta::Text("look: é".into())),
        call(0, "tooluse_a1", "weather"),
        arguments(0, "{\"city\":"),
        arguments(0, "\"Oslo\"}"),
        call(1, "tooluse_a2", "now"),
        arguments(1, "{}"),
        AnswerEvent::Finished { choice: 0, finish: Finish::of(FinishReason::ToolCalls) },
        AnswerEvent::Used(used()),
    ];
    assert_eq!(events(&Converse, true, STREAM), expected);
}

#[test]
fn an_answer_is_the_same_whole_and_in_frames() {
    assert_eq!(folded(events(&Converse, false, WHOLE)), folded(events(&Converse, true, STREAM)));
}

#[test]
fn an_answer_is_the_same_wherever_it_is_cut_in_two() {
    for (is_stream, body) in [(true, STREAM), (false, WHOLE)] {
        let expected = events(&Converse, is_stream, body);
        for place in 0..=body.len() {
            let (events, end) = read(&Converse, is_stream, &[&body[..place], &body[place..]]);
            assert_eq!((events, end), (expected.clone(), Ok(())), "cut at {place}");
        }
    }
}

#[test]
fn half_an_answer_is_never_taken_for_a_whole_one() {
    let length = |begin: usize| u32::from_be_bytes(STREAM[begin..begin + 4].try_into().unwrap()) as usize;
    let begins = std::iter::successors(Some(0), |begin| {
        Some(begin + length(*begin)).filter(|next| *next < STREAM.len())
    });
    let usage_begins = begins.last().unwrap();
    for place in 0..STREAM.len() {
        let (_, end) = read(&Converse, true, &[&STREAM[..place]]);
        // Between the answer's end and its usage nothing of the answer is missing.
        let expected = if place == usage_begins { Ok(()) } else { Err(BadAnswer::Unfinished) };
        assert_eq!(end, expected, "ended at {place}");
    }
    for place in 0..WHOLE.trim_ascii_end().len() {
        let (_, end) = read(&Converse, false, &[&WHOLE[..place]]);
        assert_eq!(end, Err(BadAnswer::Unfinished), "ended at {place}");
    }
}

#[test]
fn a_flipped_bit_is_seen() {
    for place in 0..STREAM.len() {
        let mut body = STREAM.to_vec();
        body[place] ^= 0x10;
        let (_, end) = read(&Converse, true, &[&body]);
        assert!(end.is_err(), "flipped at {place}");
    }
}

#[test]
fn an_exception_amid_a_stream_is_a_fault_with_its_own_kind() {
    let (events, end) = read(&Converse, true, &[THROTTLED]);
    let Err(BadAnswer::Fault(fault)) = end else { panic!("{end:?}") };
    assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::RateLimited, Some("ThrottlingException")));
    assert_eq!(folded(events).choices[0].text(), "Half");
    let (_, end) = read(&Converse, true, &[ERROR]);
    let Err(BadAnswer::Fault(fault)) = end else { panic!("{end:?}") };
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Server, "An internal error"));
    for (name, kind) in [
        ("internalServerException", FaultKind::Server),
        ("modelStreamErrorException", FaultKind::Server),
        ("validationException", FaultKind::BadRequest),
        ("serviceUnavailableException", FaultKind::Overloaded),
        ("modelTimeoutException", FaultKind::Timeout),
        ("somethingNewException", FaultKind::Server),
    ] {
        let body =
            framed(&[(":exception-type", name), (":message-type", "exception")], b"{\"message\":\"m\"}");
        let (_, end) = read(&Converse, true, &[&body]);
        let Err(BadAnswer::Fault(fault)) = end else { panic!("{end:?}") };
        assert_eq!(fault.kind, kind, "{name}");
    }
}

#[test]
fn each_reason_is_an_end_or_a_fault() {
    let end = |reason: &str| {
        let usage = json!({"usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4}});
        let body = stream(&[
            ("messageStart", json!({"role": "assistant"})),
            ("messageStop", json!({"stopReason": reason})),
            ("metadata", usage),
        ]);
        let (events, end) = read(&Converse, true, &[&body]);
        let answer = folded(events);
        assert_eq!(answer.report.unwrap().usage.input_uncached, 3, "usage is known of failures, too");
        end.map(|()| answer.choices[0].finish.clone().unwrap().reason)
    };
    for (reason, expected) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("tool_use", FinishReason::ToolCalls),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("guardrail_intervened", FinishReason::ContentFilter),
        ("content_filtered", FinishReason::ContentFilter),
        ("something_new", FinishReason::ContentFilter),
    ] {
        assert_eq!(end(reason), Ok(expected));
    }
    for reason in ["malformed_tool_use", "malformed_model_output"] {
        let Err(BadAnswer::Fault(fault)) = end(reason) else { panic!("{reason}") };
        assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Server, Some(reason)));
    }
}

#[test]
fn the_stop_string_is_told_where_the_model_tells_it() {
    let stop =
        json!({"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "END"}});
    let answer = folded(events(&Converse, true, &stream(&[("messageStop", stop)])));
    assert_eq!(
        answer.choices[0].finish,
        Some(Finish { reason: FinishReason::Stop, stop: Some("END".into()) })
    );
}

#[test]
fn what_the_provider_s_own_tools_do_is_no_part_of_the_answer() {
    let body = stream(&[
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "s", "name": "nova_grounding", "type": "server_tool_use"}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{\"q\":1}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("contentBlockStart", json!({"contentBlockIndex": 1, "start": {"toolResult": {"toolUseId": "s"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"toolResult": [{"text": "found"}]}})),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"text": "Yes."}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"citation": {"title": "t"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 2})),
        ("aNewEvent", json!({"x": 1})),
        ("messageStop", json!({"stopReason": "end_turn"})),
    ]);
    assert_eq!(folded(events(&Converse, true, &body)).choices[0].parts, [Part::text("Yes.")]);
}

#[test]
fn blocks_that_make_no_sense_are_refused() {
    let piece = |delta: Value| ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": delta}));
    for pieces in [
        vec![piece(json!({"toolUse": {"input": "{}"}}))],
        vec![piece(json!({"text": "a"})), piece(json!({"toolUse": {"input": "{}"}}))],
        vec![piece(json!({"text": "a"})), piece(json!({"reasoningContent": {"text": "b"}}))],
        vec![("contentBlockStart", json!({"contentBlockIndex": 0, "start": {"image": {"format": "png"}}}))],
    ] {
        let (_, end) = read(&Converse, true, &[&stream(&pieces)]);
        assert!(matches!(end, Err(BadAnswer::Malformed(_))), "{end:?}");
    }
    for headers in [&[][..], &[(":message-type", "event")], &[(":message-type", "other")]] {
        let (_, end) = read(&Converse, true, &[&framed(headers, b"{}")]);
        assert!(matches!(end, Err(BadAnswer::Malformed(_))), "{end:?}");
    }
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let (_, end) = read(&Converse, true, &[&u32::MAX.to_be_bytes()]);
    assert!(matches!(end, Err(BadAnswer::TooLarge(_))));
    let mut reader = dialect::Upstream::reader(&Converse, false);
    let piece = vec![b' '; 1 << 20];
    let refused = (0..40).find_map(|_| reader.feed(&piece, &mut Vec::new()).err());
    assert!(matches!(refused, Some(BadAnswer::TooLarge(_))));
    // Blocks that begin and never end.
    let blocks: Vec<u8> = (0..2000)
        .flat_map(|number| {
            event("contentBlockDelta", json!({"contentBlockIndex": number, "delta": {"text": "a"}}))
        })
        .collect();
    let (_, end) = read(&Converse, true, &[&blocks]);
    assert!(matches!(end, Err(BadAnswer::Malformed(_))));
}

/// A block of an answer: its events but for their numbers, and as we would say it.
fn block() -> impl Strategy<Value = (Vec<(&'static str, Value)>, Part)> {
    let text = || prop::collection::vec("[a-zé\"\\\\\\n]{1,8}", 1..4);
    let delta = |piece: Value| ("contentBlockDelta", json!({"delta": piece}));
    prop_oneof![
        text().prop_map(move |pieces| {
            let events = pieces.iter().map(|text| delta(json!({"text": text}))).collect();
            (events, Part::text(pieces.concat()))
        }),
        (text(), prop::option::of("[A-Za-z0-9+/]{4}")).prop_map(move |(pieces, proof)| {
            let texts = pieces.iter().map(|text| delta(json!({"reasoningContent": {"text": text}})));
            let signature =
                proof.iter().map(|proof| delta(json!({"reasoningContent": {"signature": proof}})));
            let events = texts.chain(signature).collect();
            (events, Part::Reasoning(Reasoning { text: pieces.concat(), proof, id: None }))
        }),
        ("[a-z]{1,5}", "[a-z0-9]{1,8}", text()).prop_map(move |(name, id, pieces)| {
            let start = ("contentBlockStart", json!({"start": {"toolUse": {"toolUseId": id, "name": name}}}));
            let inputs = pieces.iter().map(|piece| delta(json!({"toolUse": {"input": piece}})));
            let events = std::iter::once(start).chain(inputs).collect();
            (events, Part::ToolCall(ToolCall { id, name, arguments: pieces.concat(), proof: None }))
        }),
        "[A-Za-z0-9]{8}".prop_map(move |sealed| {
            (
                vec![delta(json!({"reasoningContent": {"redactedContent": sealed}}))],
                Part::SealedReasoning(sealed),
            )
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_is_said_is_read_wherever_its_frames_are_cut(
        blocks in prop::collection::vec(block(), 0..8),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut body = event("messageStart", json!({"role": "assistant"}));
        let mut expected: Vec<Part> = Vec::new();
        for (number, (events, part)) in blocks.into_iter().enumerate() {
            for (name, mut payload) in events {
                payload["contentBlockIndex"] = json!(number);
                body.extend(event(name, payload));
            }
            body.extend(event("contentBlockStop", json!({"contentBlockIndex": number})));
            // Two blocks of text are one text.
            match (expected.last_mut(), part) {
                (Some(Part::Text { text, .. }), Part::Text { text: more, .. }) => text.push_str(&more),
                (_, part) => expected.push(part),
            }
        }
        body.extend(event("messageStop", json!({"stopReason": "end_turn"})));
        let (events, end) = read(&Converse, true, &cut(&body, &cuts));
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(&folded(events).choices[0].parts, &expected);
    }

    #[test]
    fn no_count_makes_a_sum_panic(counts in prop::collection::vec(prop::option::of(any::<u64>()), 6)) {
        let usage = json!({"inputTokens": counts[0], "outputTokens": counts[1], "cacheReadInputTokens": counts[2],
            "cacheWriteInputTokens": counts[3], "cacheDetails": [{"ttl": "1h", "inputTokens": counts[4]}, {"ttl": "5m", "inputTokens": counts[5]}]});
        let body = stream(&[("messageStop", json!({"stopReason": "end_turn"})), ("metadata", json!({"usage": usage}))]);
        let report = folded(events(&Converse, true, &body)).report;
        prop_assert!(report.is_none_or(|report| report.usage.total() < 1 << 50));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        place in any::<usize>(),
        is_stream in any::<bool>(),
    ) {
        let _ = read(&Converse, is_stream, &cut(&bytes, &[place]));
        // A frame with good checksums gets further in: any headers, any payload.
        let headers = bytes.len() / 2;
        let _ = read(&Converse, true, &[&checked(&bytes[..headers], &bytes[headers..])]);
        let _ = read(&Converse, true, &[&framed(&[(":event-type", "contentBlockDelta"), (":message-type", "event")], &bytes)]);
    }
}

/// Returns a frame whose checksums are right, whatever its headers are.
fn checked(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + headers.len() + payload.len()).unwrap();
    let mut frame = [length.to_be_bytes(), u32::try_from(headers.len()).unwrap().to_be_bytes()].concat();
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend_from_slice(headers);
    frame.extend_from_slice(payload);
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    };
    !bytes.iter().fold(!0, step)
}
