//! What completion clients send and get, as whole messages.

use proptest::prelude::*;
use serde_json::{Value, json};

use domain::{Answer, AnswerEvent, Ask, Finish, FinishReason, Input, Prompt, Scored, TokenScore, Usage};

use super::*;
use crate::{BadAnswer, Upstream};

fn request(fields: Value) -> Vec<u8> {
    let mut request = json!({"model": "m", "prompt": "Once"});
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request.to_string().into_bytes()
}

fn ask(fields: Value) -> Ask {
    read(&request(fields)).unwrap().ask
}

fn head() -> Head {
    Head { id: "cmpl-1".into(), created: 7, model: "m".into(), system_fingerprint: None }
}

fn score(text: &str, logprob: Option<f32>) -> TokenScore {
    let rival = |text: &str, logprob| Scored { text: text.into(), bytes: text.as_bytes().to_vec(), logprob };
    let top = logprob.map_or_else(Vec::new, |logprob| vec![rival(text, logprob), rival("z", -5.5)]);
    TokenScore { text: text.into(), bytes: text.as_bytes().to_vec(), logprob, top }
}

#[test]
fn the_four_shapes_of_a_prompt_are_read() {
    let prompts = |prompt: Value| match ask(json!({"prompt": prompt})).input {
        Input::Completion(prompts) => prompts,
        chat => panic!("{chat:?}"),
    };
    let text = |text: &str| Prompt::Text(text.to_owned());
    assert_eq!(prompts(json!("a")), [text("a")]);
    assert_eq!(prompts(json!(["a", ""])), [text("a"), text("")]);
    assert_eq!(prompts(json!([1, 2])), [Prompt::Tokens(vec![1, 2])]);
    assert_eq!(prompts(json!([[1], [2, 3]])), [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]);
}

#[test]
fn sixteen_tokens_are_answered_unless_the_request_says_otherwise() {
    let max = |fields| ask(fields).max_output_tokens;
    assert_eq!(max(json!({})), Some(16));
    assert_eq!(max(json!({"max_tokens": 0, "echo": true, "logprobs": 1})), Some(0));
}

#[test]
fn each_wrong_parameter_is_named() {
    let rows = [
        (json!({"prompt": null}), "prompt", "missing_required_parameter"),
        (json!({"prompt": []}), "prompt", "empty_array"),
        (json!({"prompt": [[]]}), "prompt[0]", "empty_array"),
        (json!({"prompt": {"a": 1}}), "prompt", "invalid_type"),
        (json!({"prompt": [1, "a"]}), "prompt[1]", "invalid_type"),
        (json!({"prompt": ["a", 1]}), "prompt[1]", "invalid_type"),
        (json!({"prompt": [1, -2]}), "prompt[1]", "integer_below_min_value"),
        (json!({"prompt": [[5_000_000_000u64]]}), "prompt[0][0]", "integer_above_max_value"),
        (json!({"prompt": vec!["a"; 2049]}), "prompt", "array_above_max_length"),
        (json!({"logprobs": 21}), "logprobs", "integer_above_max_value"),
        (json!({"logprobs": true}), "logprobs", "invalid_type"),
        (json!({"suffix": "end"}), "suffix", "unsupported_parameter"),
        (json!({"best_of": 3, "n": 2}), "best_of", "unsupported_parameter"),
        (json!({"max_tokens": -5}), "max_tokens", "integer_below_min_value"),
        (json!({"echo": "yes"}), "echo", "invalid_type"),
    ];
    for (fields, param, code) in rows {
        let Err(error) = read(&request(fields.clone())) else { panic!("{fields} was accepted") };
        assert_eq!(
            (error.param.as_deref(), error.code.as_deref()),
            (Some(param), Some(code)),
            "{fields}: {error}"
        );
    }
    assert!(read(&request(json!({"best_of": 2, "n": 2, "suffix": "", "user": "u"}))).is_ok());
}

#[test]
fn a_whole_completion_reads_as_openai_writes_it() {
    let choice = Choice {
        text: "né z".into(),
        logprobs: Some(vec![score("né", None), score(" z", Some(-0.1))]),
        finish: Some(FinishReason::Length),
    };
    let usage = Usage { input_uncached: 1, output: 1, ..Usage::default() };
    let reply =
        Reply { head: head(), choices: vec![choice], report: UsageReport { usage, service_tier: None } };
    assert_eq!(
        String::from_utf8(reply.to_json()).unwrap(),
        concat!(
            r#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":"né z","#,
            r#""logprobs":{"tokens":["né"," z"],"token_logprobs":[null,-0.1],"#,
            r#""top_logprobs":[null,{" z":-0.1,"z":-5.5}],"text_offset":[0,2]},"finish_reason":"length"}],"#,
            r#""usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"#,
            r#""prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
        )
    );
}

fn folded<'a>(is_stream: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Answer, BadAnswer> {
    let mut reader = CompletionUpstream::default().reader(is_stream);
    let mut events = Vec::new();
    pieces.into_iter().try_for_each(|piece| reader.feed(piece, &mut events))?;
    reader.end(&mut events)?;
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    Ok(answer)
}

proptest! {
    #[test]
    fn a_completion_is_the_same_written_whole_or_streamed_and_read_back_however_it_is_cut(
        choices in prop::collection::vec(prop::collection::vec(("\\PC{0,6}", prop::option::of(-9f32..0.0)), 0..4), 1..4),
        include_usage: bool,
        piece_bytes in 1usize..200,
    ) {
        let report =
            UsageReport { usage: Usage { input_uncached: 5, output: 9, ..Usage::default() }, service_tier: None };
        let form = CompletionForm { include_usage };
        let mut writer = form.writer(head(), choices.len() as u32);
        let mut bytes = Vec::new();
        let mut answer = Answer::default();
        for (index, deltas) in (0..).zip(&choices) {
            for (text, logprob) in deltas {
                // "z" is the rival's text: two tokens of one text would be written once.
                let scores = logprob.filter(|_| text != "z").map(|logprob| vec![score(text, Some(logprob))]);
                let mut deltas = vec![domain::Delta::Text(text.clone())];
                deltas.extend(scores.map(domain::Delta::Scores));
                bytes.append(&mut writer.delta(index, &deltas));
                let said = deltas.into_iter().filter(|delta| *delta != domain::Delta::Text(String::new()));
                said.for_each(|delta| answer.fold(AnswerEvent::Delta { choice: index, delta }));
            }
            let finish = Finish::of(FinishReason::Stop);
            bytes.append(&mut writer.finish(index, &finish));
            answer.fold(AnswerEvent::Finished { choice: index, finish });
        }
        bytes.append(&mut writer.end(&report));
        let stream = folded(true, bytes.chunks(piece_bytes)).unwrap();
        prop_assert_eq!(&stream.choices, &answer.choices);
        prop_assert_eq!(&stream.report, &include_usage.then_some(report.clone()));
        let whole = folded(false, form.whole(&head(), &answer, &report).chunks(piece_bytes)).unwrap();
        prop_assert_eq!((&whole.choices, &whole.report), (&answer.choices, &Some(report)));
    }

    #[test]
    fn reading_never_panics_on_any_json(
        name in prop::sample::select(vec!["prompt", "logprobs", "best_of", "suffix", "echo", "max_tokens", "stop"]),
        value in crate::openai::chat::any_json(),
    ) {
        let _ = read(&request(json!({name: value})));
    }
}
