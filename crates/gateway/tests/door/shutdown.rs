//! How does the door close?

use std::time::Duration;

use gateway::KeysPolicy::LoopbackOpen;
use serde_json::json;

use crate::engine::Script;
use crate::harness::{Door, words_of};

fn request_of(response: &reqwest::Response) -> String {
    response.headers()["x-request-id"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn running_answers_end_by_themselves_while_new_work_is_refused() {
    let door = Door::open(Script::repeats("word ").pausing(Duration::from_millis(5))).await;
    let running = door.begin_chat(json!({ "max_tokens": 200 })).await;
    let request = request_of(&running);
    door.begin_shutdown();
    while door.get("/ready").await.status == 200 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ready = door.get("/ready").await;
    assert_eq!(ready.refusal(), (503, "service_unavailable_error", None, Some("draining")));
    let late = door.chat(json!({})).await;
    assert_eq!(late.refusal().3, Some("draining"));
    assert_eq!(late.headers["connection"], "close");
    assert_eq!(door.get("/health").await.status, 200);
    let rest = running.text().await.unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    assert_eq!(words_of(&door.booked(&request).await), "settled complete");
    door.close().await;
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut_by_name_and_booked() {
    let script = Script::repeats("word ").pausing(Duration::from_millis(5));
    let door =
        Door::open_with(script, LoopbackOpen, |limits| limits.drain = Duration::from_millis(200)).await;
    let running = door.begin_chat(json!({})).await;
    let request = request_of(&running);
    door.begin_shutdown();
    let rest = running.text().await.unwrap();
    assert!(rest.contains("\"draining\"") && !rest.contains("[DONE]"), "{rest}");
    assert_eq!(words_of(&door.booked(&request).await), "settled truncated");
    door.close().await;
}

#[tokio::test]
async fn an_idle_door_closes_at_once() {
    let door = Door::open(Script::says("ok")).await;
    door.chat(json!({})).await;
    let idle = door.connect().await;
    let began = std::time::Instant::now();
    door.close().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(idle);
}
