//! What happens to work whose client, or whose engine, does not stay to the end?

use std::time::Duration;

use gateway::KeysPolicy::LoopbackOpen;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::engine::Script;
use crate::harness::{CHAT_TOKENS, Door, Events, chat, used, words_of, write};

/// Slow enough that an answer never fills its context while a test looks away.
fn long_answer() -> Script {
    Script::repeats("and so on ").pausing(Duration::from_millis(5))
}

fn request_of(response: &reqwest::Response) -> String {
    response.headers()["x-request-id"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_pays_for_what_was_produced() {
    let door = Door::open(long_answer()).await;
    let response = door.begin_chat(json!({})).await;
    let request = request_of(&response);
    drop(response);
    let ending = door.booked(&request).await;
    assert_eq!(words_of(&ending), "settled cancelled_aborted");
    let (input, _, output) = used(&ending);
    assert_eq!(input, CHAT_TOKENS);
    assert!((1..4_000).contains(&output), "{output}");
    door.until("its work leaves the engine", |door| door.engine.running() == 0).await;
    assert_eq!(door.engine.cancelled(), 1);
    door.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_for_a_whole_answer_stops_it_too() {
    let door = Door::open(long_answer()).await;
    let body = chat(json!({})).to_string();
    let mut socket = door.connect().await;
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    write(&mut socket, &(head + &body)).await;
    door.until("it has begun", |door| door.engine.produced() > 0).await;
    let request = door.engine.submitted()[0].key.request.clone();
    drop(socket);
    let ending = door.booked(request.as_str()).await;
    assert_eq!(words_of(&ending), "settled cancelled_aborted");
    door.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_used_nothing() {
    let door = Door::open(Script::says("never said").never_starting()).await;
    let response = door.begin("/v1/chat/completions", chat(json!({ "stream": true }))).await;
    let request = request_of(&response);
    drop(response);
    assert_eq!(words_of(&door.booked(&request).await), "released client_left");
    door.until("its work leaves the engine", |door| door.engine.running() == 0).await;
    door.close().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_pays() {
    let script = Script::repeats(&"lots of text ".repeat(10)).pausing(Duration::ZERO);
    let door = Door::open_with(script, LoopbackOpen, |limits| {
        limits.slow_reader_timeout = Duration::from_millis(300);
        limits.response_buffer_bytes = 4 << 10;
        limits.connection_buffer_bytes = 16 << 10;
    })
    .await;
    // Enough choices that their chunks fill both kernels' socket buffers.
    let body = chat(json!({ "stream": true, "n": 16, "logprobs": true, "top_logprobs": 20 })).to_string();
    let mut socket = door.connect().await;
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    write(&mut socket, &(head + &body)).await;
    door.until("all has begun", |door| door.engine.submitted().len() == 16).await;
    let request = door.engine.submitted()[0].key.request.clone();
    let ending = door.booked(request.as_str()).await;
    assert_eq!(words_of(&ending), "settled cancelled_aborted");
    // The socket is full, so the whole connection goes, soon after its stream at the latest.
    while !door
        .get_text("/metrics")
        .await
        .contains("baseload_connections_cut_total{reason=\"slow_reader\"} 1")
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut left = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut left)).await;
    assert!(!String::from_utf8_lossy(&left).contains("[DONE]"));
    door.close().await;
}

#[tokio::test]
async fn an_engine_that_fails_one_request_ends_its_stream_by_name() {
    let door = Door::open(Script::repeats("broken ").failing_after(6)).await;
    let events = door.chat_stream(json!({})).await;
    assert_eq!(events.error(), Some("engine_failed_request"));
    assert!(!events.is_done);
    assert!(events.finishes(0).is_empty());
    let ending = door.booked(&events.request).await;
    assert_eq!((words_of(&ending).as_str(), used(&ending).2), ("settled error_billed", 6));
    let whole = door.chat(json!({})).await;
    assert_eq!(whole.refusal(), (500, "server_error", None, Some("engine_failed_request")));
    assert_eq!(door.get("/ready").await.status, 200, "one bad request fails alone");
    door.close().await;
}

#[tokio::test]
async fn an_engine_that_dies_ends_every_stream_by_name_and_refuses_what_comes() {
    let door = Door::open(Script::repeats("dying ").dying_after(40)).await;
    let first = door.chat_stream(json!({})).await;
    assert_eq!((first.error(), first.is_done), (Some("engine_down"), false));
    assert!(first.chat_text(0).starts_with("dying dying"));
    assert_eq!(words_of(&door.booked(&first.request).await), "settled error_billed");
    let second = door.chat(json!({})).await;
    assert_eq!(second.refusal(), (503, "service_unavailable_error", None, Some("engine_down")));
    assert_eq!(door.get("/ready").await.status, 503);
    assert_eq!(door.get("/health").await.status, 200);
    door.close().await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_cut_by_name() {
    let door = Door::open_with(long_answer(), LoopbackOpen, |limits| {
        limits.request_timeout = Duration::from_millis(300);
    })
    .await;
    let events = door.chat_stream(json!({})).await;
    assert_eq!((events.error(), events.is_done), (Some("request_timeout"), false));
    assert_eq!(words_of(&door.booked(&events.request).await), "settled truncated");
    let whole = door.chat(json!({})).await;
    assert_eq!(whole.refusal(), (504, "timeout_error", None, Some("request_timeout")));
    door.close().await;
}

#[tokio::test]
async fn a_crowd_that_leaves_leaves_nothing_behind() {
    let door = Door::open(long_answer()).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(door.begin("/v1/chat/completions", chat(json!({ "stream": true, "n": 2 }))).await);
    }
    let requests: Vec<String> = crowd.iter().map(request_of).collect();
    drop(crowd);
    for request in requests {
        door.booked(&request).await;
    }
    door.until("all work leaves the engine", |door| door.engine.running() == 0).await;
    let metrics = door.get_text("/metrics").await;
    for gauge in ["baseload_open_streams 0", "baseload_holds_open 0"] {
        assert!(metrics.contains(gauge), "{gauge}");
    }
    door.close().await;
}

#[tokio::test]
async fn two_streams_do_not_hear_each_other() {
    let door = Door::open(Script::says("mine")).await;
    let streams = (0..20).map(|_| door.chat_stream(json!({})));
    let heard: Vec<Events> = futures_util::future::join_all(streams).await;
    assert!(heard.iter().all(|events| events.chat_text(0) == "mine" && events.is_done));
    door.close().await;
}
