//! A client that is gone at any stage of its request: is what it used booked once, and is nothing left behind?

use std::time::Duration;

use domain::UsageEnd;
use ledger::{How, Position};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::engine::Script;
use crate::harness::{CHAT_TOKENS, Door, PATIENCE, chat, used, words_of, write};

/// How far a client goes before it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connected,
    HalfAHeader,
    HalfABody,
    Sent,
    HeadHeard,
    FirstWordHeard,
    UsageHeard,
    DoneHeard,
}

impl Stage {
    /// What it waits for in the answer.
    fn mark(self) -> Option<&'static str> {
        match self {
            Self::Connected | Self::HalfAHeader | Self::HalfABody | Self::Sent => None,
            Self::HeadHeard => Some("200 OK"),
            Self::FirstWordHeard => Some("\"content\":\""),
            Self::UsageHeard => Some("\"completion_tokens\""),
            Self::DoneHeard => Some("[DONE]"),
        }
    }
}

async fn go_as_far_as(door: &Door, stage: Stage) {
    let body = chat(json!({ "stream": true, "stream_options": { "include_usage": true } })).to_string();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut socket = door.connect().await;
    match stage {
        Stage::Connected => {}
        Stage::HalfAHeader => write(&mut socket, &head[..20]).await,
        Stage::HalfABody => write(&mut socket, &(head + &body[..10])).await,
        _ => write(&mut socket, &(head + &body)).await,
    }
    if let Some(mark) = stage.mark() {
        read_up_to(&mut socket, mark).await;
    } else if stage == Stage::Sent {
        door.until("it has come to the engine", |door| !door.engine.submitted().is_empty()).await;
    }
    // With the rest of the answer unread, the kernel resets the connection.
    drop(socket);
}

async fn read_up_to(socket: &mut TcpStream, mark: &str) {
    let mut heard = Vec::new();
    let mut piece = [0; 16];
    while !String::from_utf8_lossy(&heard).contains(mark) {
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut piece))
            .await
            .expect("the answer goes on")
            .unwrap();
        assert!(read > 0, "it ended before {mark}: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..read]);
    }
}

/// Long enough to be left in the middle, and to end while somebody waits for it.
fn answer() -> Script {
    Script::says(&"word ".repeat(30)).pausing(Duration::from_millis(3))
}

#[tokio::test]
async fn a_client_that_is_gone_before_its_request_was_whole_is_in_no_book() {
    for stage in [Stage::Connected, Stage::HalfAHeader, Stage::HalfABody] {
        let door = Door::open(answer()).await;
        go_as_far_as(&door, stage).await;
        // Somebody else's request afterwards is the only one there is.
        door.chat(json!({ "max_tokens": 1 })).await;
        assert_eq!(door.engine.submitted().len(), 1, "{stage:?}");
        assert_eq!(door.journal.recent_requests(10).await.unwrap().len(), 1, "{stage:?}");
        door.close().await;
    }
}

#[tokio::test]
async fn a_client_that_is_gone_in_the_middle_pays_for_what_was_produced_and_no_more() {
    for stage in [Stage::Sent, Stage::HeadHeard, Stage::FirstWordHeard] {
        let door = Door::open(answer()).await;
        go_as_far_as(&door, stage).await;
        let request = door.engine.submitted()[0].key.request.clone();
        let ending = door.booked(request.as_str()).await;
        let (input, _, output) = used(&ending);
        let is_released = matches!(ending.how, How::Released { .. });
        assert!(is_released || words_of(&ending) == "settled cancelled_aborted", "{stage:?}: {ending:?}");
        assert!(is_released || (input == CHAT_TOKENS && output < 150), "{stage:?}: {ending:?}");
        if stage == Stage::FirstWordHeard {
            assert!(output >= 1, "what it heard is booked");
        }
        door.until("its work leaves the engine", |door| door.engine.running() == 0).await;
        door.close().await;
    }
}

#[tokio::test]
async fn a_client_that_resets_after_the_usage_was_told_is_booked_as_it_was_told() {
    for stage in [Stage::UsageHeard, Stage::DoneHeard] {
        let door = Door::open(answer()).await;
        go_as_far_as(&door, stage).await;
        let request = door.engine.submitted()[0].key.request.clone();
        let ending = door.booked(request.as_str()).await;
        // Its end was booked before it was told, and its leaving is no second end.
        assert!(matches!(ending.how, How::Settled { end: UsageEnd::Complete, .. }), "{stage:?}: {ending:?}");
        assert_eq!(used(&ending).2, 151, "{stage:?}: 150 letters and the stop");
        door.close().await;
    }
}

#[tokio::test]
async fn an_answer_that_fails_after_it_began_is_billed_as_an_error_and_never_ends_well() {
    let door = Door::open(Script::repeats("broken ").failing_after(5)).await;
    let events = door.chat_stream(json!({ "stream_options": { "include_usage": true } })).await;
    assert!(!events.is_done && events.error().is_some() && events.usage().is_none(), "{events:?}");
    let ending = door.booked(&events.request).await;
    assert_eq!((words_of(&ending).as_str(), used(&ending).2), ("settled error_billed", 5));
    let row = door.journal.requests(&[events.request.as_str().into()]).await.unwrap().remove(0);
    assert_eq!(ledger::book::entries(&Position::Ended(row.held, ending)).len(), 3, "held, used, given back");
    door.close().await;
}
