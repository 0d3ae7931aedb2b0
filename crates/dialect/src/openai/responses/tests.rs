//! What clients of the Responses API send and get, as whole messages.

use proptest::prelude::*;
use serde_json::{Value, json};

use domain::{
    Answer, AnswerEvent, AnswerFormat, AnsweredChoice, Delta, Finish, FinishReason, MediaKind, MediaSource,
    Part, Reasoning, ServiceTier, Tool, ToolCall, ToolChoice, Usage,
};

use super::*;
use crate::sse::Splitter;
use crate::{BadAnswer, BadRequest, FaultKind, Heard, Target, Trouble, TroubleKind, Upstream};

fn request(fields: Value) -> Vec<u8> {
    let mut request = json!({"model": "m", "input": "hi"});
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request.to_string().into_bytes()
}

fn heard(fields: Value) -> (Heard, Continuation) {
    read(&request(fields)).unwrap()
}

fn refused(fields: Value) -> BadRequest {
    match read(&request(fields)) {
        Err(refused) => refused,
        Ok((heard, _)) => panic!("{:?} was accepted", heard.ask),
    }
}

fn chat(heard: &Heard) -> &domain::Chat {
    match &heard.ask.input {
        Input::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn head() -> Head {
    Head { id: "resp_1".into(), created: 7, model: "m".into(), system_fingerprint: None }
}

fn folded<'a>(is_stream: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Answer, BadAnswer> {
    let mut reader = ResponsesUpstream::default().reader(is_stream);
    let mut events = Vec::new();
    pieces.into_iter().try_for_each(|piece| reader.feed(piece, &mut events))?;
    reader.end(&mut events)?;
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    Ok(answer)
}

fn streamed(answer: &Answer, form: &dyn Form) -> Vec<u8> {
    let mut writer = form.writer(head(), 1);
    let mut bytes = writer.open();
    for event in answer.events() {
        match event {
            AnswerEvent::Delta { choice, delta } => bytes.extend(writer.delta(choice, &[delta])),
            AnswerEvent::Finished { choice, finish } => bytes.extend(writer.finish(choice, &finish)),
            AnswerEvent::Began { .. } | AnswerEvent::Used(_) => {}
        }
    }
    bytes.extend(writer.end(&answer.report.clone().unwrap_or_default()));
    bytes
}

fn events_of(stream: &[u8]) -> Vec<Value> {
    let events = Splitter::new(1 << 20).feed(stream).unwrap();
    let read = |event: &crate::sse::Event| {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["type"], *event.name);
        data
    };
    events.iter().map(read).collect()
}

fn answer(parts: Vec<Part>, reason: FinishReason) -> Answer {
    let usage = Usage { input_uncached: 3, cache_read: 4, output: 5, reasoning: 2, ..Usage::default() };
    let mut choice = AnsweredChoice::default();
    (choice.parts, choice.finish) = (parts, Some(Finish::of(reason)));
    let report = Some(UsageReport { usage, service_tier: Some(ServiceTier::Standard) });
    Answer { choices: vec![choice], report, ..Answer::default() }
}

#[test]
fn a_text_is_a_users_message_and_instructions_stand_before_it() {
    let (heard, continuation) = heard(json!({"instructions": "be brief", "max_output_tokens": 9}));
    let said: Vec<_> = chat(&heard).messages.iter().map(|message| (message.role, message.text())).collect();
    assert_eq!(said, [(Role::System, "be brief".to_owned()), (Role::User, "hi".to_owned())]);
    assert_eq!(heard.ask.max_output_tokens, Some(9));
    assert!(continuation.store && heard.ignored.is_empty(), "{:?}", heard.ignored);
}

#[test]
fn what_the_model_said_in_one_turn_is_one_message_again() {
    let (heard, _) = heard(json!({"input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            {"type": "input_file", "file_id": "file-1"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "E"},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "fc_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "done"}]},
    ]}));
    let messages = &chat(&heard).messages;
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Assistant, Role::Tool]);
    let media: Vec<_> = messages[0].media().map(|media| (media.kind, &media.source)).collect();
    let inline = MediaSource::Inline { media_type: "image/png".into(), data: "AAAA".into() };
    let file = MediaSource::File("file-1".into());
    assert_eq!(media, [(MediaKind::Image, &inline), (MediaKind::Document, &file)]);
    let thought = Reasoning { text: "hm".into(), proof: Some("E".into()), id: Some("rs_1".into()) };
    assert_eq!(messages[1].parts[0], Part::Reasoning(thought));
    assert_eq!(messages[1].tool_calls().map(|call| &*call.id).collect::<Vec<_>>(), ["c1"]);
    assert_eq!((messages[2].tool_call_id.as_deref(), messages[2].text()), (Some("c1"), "a cat".into()));
    assert_eq!(messages[4].text(), "done");
}

