//! What chat clients send and get, as whole messages.

use proptest::prelude::*;
use serde_json::{Value, json};

use domain::{
    Answer, AnswerEvent, AnsweredChoice, Chat, Delta, Finish, FinishReason, Input, Part, Reasoning, Role,
    Sampling, SamplingWish, Scored, ServiceTier, TokenScore, ToolCall, ToolChoice, Usage, UsageReport,
};

use super::*;
use crate::{BadAnswer, BadRequest, Heard, Trouble, TroubleKind, Upstream};

fn request(fields: Value) -> Vec<u8> {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request.to_string().into_bytes()
}

fn heard(fields: Value) -> Heard {
    read(&request(fields)).unwrap()
}

fn chat(heard: Heard) -> Chat {
    match heard.ask.input {
        Input::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn refused(body: &[u8]) -> BadRequest {
    match read(body) {
        Err(refused) => refused,
        Ok(heard) => panic!("{:?} was accepted", heard.ask),
    }
}

/// Reads a body that comes in these pieces; returns what it adds up to.
fn folded<'a>(is_stream: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Answer, BadAnswer> {
    let mut reader = ChatUpstream::default().reader(is_stream);
    let mut events = Vec::new();
    pieces.into_iter().try_for_each(|piece| reader.feed(piece, &mut events))?;
    reader.end(&mut events)?;
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    Ok(answer)
}

fn text(text: &str) -> [Delta; 1] {
    [Delta::Text(text.to_owned())]
}

fn report(usage: Usage) -> UsageReport {
    UsageReport { usage, service_tier: None }
}

fn finish(reason: FinishReason) -> Finish {
    Finish::of(reason)
}

fn head() -> Head {
    Head { id: "chatcmpl-1".into(), created: 7, model: "m".into(), system_fingerprint: None }
}

#[test]
fn the_smallest_request_takes_every_default_of_the_model() {
    let defaults = Sampling { temperature: 0.6, top_k: 20, ..Sampling::default() };
    let heard = heard(json!({}));
    assert_eq!(heard.ask.model.as_str(), "m");
    assert!(heard.ignored.is_empty());
    let ask = heard.ask;
    assert_eq!(ask.sampling.over(&defaults), defaults);
    assert_eq!((ask.max_output_tokens, ask.logprobs, ask.choices), (None, None, 1));
    assert!(!ask.stream && !ask.stream_usage && !ask.ignore_eos);
}

#[test]
fn every_field_of_a_full_request_arrives() {
    let body = request(json!({
        "messages": [
            {"role": "developer", "content": "be brief", "name": "rules"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1.0}"}}]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
        "max_completion_tokens": 9, "max_tokens": 9, "n": 2, "stream": true, "stream_options": {"include_usage": true},
        "stop": "END", "temperature": 0, "top_p": 0.5, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.5,
        "presence_penalty": -2, "frequency_penalty": 2, "logit_bias": {"7": -100}, "seed": -1, "logprobs": true,
        "top_logprobs": 3, "user": "u", "ignore_eos": true, "min_tokens": 5,
        "chat_template_kwargs": {"enable_thinking": false}, "response_format": {"type": "text"}, "modalities": ["text"],
    }));
    let heard = read(&body).unwrap();
    assert!(heard.ignored.is_empty(), "{:?}", heard.ignored);
    let ask = heard.ask;
    let Input::Chat(Chat { messages, tools, template_variables, .. }) = ask.input else { panic!("a chat") };
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::Developer, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!(messages[0].name.as_deref(), Some("rules"));
    assert_eq!(messages[1].text(), "ab");
    assert_eq!(messages[2].text(), "");
    assert_eq!(messages[2].reasoning().as_deref(), Some("hm"));
    let call = messages[2].tool_calls().next().unwrap();
    assert_eq!(call.arguments, r#"{"x": 1.0}"#, "verbatim");
    assert_eq!(messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(tools.len(), 1);
    assert_eq!(template_variables["enable_thinking"], false);
    assert_eq!((ask.max_output_tokens, ask.choices, ask.logprobs), (Some(9), 2, Some(3)));
    assert!(ask.stream && ask.stream_usage && ask.ignore_eos);
    assert_eq!((ask.stop, ask.user), (vec!["END".to_owned()], Some("u".to_owned())));
    assert_eq!(
        ask.sampling,
        SamplingWish {
            temperature: Some(0.0),
            top_p: Some(0.5),
            top_k: Some(0),
            min_p: Some(0.1),
            repetition_penalty: Some(1.5),
            presence_penalty: Some(-2.0),
            frequency_penalty: Some(2.0),
            logit_bias: Some(vec![(7, -100.0)]),
            seed: Some(u64::MAX),
        }
    );
}

#[test]
fn what_changes_nothing_is_accepted_and_listed() {
    let body = request(json!({
        "store": true, "metadata": {"a": "b"}, "prediction": {"type": "content", "content": "x"},
        "safety_identifier": "s", "verbosity": "low",
        "of_my_proxy": 1, "temperature": null, "seed": null, "suffix": null,
    }));
    let heard = read(&body).unwrap();
    let expected = ["store", "metadata", "prediction", "safety_identifier", "verbosity", "of_my_proxy"];
    assert_eq!(heard.ignored, expected);
}

#[test]
fn that_no_tool_may_be_called_is_heard() {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let chat = chat(heard(json!({"tools": [tool], "tool_choice": "none"})));
    assert_eq!(chat.tool_choice, ToolChoice::None);
}

#[test]
fn each_wrong_parameter_is_named() {
    let long = "x".repeat(2000);
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let rows: Vec<(Value, &str, &str)> = vec![
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": 3}), "model", "invalid_type"),
        (json!({"model": ""}), "model", "empty_string"),
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"messages": []}), "messages", "empty_array"),
        (json!({"messages": "hi"}), "messages", "invalid_type"),
        (json!({"messages": ["hi"]}), "messages[0]", "invalid_type"),
        (json!({"messages": [{"content": "hi"}]}), "messages[0].role", "missing_required_parameter"),
        (json!({"messages": [{"role": "robot", "content": "hi"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [{"role": "function", "content": "hi"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "missing_required_parameter"),
        (
            json!({"messages": [{"role": "tool", "content": "1"}]}),
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (user(json!(5)), "messages[0].content", "invalid_type"),
        (
            user(json!([{"type": "image_url", "image_url": {}}])),
            "messages[0].content[0].image_url.url",
            "missing_required_parameter",
        ),
        (
            user(json!([{"type": "image_url", "image_url": {"url": "data:nothing"}}])),
            "messages[0].content[0].image_url.url",
            "invalid_value",
        ),
        (
            user(json!([{"type": "input_audio"}])),
            "messages[0].content[0].input_audio",
            "missing_required_parameter",
        ),
        (
            user(json!([{"type": "file", "file": {}}])),
            "messages[0].content[0].file.file_data",
            "missing_required_parameter",
        ),
        (user(json!([{"type": "video_url"}])), "messages[0].content[0]", "unsupported_content"),
        (user(json!([{"type": "smell"}])), "messages[0].content[0].type", "invalid_value"),
        (user(json!([{"type": "text"}])), "messages[0].content[0].text", "missing_required_parameter"),
        (json!({"temperature": 2.1}), "temperature", "decimal_above_max_value"),
        (json!({"temperature": -0.1}), "temperature", "decimal_below_min_value"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (json!({"top_p": 0}), "top_p", "decimal_below_min_value"),
        (json!({"top_p": 1.01}), "top_p", "decimal_above_max_value"),
        (json!({"min_p": 2}), "min_p", "decimal_above_max_value"),
        (json!({"top_k": -2}), "top_k", "integer_below_min_value"),
        (json!({"repetition_penalty": 0.0}), "repetition_penalty", "decimal_below_min_value"),
        (json!({"presence_penalty": 2.5}), "presence_penalty", "decimal_above_max_value"),
        (json!({"frequency_penalty": -3}), "frequency_penalty", "decimal_below_min_value"),
        (json!({"max_tokens": -1}), "max_tokens", "integer_below_min_value"),
        (json!({"max_tokens": 0}), "max_tokens", "integer_below_min_value"),
        (json!({"max_tokens": 1.5}), "max_tokens", "invalid_type"),
        (json!({"max_tokens": 1e300}), "max_tokens", "integer_above_max_value"),
        (json!({"max_completion_tokens": u64::MAX}), "max_completion_tokens", "integer_above_max_value"),
        (json!({"max_tokens": 1, "max_completion_tokens": 2}), "max_tokens", "invalid_parameter_combination"),
        (json!({"n": 0}), "n", "integer_below_min_value"),
        (json!({"n": 129}), "n", "integer_above_max_value"),
        (json!({"seed": 1.5}), "seed", "invalid_type"),
        (json!({"top_logprobs": 2}), "top_logprobs", "invalid_parameter_combination"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "integer_above_max_value"),
        (json!({"logprobs": 5}), "logprobs", "invalid_type"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias", "invalid_key"),
        (json!({"logit_bias": {"-1": 1}}), "logit_bias", "invalid_key"),
        (json!({"logit_bias": {"5": 101}}), "logit_bias.5", "decimal_above_max_value"),
        (json!({"logit_bias": [1]}), "logit_bias", "invalid_type"),
        (json!({"stop": ""}), "stop[0]", "empty_string"),
        (json!({"stop": ["a", ""]}), "stop[1]", "empty_string"),
        (json!({"stop": ["a", 1]}), "stop[1]", "invalid_type"),
        (json!({"stop": vec!["a"; 17]}), "stop", "array_above_max_length"),
        (json!({"stop": long}), "stop[0]", "string_above_max_length"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", "invalid_value"),
        (json!({"min_tokens": 5}), "min_tokens", "unsupported_parameter"),
        (json!({"suffix": "x"}), "suffix", "unsupported_parameter"),
        (json!({"guided_json": {"type": "object"}}), "guided_json", "unsupported_parameter"),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (json!({"response_format": {"type": "xml"}}), "response_format.type", "invalid_value"),
        (json!({"response_format": "json"}), "response_format", "invalid_type"),
        (json!({"modalities": ["text", "audio"]}), "modalities", "unsupported_parameter"),
        (json!({"functions": [{"name": "f"}]}), "functions", "unsupported_parameter"),
        (json!({"tools": [{"type": "black magic"}]}), "tools[0].type", "invalid_value"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function", "missing_required_parameter"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function.name",
            "invalid_value",
        ),
        (json!({"tool_choice": {"type": "function"}}), "tool_choice.function", "missing_required_parameter"),
        (json!({"tool_choice": {"type": "luck"}}), "tool_choice.type", "invalid_value"),
        (json!({"tool_choice": "maybe"}), "tool_choice", "invalid_value"),
        (json!({"chat_template_kwargs": 1}), "chat_template_kwargs", "invalid_type"),
    ];
    for (fields, param, code) in rows {
        let error = refused(&request(fields.clone()));
        assert_eq!(
            (error.param.as_deref(), error.code.as_deref()),
            (Some(param), Some(code)),
            "{fields}: {error}"
        );
        assert!(
            error.message.contains(param.rsplit('.').next().unwrap()) || code == "invalid_value",
            "{error}"
        );
        assert!(error.message.len() < 300, "{error}");
    }
}

#[test]
fn messages_say_the_value_and_the_range() {
    let message = |fields: Value| refused(&request(fields)).message;
    assert_eq!(
        message(json!({"temperature": 3})),
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."
    );
    assert_eq!(
        message(json!({"top_p": 0})),
        "Invalid 'top_p': decimal below minimum value. Expected a value > 0, but got 0 instead."
    );
    assert_eq!(
        message(json!({"max_tokens": "many"})),
        "Invalid type for 'max_tokens': expected an integer, but got a string instead."
    );
    assert_eq!(
        message(json!({"functions": [{"name": "f"}]})),
        "Unsupported parameter: 'functions' is not supported by this server. It is deprecated; use 'tools' in its place."
    );
}

#[test]
fn a_body_that_is_no_json_object_is_refused_with_its_place() {
    let message = |body: &[u8]| refused(body).message;
    assert_eq!(
        message(br#"{"model": }"#),
        "We could not parse the JSON body of your request: expected value at line 1 column 11."
    );
    assert_eq!(
        message(b"{\"model\": \"\xff\"}"),
        "The request body is not valid UTF-8: the byte at position 11 is wrong."
    );
    assert_eq!(message(b"[]"), "Invalid request body: expected a JSON object, but got an array instead.");
    assert!(message(b"").contains("EOF"));
    assert!(message("[".repeat(100_000).as_bytes()).contains("recursion limit"));
}

#[test]
fn a_whole_reply_reads_as_openai_writes_it() {
    let scored = |text: &str, logprob| Scored { text: text.into(), bytes: text.as_bytes().to_vec(), logprob };
    let score = TokenScore {
        text: "Hi".into(),
        bytes: b"Hi".to_vec(),
        logprob: Some(-0.25),
        top: vec![scored("Hi", -0.25), scored("Yo", f32::NEG_INFINITY)],
    };
    let call =
        ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{\"x\": 1}".into(), proof: None };
    let usage = Usage { input_uncached: 3, cache_read: 4, output: 5, reasoning: 2, ..Usage::default() };
    let reply = Reply {
        head: Head { system_fingerprint: Some("fp".into()), ..head() },
        choices: vec![
            Choice {
                content: "Hi".into(),
                reasoning: "hm".into(),
                logprobs: Some(vec![score]),
                finish: Some(FinishReason::Stop),
                ..Choice::default()
            },
            Choice { tool_calls: vec![call], finish: Some(FinishReason::ToolCalls), ..Choice::default() },
        ],
        report: report(usage),
    };
    let written: Value = serde_json::from_slice(&reply.to_json()).unwrap();
    insta::assert_json_snapshot!(written, @r#"
    {
      "id": "chatcmpl-1",
      "object": "chat.completion",
      "created": 7,
      "model": "m",
      "system_fingerprint": "fp",
      "choices": [
        {
          "index": 0,
          "message": {
            "role": "assistant",
            "content": "Hi",
            "reasoning_content": "hm",
            "refusal": null
          },
          "logprobs": {
            "content": [
              {
                "token": "Hi",
                "logprob": -0.25,
                "bytes": [
                  72,
                  105
                ],
                "top_logprobs": [
                  {
                    "token": "Hi",
                    "logprob": -0.25,
                    "bytes": [
                      72,
                      105
                    ]
                  },
                  {
                    "token": "Yo",
                    "logprob": -9999.0,
                    "bytes": [
                      89,
                      111
                    ]
                  }
                ]
              }
            ]
          },
          "finish_reason": "stop"
        },
        {
          "index": 1,
          "message": {
            "role": "assistant",
            "content": null,
            "tool_calls": [
              {
                "id": "call_1",
                "type": "function",
                "function": {
                  "name": "f",
                  "arguments": "{\"x\": 1}"
                }
              }
            ],
            "refusal": null
          },
          "logprobs": null,
          "finish_reason": "tool_calls"
        }
      ],
      "usage": {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {
          "cached_tokens": 4
        },
        "completion_tokens_details": {
          "reasoning_tokens": 2
        }
      }
    }
    "#);
}

#[test]
fn a_stream_names_the_role_first_and_the_usage_last() {
    let mut stream = Box::new(Stream::new(head(), 1, true));
    let mut bytes = stream.delta(0, &text("Hi"));
    assert!(stream.delta(0, &[]).is_empty());
    bytes.append(&mut stream.finish(0, &finish(FinishReason::Length)));
    bytes.append(&mut stream.end(&report(Usage { input_uncached: 1, output: 2, ..Usage::default() })));
    let head =
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":["#;
    let expected = [
        r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}"#,
        r#"{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
        r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}"#,
        r#"],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
    ];
    let expected: String = expected.iter().map(|rest| format!("{head}{rest}\n\n")).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected + "data: [DONE]\n\n");
}

#[test]
fn a_stream_without_usage_never_names_it() {
    let mut stream = Box::new(Stream::new(head(), 1, false));
    let mut bytes = stream.finish(0, &finish(FinishReason::Stop));
    bytes.append(&mut stream.end(&UsageReport::default()));
    assert!(!String::from_utf8(bytes).unwrap().contains("usage"));
}

#[test]
fn a_broken_stream_says_so_and_never_ends_clean() {
    let mut stream = Box::new(Stream::new(head(), 1, true));
    let mut bytes = stream.delta(0, &text("Hal"));
    bytes.append(&mut stream.broken(&Trouble::new(TroubleKind::ServerError, "the engine failed")));
    assert!(!String::from_utf8_lossy(&bytes).contains("[DONE]"));
    let Err(BadAnswer::Fault(fault)) = folded(true, [&*bytes]) else { panic!("a fault") };
    assert_eq!((&*fault.message, fault.kind), ("the engine failed", crate::FaultKind::Server));
}

#[test]
fn a_stream_that_stops_in_the_middle_is_no_reply() {
    let mut stream = Box::new(Stream::new(head(), 2, false));
    let mut bytes = stream.finish(0, &finish(FinishReason::Stop));
    assert_eq!(folded(true, [&*bytes]).unwrap().choices.len(), 1, "only what began must end");
    bytes.append(&mut stream.delta(1, &text("x")));
    bytes.extend_from_slice(crate::openai::DONE);
    assert_eq!(folded(true, [&*bytes]), Err(BadAnswer::Unfinished), "choice 1 never finished");
}

#[test]
fn calls_that_other_servers_send_in_pieces_are_joined() {
    let chunk = |call: &str, finish: &str| {
        format!(
            "event: message\r\ndata: {{\"id\":\"x\",\"object\":\"o\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{call}]}},\"finish_reason\":{finish}}}]}}\r\n\r\n"
        )
    };
    let text = [
        ": ping\n\n".to_owned(),
        chunk(r#"{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}"#, "null"),
        chunk(r#"{"index":0,"function":{"arguments":"{\"a\":"}}"#, "null"),
        chunk(r#"{"index":0,"function":{"arguments":"1}"}}"#, "\"tool_calls\""),
        "data:[DONE]\n\n".to_owned(),
    ];
    let answer = folded(true, [text.concat().as_bytes()]).unwrap();
    let call = ToolCall { id: "c".into(), name: "f".into(), arguments: r#"{"a":1}"#.into(), proof: None };
    assert_eq!(answer.choices[0].tool_calls().collect::<Vec<_>>(), [&call]);
}

fn any_score() -> impl Strategy<Value = TokenScore> {
    let scored = || {
        ("\\PC{0,4}", -100f32..0.0).prop_map(|(text, logprob)| Scored {
            bytes: text.clone().into_bytes(),
            text,
            logprob,
        })
    };
    (scored(), prop::collection::vec(scored(), 0..3)).prop_map(|(token, top)| TokenScore {
        text: token.text,
        bytes: token.bytes,
        logprob: Some(token.logprob),
        top,
    })
}

/// Parts in the order that a chat message has them: reasoning, text, calls.
fn any_choice() -> impl Strategy<Value = AnsweredChoice> {
    let call = ("[a-z]{1,4}", "\\PC{1,8}", prop::option::of("[a-z]{1,3}"));
    let thought = ("\\PC{1,6}", prop::option::of("[a-z]{1,3}"));
    let scores = prop::option::of(prop::collection::vec(any_score(), 1..3));
    let parts =
        (prop::collection::vec(thought, 0..3), "\\PC{0,6}", prop::collection::vec(call, 0..3), scores);
    (parts, any_finish()).prop_map(|((thoughts, text, calls, scores), reason)| {
        // Only what its maker wants back comes in blocks: the rest is one text.
        let last = thoughts.len().saturating_sub(1);
        let thought = |(place, (text, proof)): (usize, (String, Option<String>))| {
            let proof = proof.or((place < last).then(|| "p".to_owned()));
            Part::Reasoning(Reasoning { text, proof, id: None })
        };
        let call = |(place, (name, arguments, proof))| {
            Part::ToolCall(ToolCall { id: format!("c{place}"), name, arguments, proof })
        };
        let has_calls = !calls.is_empty();
        let parts = thoughts.into_iter().enumerate().map(thought);
        let parts = parts.chain((!text.is_empty()).then(|| Part::text(text)));
        let parts = parts.chain(calls.into_iter().enumerate().map(call)).collect();
        let reason = if has_calls && reason == FinishReason::Stop { FinishReason::ToolCalls } else { reason };
        let mut choice = AnsweredChoice::default();
        (choice.parts, choice.scores, choice.finish) = (parts, scores, Some(Finish::of(reason)));
        choice
    })
}

fn any_finish() -> impl Strategy<Value = FinishReason> {
    prop::sample::select(vec![
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::ToolCalls,
        FinishReason::ContentFilter,
    ])
}

/// What a client can know of an answer.
type Seen = (Vec<Part>, Option<Vec<TokenScore>>, Option<Finish>);

fn seen(answer: &Answer) -> Vec<Seen> {
    let choice =
        |choice: &AnsweredChoice| (choice.parts.clone(), choice.scores.clone(), choice.finish.clone());
    answer.choices.iter().map(choice).collect()
}

/// Writes an answer as a stream, each delta by itself.
fn streamed(answer: &Answer, form: &dyn Form) -> Vec<u8> {
    let mut writer = form.writer(head(), answer.choices.len() as u32);
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

proptest! {
    #[test]
    fn an_answer_is_the_same_written_whole_or_streamed_and_read_back_however_it_is_cut(
        choices in prop::collection::vec(any_choice(), 1..4),
        include_usage: bool,
        output in 0u64..1000,
        tier in prop::sample::select(vec![None, Some(ServiceTier::Flex), Some(ServiceTier::Standard)]),
        piece_bytes in 1usize..200,
    ) {
        let usage = Usage { input_uncached: 5, cache_read: 3, cache_write_5m: 2, output, ..Usage::default() };
        let report = UsageReport { usage, service_tier: tier };
        let answer = Answer { choices, report: Some(report.clone()), ..Answer::default() };
        let form = ChatForm { include_usage };
        let stream = folded(true, streamed(&answer, &form).chunks(piece_bytes)).unwrap();
        prop_assert_eq!(seen(&stream), seen(&answer));
        prop_assert_eq!(&stream.report, &include_usage.then_some(report.clone()));
        let whole = folded(false, form.whole(&head(), &answer, &report).chunks(piece_bytes)).unwrap();
        prop_assert_eq!(seen(&whole), seen(&answer));
        prop_assert_eq!((&whole.report, whole.id.as_deref()), (&Some(report), Some("chatcmpl-1")));
    }

    #[test]
    fn reading_never_panics_on_any_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body);
        let _ = folded(true, [&*body]);
        let _ = folded(false, [&*body]);
    }

    #[test]
    fn reading_never_panics_on_any_json(
        name in prop::sample::select(FIELDS.to_vec()),
        value in any_json(),
    ) {
        let _ = read(&request(json!({name: value})));
    }
}

const FIELDS: &[&str] = &[
    "messages",
    "model",
    "tools",
    "tool_choice",
    "stop",
    "stream_options",
    "logit_bias",
    "n",
    "max_tokens",
    "seed",
    "temperature",
    "top_p",
    "response_format",
    "modalities",
    "chat_template_kwargs",
    "top_logprobs",
    "functions",
];

/// Any JSON value, with the words of the API among its keys and texts.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "role",
        "content",
        "type",
        "text",
        "user",
        "function",
        "name",
        "tool_calls",
        "id",
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
