//! What does a client see of its limits, and does an answer never go beyond them?

use std::time::Duration;

use ledger::{Action, Amount, NewLimit, Timestamp};
use serde_json::json;

use crate::engine::Script;
use crate::harness::{CHAT_TOKENS, Door, MODEL, used, words_of};

pub fn limit(measure: &str, amount: i64, window: &str) -> NewLimit {
    NewLimit {
        name: Some(format!("{measure} of local")),
        scope: "local".parse().unwrap(),
        measure: measure.parse().unwrap(),
        amount: Amount(amount),
        window: window.parse().unwrap(),
        action: Action::Refuse,
        thresholds: Vec::new(),
        at: Timestamp::from_millis(0),
    }
}

#[tokio::test]
async fn a_request_beyond_a_limit_hears_which_what_is_left_and_when_to_come_back() {
    let door = Door::open(Script::says("Polly")).await;
    door.journal.set_limit(limit("requests", 2, "day")).await.unwrap();
    let first = door.chat(json!({})).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.headers["x-ratelimit-limit-requests"], "2");
    assert_eq!(first.headers["x-ratelimit-remaining-requests"], "1");
    assert!(first.headers["x-ratelimit-reset-requests"].to_str().unwrap().ends_with('s'));
    assert_eq!(door.chat(json!({})).await.headers["x-ratelimit-remaining-requests"], "0");
    let third = door.chat(json!({})).await;
    assert_eq!(third.refusal(), (429, "rate_limit_error", None, Some("rate_limit_exceeded")));
    assert!(third.message().contains("\"requests of local\" has 0 requests left"), "{}", third.message());
    let wait: u64 = third.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait));
    assert_eq!(third.headers["x-ratelimit-remaining-requests"], "0");
    assert_eq!(door.engine.submitted().len(), 2, "what is refused is not started");
    door.close().await;
}

#[tokio::test]
async fn a_budget_of_money_is_named_in_dollars() {
    let door = Door::open(Script::says("Polly")).await;
    let unpriced = {
        door.journal.set_limit(limit("money", 1_000_000_000_000, "month")).await.unwrap();
        door.chat(json!({})).await
    };
    assert_eq!(unpriced.refusal().3, Some("unpriced_model"));
    door.set_prices("1", "0.1", "4").await;
    let heard = door.chat(json!({ "max_tokens": 8 })).await;
    assert_eq!(heard.headers["x-baseload-budget-limit"], "1.00");
    assert_eq!(heard.headers["x-baseload-budget-name"], "money of local");
    door.journal.set_limit(limit("money", 1, "month")).await.unwrap();
    let refused = door.chat(json!({})).await;
    assert_eq!(refused.refusal(), (429, "rate_limit_error", None, Some("budget_exceeded")));
    assert_eq!(refused.headers["x-should-retry"], "false", "no client need hammer until next month");
    door.close().await;
}

#[tokio::test]
async fn a_stream_grows_its_hold_as_it_goes_on() {
    let door = Door::open_with(Script::repeats("on and on "), gateway::KeysPolicy::LoopbackOpen, |limits| {
        limits.hold_output_tokens = 64;
    })
    .await;
    door.journal.set_limit(limit("tokens", 1_000_000, "day")).await.unwrap();
    let events = door.chat_stream(json!({ "max_tokens": 1_000 })).await;
    assert_eq!(events.finishes(0), ["length"]);
    let ending = door.booked(&events.request).await;
    assert_eq!((words_of(&ending).as_str(), used(&ending).2), ("settled complete", 1_000));
    let row = door.journal.requests(&[events.request.as_str().into()]).await.unwrap().remove(0);
    assert!(row.held.hold.estimate.output >= 1_000, "all that was delivered was held");
    door.close().await;
}

#[tokio::test]
async fn a_stream_that_cannot_grow_ends_by_name_with_exactly_what_was_held() {
    let door = Door::open_with(Script::repeats("on and on "), gateway::KeysPolicy::LoopbackOpen, |limits| {
        limits.hold_output_tokens = 64;
    })
    .await;
    let cap = CHAT_TOKENS as i64 + 150;
    door.journal.set_limit(limit("tokens", cap, "day")).await.unwrap();
    let asked = json!({ "max_tokens": 1_000, "stream_options": { "include_usage": true } });
    let events = door.chat_stream(asked).await;
    assert_eq!(events.finishes(0), ["budget_exhausted"]);
    assert!(events.is_done && events.error().is_none(), "it is an end, and it says which");
    let ending = door.booked(&events.request).await;
    assert_eq!(words_of(&ending), "settled truncated");
    let (input, _, output) = used(&ending);
    assert!(input + output <= cap as u64, "{input} + {output} of {cap}");
    assert!(output >= 130, "nearly all of it is used: {output}");
    assert_eq!(events.usage().unwrap()["completion_tokens"], output, "the client hears what is booked");
    let standing = door.journal.standings(None, Timestamp::from(std::time::SystemTime::now())).await.unwrap();
    assert!(standing[0].spent <= Amount(cap) && standing[0].held == Amount(0));
    door.close().await;
}

#[tokio::test]
async fn a_crowd_of_streams_never_goes_beyond_the_limit_together() {
    let script = Script::repeats("on and on ").pausing(Duration::from_micros(200));
    let door =
        Door::open_with(script, gateway::KeysPolicy::LoopbackOpen, |limits| limits.hold_output_tokens = 32)
            .await;
    let cap = 4_000;
    door.journal.set_limit(limit("tokens", cap, "day")).await.unwrap();
    let crowd = (0..24).map(|_| {
        door.begin("/v1/chat/completions", crate::harness::chat(json!({ "stream": true, "max_tokens": 400 })))
    });
    let mut words = Vec::new();
    for response in futures_util::future::join_all(crowd).await {
        let status = response.status();
        let text = response.text().await.unwrap();
        match status.as_u16() {
            200 => words.push(if text.contains("\"length\"") { "whole" } else { "cut" }),
            429 => words.push("refused"),
            other => panic!("{other}: {text}"),
        }
        assert!(
            status != 200 || text.contains("\"length\"") || text.contains("\"budget_exhausted\""),
            "{text}"
        );
    }
    assert!(words.contains(&"cut"), "{words:?}");
    let standing = door.journal.standings(None, Timestamp::from(std::time::SystemTime::now())).await.unwrap();
    assert!(standing[0].spent <= Amount(cap), "{:?} of {cap}", standing[0].spent);
    assert!(standing[0].spent >= Amount(cap * 9 / 10), "{:?} of {cap} were had", standing[0].spent);
    door.close().await;
}

#[tokio::test]
async fn a_limit_that_warns_lets_through_and_says_so() {
    let door = Door::open(Script::says("Polly")).await;
    door.journal.set_limit(NewLimit { action: Action::Warn, ..limit("requests", 1, "day") }).await.unwrap();
    for _ in 0..2 {
        let heard = door.chat(json!({ "model": MODEL })).await;
        assert_eq!(heard.status, 200);
        assert_eq!(heard.headers["x-baseload-budget-warning"], "nothing is left of requests of local");
    }
    door.close().await;
}