#[test]
fn tools_formats_and_wishes_are_read() {
    let (heard, _) = heard(json!({
        "tools": [
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true},
            {"type": "function", "name": "g", "parameters": {"type": "object"}},
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
        "reasoning": {"effort": "high", "summary": "auto"}, "service_tier": "flex", "prompt_cache_key": "k",
        "include": ["message.output_text.logprobs"], "top_logprobs": 2, "truncation": "auto",
    }));
    let chat = chat(&heard);
    assert_eq!(chat.tools.iter().map(Tool::name).collect::<Vec<_>>(), [Some("f"), None]);
    assert_eq!(chat.tool_choice, ToolChoice::Required);
    assert!(matches!(&chat.format, AnswerFormat::JsonSchema { name, strict: None, .. } if name == "n"));
    assert_eq!(chat.reasoning.as_ref().unwrap().effort.as_deref(), Some("high"));
    assert_eq!((heard.ask.service_tier, heard.ask.logprobs), (Some(ServiceTier::Flex), Some(2)));
    assert_eq!(heard.ignored, ["include", "truncation"]);
}

#[test]
fn each_wrong_parameter_is_named() {
    let rows = [
        (json!({"input": null}), "input", "missing_required_parameter"),
        (json!({"input": []}), "input", "empty_array"),
        (json!({"input": 5}), "input", "invalid_type"),
        (json!({"input": ["x"]}), "input[0]", "invalid_type"),
        (json!({"input": [{"type": "smell"}]}), "input[0].type", "invalid_value"),
        (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0]", "unsupported_item"),
        (json!({"input": [{"role": "tool", "content": "x"}]}), "input[0].role", "invalid_value"),
        (json!({"input": [{"role": "user"}]}), "input[0].content", "missing_required_parameter"),
        (
            json!({"input": [{"type": "function_call_output", "output": "x"}]}),
            "input[0].call_id",
            "missing_required_parameter",
        ),
        (json!({"background": true}), "background", "unsupported_parameter"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt", "unsupported_parameter"),
        (
            json!({"previous_response_id": "a", "conversation": "b"}),
            "conversation",
            "invalid_parameter_combination",
        ),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type", "invalid_value"),
        (json!({"tools": [{"name": "x"}]}), "tools[0].type", "missing_required_parameter"),
        (json!({"tool_choice": "maybe"}), "tool_choice", "invalid_value"),
        (json!({"max_output_tokens": 0}), "max_output_tokens", "integer_below_min_value"),
    ];
    for (fields, param, code) in rows {
        let error = refused(fields.clone());
        let said = (error.param.as_deref(), error.code.as_deref());
        assert_eq!(said, (Some(param), Some(code)), "{fields}: {error}");
    }
}

#[test]
fn a_turn_goes_on_from_earlier_ones_behind_its_own_instructions() {
    let fields = json!({"instructions": "new rules", "previous_response_id": "resp_0", "input": "and now?"});
    let (mut heard, continuation) = heard(fields);
    assert_eq!(continuation.previous_response_id.as_deref(), Some("resp_0"));
    let turn = continuation.turn(&heard.ask, &answer(vec![Part::text("Now this.")], FinishReason::Stop));
    assert_eq!(turn.iter().map(ChatMessage::text).collect::<Vec<_>>(), ["and now?", "Now this."]);
    let earlier = [(Role::User, "hi"), (Role::Assistant, "hello")];
    let earlier = earlier.map(|(role, text)| ChatMessage::of_text(role, text)).to_vec();
    continuation.go_on_from(&mut heard.ask, earlier);
    let said: Vec<String> = chat(&heard).messages.iter().map(ChatMessage::text).collect();
    assert_eq!(said, ["new rules", "hi", "hello", "and now?"]);
}

#[test]
fn a_whole_response_reads_as_openai_writes_it() {
    let thought = Reasoning { text: "hm".into(), proof: Some("E".into()), id: None };
    let call = ToolCall { id: "c1".into(), name: "f".into(), arguments: "{}".into(), proof: None };
    let answer = answer(
        vec![Part::Reasoning(thought), Part::text("Hi"), Part::ToolCall(call)],
        FinishReason::ToolCalls,
    );
    let (heard, _) = heard(json!({"temperature": 0.5, "metadata": {"a": "b"}}));
    let report = answer.report.clone().unwrap();
    let written: Value = serde_json::from_slice(&heard.form.whole(&head(), &answer, &report)).unwrap();
    assert_eq!(
        written["output"],
        json!([
            {"id": "rsn_1_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "E"},
            {"id": "msg_1_1", "type": "message", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hi"}]},
            {"id": "fc_1_2", "type": "function_call", "status": "completed", "call_id": "c1", "name": "f", "arguments": "{}"},
        ])
    );
    assert_eq!(
        written["usage"],
        json!({
            "input_tokens": 7, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 12,
        })
    );
    for (name, value) in [
        ("id", json!("resp_1")),
        ("object", json!("response")),
        ("created_at", json!(7)),
        ("status", json!("completed")),
        ("model", json!("m")),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("temperature", json!(0.5)),
        ("metadata", json!({"a": "b"})),
        ("service_tier", json!("default")),
        ("tool_choice", json!("auto")),
        ("store", json!(true)),
    ] {
        assert_eq!(written[name], value, "{name}");
    }
}

#[test]
fn an_answer_that_was_cut_says_why() {
    for (reason, word) in [
        (FinishReason::Length, "max_output_tokens"),
        (FinishReason::ContentFilter, "content_filter"),
        (FinishReason::BudgetExhausted, "budget_exhausted"),
    ] {
        let answer = answer(vec![Part::text("Hal")], reason);
        let stream = streamed(&answer, &ResponsesForm::default());
        let last = events_of(&stream).pop().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        assert_eq!(last["response"]["incomplete_details"]["reason"], word);
        assert_eq!(last["response"]["output"][0]["status"], "incomplete");
        assert_eq!(folded(true, [&*stream]).unwrap().choices[0].finish, Some(Finish::of(reason)));
    }
}

#[test]
fn every_item_and_part_is_opened_filled_and_closed_in_order() {
    let mut writer = ResponsesForm::default().writer(head(), 1);
    let mut bytes = writer.open();
    let call = |index, id: &str| Delta::ToolCall { index, id: id.into(), name: "f".into(), proof: None };
    let arguments = |index, json: &str| Delta::Arguments { index, json: json.into() };
    for delta in [
        Delta::Reasoning("h".into()),
        Delta::Reasoning("m".into()),
        Delta::Text("H".into()),
        Delta::Text("i".into()),
        call(0, "a"),
        arguments(0, "{"),
        call(1, "b"),
        arguments(1, "{}"),
        arguments(0, "}"),
    ] {
        bytes.extend(writer.delta(0, &[delta]));
    }
    bytes.extend(writer.finish(0, &Finish::of(FinishReason::ToolCalls)));
    bytes.extend(writer.end(&UsageReport::default()));
    let events = events_of(&bytes);
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let said: Vec<String> = events
        .iter()
        .map(|event| {
            let kind = event["type"].as_str().unwrap().trim_start_matches("response.");
            event["output_index"].as_u64().map_or(kind.to_owned(), |place| format!("{place} {kind}"))
        })
        .collect();
    assert_eq!(
        said,
        [
            "created",
            "in_progress",
            "0 output_item.added",
            "0 reasoning_summary_part.added",
            "0 reasoning_summary_text.delta",
            "0 reasoning_summary_text.delta",
            "0 reasoning_summary_text.done",
            "0 reasoning_summary_part.done",
            "0 output_item.done",
            "1 output_item.added",
            "1 content_part.added",
            "1 output_text.delta",
            "1 output_text.delta",
            "1 output_text.done",
            "1 content_part.done",
            "1 output_item.done",
            "2 output_item.added",
            "2 function_call_arguments.delta",
            "3 output_item.added",
            "3 function_call_arguments.delta",
            "2 function_call_arguments.delta",
            "2 function_call_arguments.done",
            "2 output_item.done",
            "3 function_call_arguments.done",
            "3 output_item.done",
            "completed",
        ]
    );
    let done: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
    let output = events.last().unwrap()["response"]["output"].as_array().unwrap();
    assert!(
        done.iter().all(|event| event["item"] == output[event["output_index"].as_u64().unwrap() as usize])
    );
    assert_eq!(output[2]["arguments"], "{}");
}

#[test]
fn a_broken_response_fails_and_never_completes() {
    let mut writer = ResponsesForm::default().writer(head(), 1);
    let mut bytes = writer.open();
    bytes.extend(writer.delta(0, &[Delta::Text("Hal".into())]));
    bytes.extend(writer.broken(&Trouble::new(TroubleKind::ServerError, "the engine failed")));
    let last = events_of(&bytes).pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(last["response"]["error"], json!({"code": "server_error", "message": "the engine failed"}));
    let Err(BadAnswer::Fault(fault)) = folded(true, [&*bytes]) else { panic!("a fault") };
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Server, "the engine failed"));
}

#[test]
fn a_stream_is_good_only_when_it_says_so_itself() {
    let data = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    let created = data(
        json!({"type": "response.created", "response": {"id": "resp_x", "model": "g", "status": "in_progress"}}),
    );
    let text = data(json!({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"}));
    let unfinished = created.clone() + &text + "data: [DONE]\n\n";
    assert_eq!(folded(true, [unfinished.as_bytes()]), Err(BadAnswer::Unfinished));
    let failed = data(json!({"type": "response.failed", "response": {"status": "failed", "usage": null,
        "error": {"code": "rate_limit_exceeded", "message": "slow down"}}}));
    let Err(BadAnswer::Fault(fault)) = folded(true, [(created.clone() + &text + &failed).as_bytes()]) else {
        panic!("a fault");
    };
    assert_eq!(fault.kind, FaultKind::RateLimited);
    let error = data(json!({"type": "error", "code": "server_error", "message": "oh", "param": null}));
    let Err(BadAnswer::Fault(fault)) = folded(true, [(created.clone() + &error).as_bytes()]) else {
        panic!("a fault");
    };
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Server, "oh"));
    // A server without deltas: what only the end says is said then.
    let completed = data(json!({"type": "response.completed", "response": {"status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
                   {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
        "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                  "output_tokens": 0, "total_tokens": 9}}}));
    for begin in [created.clone(), created + &text] {
        let answer = folded(true, [(begin + &completed).as_bytes()]).unwrap();
        assert_eq!(answer.choices[0].text(), "Hi");
        assert_eq!(answer.choices[0].tool_calls().count(), 1);
        assert_eq!(answer.choices[0].finish, Some(Finish::of(FinishReason::ToolCalls)));
        let usage = Usage { input_uncached: 3, cache_read: 4, cache_write_5m: 2, ..Usage::default() };
        assert_eq!(answer.report.unwrap().usage, usage);
    }
}

#[test]
fn what_is_kept_here_is_not_asked_for_elsewhere() {
    let upstream = ResponsesUpstream::default();
    let target = Target { model: "gpt", stream: true };
    let passed =
        upstream.passed(&request(json!({"stream": true, "odd": {"b": 1.0, "a": 2}})), &target).unwrap();
    assert_eq!(passed.path, "/responses");
    assert_eq!(
        String::from_utf8(passed.body).unwrap(),
        r#"{"model":"gpt","input":"hi","odd":{"b":1.0,"a":2},"stream":true}"#
    );
    let refused = upstream.passed(&request(json!({"previous_response_id": "resp_0"})), &target).unwrap_err();
    assert_eq!(refused.what, "previous_response_id");
    let (mut heard, _) = heard(json!({}));
    heard.ask.stop = vec!["END".into()];
    assert_eq!(upstream.request(&heard.ask, &target).unwrap_err().what, "stop");
}

#[test]
fn an_ask_that_is_written_for_an_upstream_reads_back_as_itself() {
    let (heard, _) = heard(json!({
        "instructions": "be brief",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "E"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me."},
                {"type": "refusal", "refusal": "No."}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\": 1.0}"},
            {"type": "function_call_output", "call_id": "c1", "output": "42"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "y"},
        ],
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": false},
                  {"type": "custom", "name": "p"}, {"type": "web_search"}],
        "tool_choice": {"type": "custom", "name": "p"}, "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "n", "description": "d", "schema": {"a": 1}, "strict": true}},
        "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 7, "temperature": 0.7, "top_p": 0.1,
        "top_logprobs": 3, "user": "u", "service_tier": "priority", "prompt_cache_key": "k", "stream": true,
    }));
    let upstream = ResponsesUpstream::default();
    let request = upstream.request(&heard.ask, &Target { model: "m", stream: true }).unwrap();
    let (again, continuation) = read(&request.body).unwrap();
    assert_eq!(again.ask, heard.ask);
    assert!(!continuation.store, "nothing is kept there");
    assert_eq!(again.ignored, ["include"]);
}

/// Parts as a response has them.
fn any_answer() -> impl Strategy<Value = Answer> {
    let proof = || prop::option::of("[a-z]{1,3}");
    let part = prop_oneof![
        "\\PC{1,6}".prop_map(Part::text),
        "\\PC{1,6}".prop_map(Part::Refusal),
        ("\\PC{1,6}", proof()).prop_map(|(text, proof)| Part::Reasoning(Reasoning { text, proof, id: None })),
        ("[a-z]{1,3}").prop_map(|id| {
            Part::Reasoning(Reasoning {
                text: String::new(),
                proof: Some("p".into()),
                id: Some(format!("rs_{id}")),
            })
        }),
        "[a-z]{1,4}".prop_map(Part::SealedReasoning),
        ("[a-z]{1,4}", "\\PC{1,8}", any::<bool>()).prop_map(|(name, arguments, is_custom)| {
            let proof = is_custom.then(|| output::CUSTOM.to_owned());
            Part::ToolCall(ToolCall { id: format!("call_{name}"), name, arguments, proof })
        }),
    ];
    (prop::collection::vec(part, 0..7), any::<bool>()).prop_map(|(parts, is_cut)| {
        let has_calls = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        let reason = match (is_cut, has_calls) {
            (true, _) => FinishReason::Length,
            (false, true) => FinishReason::ToolCalls,
            (false, false) => FinishReason::Stop,
        };
        // Texts that stand together are one text.
        let mut answer = answer(Vec::new(), reason);
        let mut choice = AnsweredChoice::default();
        choice.parts = parts;
        let whole = Answer { choices: vec![choice], ..Answer::default() };
        whole.events().into_iter().for_each(|event| answer.fold(event));
        answer
    })
}

fn parts(answer: &Answer) -> Vec<Part> {
    answer.choices.first().map(|choice| choice.parts.clone()).unwrap_or_default()
}

proptest! {
    #[test]
    fn an_answer_is_the_same_written_whole_or_streamed_and_read_back_however_it_is_cut(
        answer in any_answer(),
        piece_bytes in 1usize..200,
    ) {
        let form = ResponsesForm::default();
        let stream = streamed(&answer, &form);
        let report = answer.report.clone().unwrap();
        let whole = form.whole(&head(), &answer, &report);
        for read in [folded(true, stream.chunks(piece_bytes)).unwrap(), folded(false, whole.chunks(piece_bytes)).unwrap()] {
            prop_assert_eq!(parts(&read), parts(&answer));
            prop_assert_eq!(&read.choices[0].finish, &answer.choices[0].finish);
            prop_assert_eq!(&read.report, &answer.report);
        }
        // The last event holds the same output as the whole object.
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        let last = events_of(&stream).pop().unwrap();
        let without_ids = |output: &Value| -> Vec<Value> {
            let mut items = output.as_array().unwrap().clone();
            items.iter_mut().for_each(|item| item["id"] = Value::Null);
            items
        };
        prop_assert_eq!(without_ids(&last["response"]["output"]), without_ids(&whole["output"]));
        // And its items are understood as input again.
        let input = whole["output"].as_array().unwrap();
        let said: Vec<Part> = to_messages("input", input).unwrap().into_iter().flat_map(|message| message.parts).collect();
        prop_assert_eq!(said, parts(&answer));
    }

    #[test]
    fn reading_never_panics_on_any_bytes_or_json(
        body in prop::collection::vec(any::<u8>(), 0..200),
        name in prop::sample::select(vec!["input", "tools", "text", "reasoning", "tool_choice", "conversation", "include", "instructions"]),
        value in crate::openai::chat::any_json(),
        kind in prop::sample::select(vec!["response.completed", "response.output_item.done", "response.output_item.added", "error", "response.output_text.delta"]),
    ) {
        let _ = folded(true, [&*body]);
        let _ = folded(false, [&*body]);
        let _ = read(&request(json!({name: value})));
        for field in ["response", "item", "delta", "error"] {
            let event = json!({"type": kind, field: value, "output_index": 0});
            let _ = folded(true, [format!("data: {event}\n\n").as_bytes()]);
        }
    }
}
