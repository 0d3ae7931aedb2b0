//! What completion clients send and get, as whole messages.

use proptest::prelude::*;
use serde_json::{Value, json};

use domain::{Input, Prompt, Sampling, Usage};

use super::*;
use crate::openai::{Accumulator, FinishReason, Head, Scored, TokenScore};

fn request(fields: Value) -> Vec<u8> {
    let mut request = json!({"model": "m", "prompt": "Once"});
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request.to_string().into_bytes()
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
    let prompts = |prompt: Value| match Request::read(&request(json!({"prompt": prompt})))
        .unwrap()
        .into_ask(&Sampling::default())
        .input
    {
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
    let max =
        |fields| Request::read(&request(fields)).unwrap().into_ask(&Sampling::default()).max_output_tokens;
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
        let Err(error) = Request::read(&request(fields.clone())) else { panic!("{fields} was accepted") };
        assert_eq!(
            (error.param.as_deref(), error.code.as_deref()),
            (Some(param), Some(code)),
            "{fields}: {error}"
        );
    }
    assert!(Request::read(&request(json!({"best_of": 2, "n": 2, "suffix": "", "user": "u"}))).is_ok());
}

#[test]
fn a_whole_completion_reads_as_openai_writes_it() {
    let choice = Choice {
        text: "né z".into(),
        logprobs: Some(vec![score("né", None), score(" z", Some(-0.1))]),
        finish: Some(FinishReason::Length),
    };
    let usage = Usage { input_uncached: 1, output: 1, ..Usage::default() };
    let reply = Reply { head: head(), choices: vec![choice], usage: Some(usage) };
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

proptest! {
    #[test]
    fn a_folded_stream_is_the_whole_completion_however_the_bytes_were_cut(
        choices in prop::collection::vec(prop::collection::vec(("\\PC{0,6}", prop::option::of(-9f32..0.0)), 0..4), 1..4),
        include_usage: bool,
        piece_bytes in 1usize..200,
    ) {
        let usage = Usage { input_uncached: 5, output: 9, ..Usage::default() };
        let mut stream = Stream::new(head(), choices.len() as u32, include_usage);
        let mut bytes = Vec::new();
        let mut whole = Reply { head: head(), choices: Vec::new(), usage: include_usage.then_some(usage) };
        for (index, deltas) in choices.iter().enumerate() {
            let mut choice = Choice { finish: Some(FinishReason::Stop), ..Choice::default() };
            for (text, logprob) in deltas {
                // "z" is the rival's text: two tokens of one text would be written once.
                let logprobs = logprob.filter(|_| text != "z").map(|logprob| vec![score(text, Some(logprob))]);
                bytes.append(&mut stream.delta(index as u32, &Delta { text: text.clone(), logprobs: logprobs.clone() }));
                choice.text += text;
                if let Some(scores) = logprobs {
                    choice.logprobs.get_or_insert_default().extend(scores);
                }
            }
            bytes.append(&mut stream.finish(index as u32, FinishReason::Stop));
            whole.choices.push(choice);
        }
        bytes.append(&mut stream.end(&usage));
        let mut folded = Accumulator::<Reply>::new();
        for piece in bytes.chunks(piece_bytes) {
            folded.push(piece).unwrap();
        }
        let folded = folded.finish().unwrap();
        prop_assert_eq!(&folded, &whole);
        prop_assert_eq!(folded.to_json(), whole.to_json());
    }

    #[test]
    fn reading_never_panics_on_any_json(
        name in prop::sample::select(vec!["prompt", "logprobs", "best_of", "suffix", "echo", "max_tokens", "stop"]),
        value in crate::openai::chat::any_json(),
    ) {
        if let Ok(request) = Request::read(&request(json!({name: value}))) {
            request.into_ask(&Sampling::default());
        }
    }
}
