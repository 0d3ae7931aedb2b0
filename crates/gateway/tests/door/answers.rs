//! What does a client hear that asked well?

use dialect::openai::chat::{ChatForm, ChatUpstream};
use dialect::{Form, Head, Upstream};
use domain::Answer;
use serde_json::{Value, json};

use crate::engine::Script;
use crate::harness::{CHAT_TOKENS, Door, MODEL};
use crate::words;

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let door = Door::open(Script::says("Polly wants a cracker").finding_in_cache(5)).await;
    let heard = door.chat(json!({})).await;
    assert_eq!(heard.status, 200);
    assert_eq!(heard.body["object"], "chat.completion");
    assert_eq!(heard.body["model"], MODEL);
    assert_eq!(heard.body["choices"][0]["message"]["content"], "Polly wants a cracker");
    assert_eq!(heard.body["choices"][0]["finish_reason"], "stop");
    // 21 bytes of answer, and the stop token.
    assert_eq!(heard.body["usage"]["completion_tokens"], 22);
    assert_eq!(heard.body["usage"]["prompt_tokens"], CHAT_TOKENS);
    assert_eq!(heard.body["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
    door.close().await;
}

#[tokio::test]
async fn a_stream_says_the_same_and_ends_with_done() {
    let door = Door::open(Script::says("Grüße, 世界! 🦜")).await;
    let whole = door.chat(json!({})).await;
    let events = door.chat_stream(json!({ "stream_options": { "include_usage": true } })).await;
    assert_eq!(events.chat_text(0), "Grüße, 世界! 🦜");
    assert_eq!(events.finishes(0), ["stop"]);
    assert_eq!(events.usage(), Some(&whole.body["usage"]));
    assert!(events.is_done);
    assert!(!events.chat_text(0).contains('\u{FFFD}'), "no half character");
    let quiet = door.chat_stream(json!({})).await;
    assert_eq!(quiet.usage(), None, "no usage unless it is asked for");
    door.close().await;
}

#[tokio::test]
async fn a_stream_cut_anywhere_folds_into_the_whole_answer() {
    let door = Door::open(Script::says("one two")).await;
    let mut body = crate::harness::chat(json!({ "stream": true, "logprobs": true, "top_logprobs": 2 }));
    let stream = door.begin("/v1/chat/completions", body.clone()).await.bytes().await.unwrap();
    body["stream"] = json!(false);
    let whole = door.post("/v1/chat/completions", body).await;
    for cut in 0..=stream.len() {
        let mut reader = ChatUpstream::default().reader(true);
        let mut events = Vec::new();
        reader.feed(&stream[..cut], &mut events).unwrap();
        reader.feed(&stream[cut..], &mut events).unwrap();
        reader.end(&mut events).unwrap();
        let mut answer = Answer::default();
        events.into_iter().for_each(|event| answer.fold(event));
        let head = Head { id: String::new(), created: 0, model: MODEL.into(), system_fingerprint: None };
        let folded = ChatForm { include_usage: true }.whole(&head, &answer, &Default::default());
        let folded: Value = serde_json::from_slice(&folded).unwrap();
        assert_eq!(folded["choices"], whole.body["choices"], "cut at {cut}");
    }
    door.close().await;
}

#[tokio::test]
async fn the_answer_ends_at_its_limit_its_stop_string_or_its_context() {
    let door = Door::open(Script::repeats("abc ")).await;
    let (long, rest) = ("x".repeat(4_090), 6);
    for (asked, text, finish, tokens) in [
        (json!({ "max_tokens": 6 }), "abc ab", "length", 6),
        (json!({ "max_tokens": 64, "stop": "c a" }), "ab", "stop", 5),
        (json!({ "max_tokens": 64, "stop": ["zzz", " a"] }), "abc", "stop", 5),
        (json!({ "max_tokens": 2, "stop": "abc" }), "ab", "length", 2),
        (json!({ "max_tokens": 1, "prompt": words::tokens("as tokens") }), "a", "length", 1),
        (json!({ "prompt": long, "max_tokens": rest }), "abc ab", "length", 6),
    ] {
        let heard = door.complete(asked.clone()).await;
        assert_eq!(heard.status, 200, "{asked} {heard:?}");
        assert_eq!(heard.body["choices"][0]["text"], text, "{asked}");
        assert_eq!(heard.body["choices"][0]["finish_reason"], finish, "{asked}");
        assert_eq!(heard.body["usage"]["completion_tokens"], tokens, "{asked}");
    }
    let events = door.complete_stream(json!({ "stop": "c a" })).await;
    assert_eq!((events.completion_text(0).as_str(), events.finishes(0)), ("ab", vec!["stop"]));
    door.until("stopped work leaves the engine", |door| door.engine.running() == 0).await;
    door.close().await;
}

#[tokio::test]
async fn a_chat_without_a_limit_may_fill_the_context() {
    let door = Door::open(Script::says("ok")).await;
    door.chat(json!({})).await;
    let limit = door.engine.submitted()[0].max_output_tokens;
    assert_eq!(u64::from(limit), crate::harness::CONTEXT_TOKENS as u64 - CHAT_TOKENS);
    door.close().await;
}

#[tokio::test]
async fn several_choices_are_told_apart_and_their_prompt_is_counted_once() {
    let door = Door::open(Script::says("yes")).await;
    let heard = door.chat(json!({ "n": 3, "seed": 7 })).await;
    let choices = heard.body["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| &choice["index"]).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(choices.iter().all(|choice| choice["message"]["content"] == "yes"));
    assert_eq!(heard.body["usage"]["prompt_tokens"], CHAT_TOKENS);
    assert_eq!(heard.body["usage"]["completion_tokens"], 12);
    let seeds: Vec<_> = door.engine.submitted().iter().map(|work| work.sampling.seed).collect();
    assert_eq!(seeds, [Some(7), Some(8), Some(9)], "choices of one seed still differ");
    let events = door.chat_stream(json!({ "n": 3 })).await;
    for choice in 0..3 {
        assert_eq!((events.chat_text(choice).as_str(), events.finishes(choice)), ("yes", vec!["stop"]));
    }
    assert!(events.is_done);
    door.close().await;
}

#[tokio::test]
async fn each_prompt_of_a_list_gets_its_choices_in_order() {
    let door = Door::open(Script::says("!")).await;
    let heard = door.complete(json!({ "prompt": ["a", "bcd"], "n": 2, "echo": true })).await;
    let texts: Vec<_> =
        heard.body["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["a!", "a!", "bcd!", "bcd!"]);
    assert_eq!(heard.body["usage"]["prompt_tokens"], 4);
    door.close().await;
}

#[tokio::test]
async fn an_echoed_prompt_comes_with_its_scores() {
    let door = Door::open(Script::says("cd")).await;
    let asked = json!({ "prompt": "ab", "echo": true, "logprobs": 1, "max_tokens": 2 });
    let heard = door.complete(asked.clone()).await;
    let choice = &heard.body["choices"][0];
    assert_eq!(choice["text"], "abcd");
    assert_eq!(choice["logprobs"]["tokens"], json!(["a", "b", "c", "d"]));
    assert_eq!(choice["logprobs"]["token_logprobs"], json!([null, -0.5, -0.5, -0.5]));
    assert_eq!(choice["logprobs"]["text_offset"], json!([0, 1, 2, 3]));
    let events = door.complete_stream(asked).await;
    assert_eq!(events.completion_text(0), "abcd");
    let only_prompt =
        door.complete(json!({ "prompt": "ab", "echo": true, "logprobs": 1, "max_tokens": 0 })).await;
    assert_eq!(only_prompt.body["choices"][0]["text"], "ab");
    assert_eq!(only_prompt.body["usage"]["completion_tokens"], 0);
    door.close().await;
}

#[tokio::test]
async fn a_long_wait_is_filled_with_comments() {
    let keys = gateway::KeysPolicy::LoopbackOpen;
    let script = Script::says("slow").pausing(std::time::Duration::from_millis(200));
    let door = Door::open_with(script, keys, |limits| {
        limits.ping_interval = std::time::Duration::from_millis(20);
    })
    .await;
    let events = door.chat_stream(json!({})).await;
    assert!(events.comments > 0, "{events:?}");
    assert_eq!((events.chat_text(0).as_str(), events.is_done), ("slow", true));
    door.close().await;
}

#[tokio::test]
async fn models_are_listed_and_found_by_name_and_alias() {
    let door = Door::open(Script::says("ok")).await;
    let list = door.get("/v1/models").await;
    assert_eq!(list.body["data"][0]["id"], MODEL);
    assert_eq!(list.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(door.get("/v1/models/budgie").await.body["id"], "budgie");
    assert_eq!(door.get("/v1/models/some/path").await.status, 404);
    assert_eq!(door.chat(json!({ "model": "budgie" })).await.body["model"], MODEL);
    door.close().await;
}

#[tokio::test]
async fn texts_become_tokens_and_texts_again() {
    let door = Door::open(Script::says("ok")).await;
    let tokenized = door.post("/tokenize", json!({ "prompt": "Hé", "return_token_strs": true })).await;
    assert_eq!(tokenized.body["tokens"], json!([72, 195, 169]));
    assert_eq!((&tokenized.body["count"], &tokenized.body["max_model_len"]), (&json!(3), &json!(4096)));
    let chat = door.post("/tokenize", crate::harness::chat(json!({}))).await;
    assert_eq!(chat.body["count"], CHAT_TOKENS);
    let text = door.post("/detokenize", json!({ "model": MODEL, "tokens": [72, 195, 169] })).await;
    assert_eq!(text.body["prompt"], "Hé");
    let strange = door.post("/detokenize", json!({ "tokens": [1_000_000] })).await;
    assert_eq!(strange.refusal().3, Some("unknown_token"));
    assert_eq!(door.engine.submitted().len(), 0);
    door.close().await;
}

#[tokio::test]
async fn a_client_may_step_back_but_not_push_forward() {
    let door = Door::open(Script::says("ok")).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |priority: &'static str| {
        let body = crate::harness::chat(json!({})).to_string();
        let request = client.post(door.url("/v1/chat/completions")).header("x-baseload-priority", priority);
        async move { request.body(body).send().await.unwrap().status().as_u16() }
    };
    assert_eq!(ask("batch").await, 200);
    assert_eq!(door.engine.submitted()[0].priority, domain::Priority::Batch);
    assert_eq!(ask("high").await, 400);
    door.close().await;
}
