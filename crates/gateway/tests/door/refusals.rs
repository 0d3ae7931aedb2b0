//! What does a client hear that asked badly, or at a bad time?

use std::time::Duration;

use gateway::KeysPolicy::{KeysRequired, LoopbackOpen};
use serde_json::{Value, json};

use crate::engine::Script;
use crate::harness::{Door, MODEL, chat, completion, read_to_close, write};

#[tokio::test]
async fn each_mistake_is_named_with_its_place() {
    let door = Door::open(Script::says("never said")).await;
    type Row = (&'static str, Value, u16, Option<&'static str>, Option<&'static str>);
    let rows: Vec<Row> = vec![
        (
            "/v1/chat/completions",
            chat(json!({ "model": "dodo" })),
            404,
            Some("model"),
            Some("model_not_found"),
        ),
        ("/v1/chat/completions", chat(json!({ "temperature": -1 })), 400, Some("temperature"), None),
        ("/v1/chat/completions", chat(json!({ "max_tokens": -5 })), 400, Some("max_tokens"), None),
        ("/v1/chat/completions", chat(json!({ "n": 0 })), 400, Some("n"), None),
        ("/v1/chat/completions", chat(json!({ "messages": "Hi" })), 400, Some("messages"), None),
        (
            "/v1/chat/completions",
            chat(json!({ "max_tokens": 5000 })),
            400,
            None,
            Some("context_length_exceeded"),
        ),
        ("/v1/completions", completion(json!({ "prompt": "" })), 400, Some("prompt"), None),
        ("/v1/completions", completion(json!({ "prompt": [] })), 400, Some("prompt"), None),
        (
            "/v1/completions",
            completion(json!({ "prompt": [9_999] })),
            400,
            Some("prompt"),
            Some("unknown_token"),
        ),
        (
            "/v1/completions",
            completion(json!({ "prompt": vec!["a"; 129] })),
            400,
            None,
            Some("too_many_sequences"),
        ),
        (
            "/v1/completions",
            completion(json!({ "logit_bias": { "9999": 1 } })),
            400,
            Some("logit_bias"),
            None,
        ),
        ("/v1/nothing", json!({}), 404, None, Some("unknown_url")),
        ("/v1/models", json!({}), 405, None, Some("method_not_supported")),
    ];
    for (path, body, status, param, code) in rows {
        let heard = door.post(path, body.clone()).await;
        let refusal = heard.refusal();
        assert_eq!((refusal.0, refusal.2), (status, param), "{body} {heard:?}");
        assert!(code.is_none() || refusal.3 == code, "{body} {heard:?}");
        assert!(heard.request().starts_with("req-"));
    }
    assert_eq!(door.engine.submitted().len(), 0, "nothing of this reached the engine");
    door.close().await;
}

#[tokio::test]
async fn refusals_say_what_would_help() {
    let door = Door::open(Script::says("never said")).await;
    let unknown = door.chat(json!({ "model": "dodo" })).await;
    assert!(unknown.message().contains("\"dodo\"") && unknown.message().contains(MODEL), "{unknown:?}");
    let long = door.complete(json!({ "prompt": "x".repeat(4_090), "max_tokens": 7 })).await;
    let message = long.message();
    assert!(["4096", "4097", "4090", "7"].iter().all(|number| message.contains(number)), "{message}");
    assert!(door.get("/v1/nothing?key=secret").await.message().contains("/v1/nothing;"));
    let method = door.get("/v1/chat/completions").await;
    assert_eq!(method.status, 405);
    assert_eq!(method.headers["allow"], "POST");
    assert!(method.message().contains("/v1/chat/completions does not take GET"));
    door.close().await;
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused() {
    let door = Door::open(Script::says("never said")).await;
    let bodies: [&[u8]; 7] =
        [b"", b"{", b"[]", b"\"\xff\xfe\"", b"{\"model\": \"\xff\"}", b"nul", &[b'['; 100_000]];
    for body in bodies {
        let heard = door.post_bytes("/v1/chat/completions", body.to_vec()).await;
        assert_eq!(heard.refusal().0, 400, "{heard:?}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_huge_body_is_refused_and_its_sender_hears_it() {
    let door = Door::open(Script::says("never said")).await;
    let announced = door.post_bytes("/v1/chat/completions", vec![b' '; 100 << 20]).await;
    assert_eq!(announced.refusal().0, 413);
    assert_eq!(announced.refusal().3, Some("body_too_large"));
    let mut socket = door.connect().await;
    write(&mut socket, "POST /tokenize HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    for _ in 0..11 {
        write(&mut socket, &chunk).await;
    }
    write(&mut socket, "0\r\n\r\n").await;
    assert!(read_to_close(socket).await.starts_with("HTTP/1.1 413 "));
    door.close().await;
}

#[tokio::test]
async fn half_a_body_half_a_header_and_silence_all_time_out() {
    let door = Door::open_with(Script::says("never said"), LoopbackOpen, |limits| {
        limits.header_timeout = Duration::from_millis(200);
        limits.body_timeout = Duration::from_millis(200);
        limits.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let mut half_body = door.connect().await;
    write(
        &mut half_body,
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"model\":",
    )
    .await;
    let mut half_header = door.connect().await;
    write(&mut half_header, "GET /health HTTP/1.1\r\nhost: x\r\nx-slow").await;
    let silent = door.connect().await;
    let mut resting = door.connect().await;
    write(&mut resting, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let half_body = read_to_close(half_body).await;
    assert!(half_body.starts_with("HTTP/1.1 408 ") && half_body.contains("body_timeout"), "{half_body}");
    assert_eq!(read_to_close(half_header).await, "");
    assert_eq!(read_to_close(silent).await, "");
    assert!(read_to_close(resting).await.starts_with("HTTP/1.1 200 "));
    door.close().await;
}

#[tokio::test]
async fn a_full_queue_is_told_with_the_time_to_wait() {
    let door = Door::open(Script::repeats("busy ").with_room_for(1)).await;
    let first = door.begin_chat(json!({})).await;
    let second = door.chat(json!({})).await;
    assert_eq!(second.refusal(), (429, "rate_limit_error", None, Some("queue_full")));
    assert_eq!(second.headers["retry-after"], "1");
    // Two choices need two places; the one that got one gives it back.
    drop(first);
    door.until("the first leaves", |door| door.engine.running() == 0).await;
    let both = door.chat(json!({ "n": 2 })).await;
    assert_eq!(both.refusal().3, Some("queue_full"));
    door.until("its half leaves", |door| door.engine.running() == 0).await;
    let row = door.booked(both.request()).await;
    assert_eq!(crate::harness::words_of(&row), "released refused");
    door.close().await;
}

#[tokio::test]
async fn as_many_requests_as_allowed_are_under_way() {
    let door = Door::open_with(Script::repeats("busy "), LoopbackOpen, |limits| limits.requests = 1).await;
    let first = door.begin_chat(json!({})).await;
    let second = door.chat(json!({})).await;
    assert_eq!(second.refusal(), (429, "rate_limit_error", None, Some("requests_full")));
    assert_eq!(door.get("/v1/models").await.status, 200, "what is no generation needs no place");
    drop(first);
    door.until("the first leaves", |door| door.engine.running() == 0).await;
    door.close().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let door = Door::open_with(Script::says("ok"), LoopbackOpen, |limits| limits.connections = 1).await;
    let first = door.connect().await;
    let mut second = door.connect().await;
    write(&mut second, "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut answer = tokio::spawn(read_to_close(second));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut answer).await;
    assert!(early.is_err(), "the only place is taken");
    drop(first);
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200 "));
    door.close().await;
}

#[tokio::test]
async fn where_keys_are_required_only_known_ones_open() {
    let door = Door::open_with(Script::says("ok"), KeysRequired, |_| {}).await;
    let (id, secret) = door.make_key("acme").await;
    assert_eq!(
        door.chat(json!({})).await.refusal(),
        (401, "authentication_error", None, Some("missing_api_key"))
    );
    let wrong = door.post_with_key("bl-wrong", "/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(wrong.refusal().3, Some("invalid_api_key"));
    assert!(!wrong.body.to_string().contains("bl-wrong"), "what may be a secret is never repeated");
    let right = door.post_with_key(&secret, "/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(right.status, 200);
    assert_eq!(door.account_of(right.request()).await, "acme");
    assert_eq!(door.engine.submitted()[0].tenant.as_str(), "acme");
    for (path, status) in [("/health", 200), ("/ready", 200), ("/v1/models", 401), ("/metrics", 401)] {
        assert_eq!(door.get(path).await.status, status, "{path}");
    }
    door.journal.revoke_key(id, ledger::Timestamp::from(std::time::SystemTime::now())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let revoked = door.post_with_key(&secret, "/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(revoked.refusal().3, Some("revoked_api_key"));
    door.close().await;
}

#[tokio::test]
async fn on_loopback_any_key_will_do_and_a_known_one_pays() {
    let door = Door::open(Script::says("ok")).await;
    let (_, secret) = door.make_key("acme").await;
    for (key, account) in [("sk-anything", "local"), (secret.as_str(), "acme")] {
        let heard = door.post_with_key(key, "/v1/chat/completions", chat(json!({}))).await;
        assert_eq!(door.account_of(heard.request()).await, account);
    }
    door.close().await;
}
