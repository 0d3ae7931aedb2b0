//! Is every answer in the ledger before its end is told, and never without it?

use std::time::Duration;

use serde_json::json;

use crate::engine::Script;
use crate::harness::{CHAT_TOKENS, Door, used, words_of};

#[tokio::test]
async fn the_ledger_has_the_numbers_that_the_client_heard() {
    let door = Door::open(Script::says("Polly").finding_in_cache(4)).await;
    door.set_prices("1", "0.1", "4").await;
    let heard = door.chat(json!({})).await;
    // At once: settled durably before the answer left.
    let rows = door.journal.requests(&[heard.request().into()]).await.unwrap();
    let ending = rows[0].ending.clone().expect("settled before the answer leaves");
    assert_eq!(words_of(&ending), "settled complete");
    assert_eq!(used(&ending), (CHAT_TOKENS - 4, 4, 6));
    // 17 uncached at 1, 4 cached at 0.1, 6 of output at 4 USD per million.
    assert_eq!(ending.cost.unwrap().to_string(), "0.0000414");
    door.close().await;
}

#[tokio::test]
async fn a_stream_is_settled_before_its_last_chunk_leaves() {
    let door = Door::open(Script::says("Polly")).await;
    for _ in 0..20 {
        let events = door.chat_stream(json!({})).await;
        let rows = door.journal.requests(&[events.request.as_str().into()]).await.unwrap();
        assert!(rows[0].ending.is_some(), "[DONE] was heard, so the ledger has it");
    }
    door.close().await;
}

#[tokio::test]
async fn a_stop_string_ends_the_bill_with_the_token_that_completed_it() {
    let door = Door::open(Script::repeats("abc ")).await;
    let events =
        door.chat_stream(json!({ "stop": "c a", "stream_options": { "include_usage": true } })).await;
    assert_eq!(events.usage().unwrap()["completion_tokens"], 5);
    assert_eq!(used(&door.booked(&events.request).await).2, 5);
    door.close().await;
}

#[tokio::test]
async fn the_hold_is_the_prompt_exactly_and_the_answer_modestly() {
    let door = Door::open(Script::says("Polly")).await;
    for (asked, output) in [(json!({}), 1_024), (json!({ "max_tokens": 10, "n": 2 }), 20)] {
        let heard = door.chat(asked).await;
        let rows = door.journal.requests(&[heard.request().into()]).await.unwrap();
        let estimate = rows[0].held.hold.estimate;
        assert_eq!((estimate.input_uncached, estimate.output), (CHAT_TOKENS, output));
    }
    door.close().await;
}

#[tokio::test]
async fn without_a_ledger_nothing_is_started() {
    let door = Door::open(Script::says("never said")).await;
    door.journal.close().await;
    let heard = door.chat(json!({})).await;
    assert_eq!(heard.refusal(), (503, "service_unavailable_error", None, Some("ledger_unavailable")));
    assert!(heard.headers.contains_key("retry-after"));
    assert_eq!(door.engine.submitted().len(), 0);
}

#[tokio::test]
async fn an_answer_that_cannot_be_booked_does_not_end_well() {
    let door = Door::open(Script::repeats("on ").pausing(Duration::from_millis(5))).await;
    let mut response = door.begin_chat(json!({ "max_tokens": 100 })).await;
    door.journal.close().await;
    let mut heard = String::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(heard.contains("\"not_booked\"") && !heard.contains("[DONE]"), "{heard}");
    assert!(!heard.contains("\"finish_reason\":\"length\""), "{heard}");
}
