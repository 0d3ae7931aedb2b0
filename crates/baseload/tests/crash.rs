//! What is left after `kill -9` in mid-stream: a ledger that balances, and an open hold that is found and closed.

mod support;

use futures_util::StreamExt;
use serde_json::json;
use support::{Server, baseload, text};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Starts an answer that is long enough to be killed in the middle, and reads its first bytes.
async fn begin_stream(server: &Server) {
    let fields = json!({"stream": true, "ignore_eos": true, "max_tokens": 500});
    let response = server.chat(fields).send().await.expect("the server answers");
    assert_eq!(response.status(), 200);
    let mut bytes = response.bytes_stream();
    let first = bytes.next().await.expect("the stream has begun").expect("and is whole so far");
    assert!(!first.is_empty());
    // The connection stays open behind the test's back: whoever is killed, it is not the client that left first.
    std::mem::forget(bytes);
}

#[tokio::test]
async fn a_killed_server_leaves_a_ledger_that_balances_and_a_hold_that_is_closed_with_its_reason() {
    let data = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let mut server = Server::start(data.path(), &[]);
        let done = server.chat(json!({"max_tokens": 5})).send().await.expect("the server answers");
        assert_eq!(done.status(), 200);
        done.bytes().await.expect("the answer is whole");
        begin_stream(&server).await;
        server.signal(SIGKILL);
        server.wait();

        let check = baseload(data.path(), &["usage", "--check"]);
        assert!(check.status.success(), "after the kill: {}", text(&check));
        assert!(text(&check).contains("1 open holds"), "the stream's hold is open: {}", text(&check));

        let mut again = Server::start(data.path(), &[]);
        let found = again.wait_for(|line| line.contains("open hold").then(|| line.to_owned()));
        assert!(found.contains('1'), "one hold was found: {found}");
        again.signal(SIGTERM);
        assert!(again.wait().success());

        let check = baseload(data.path(), &["usage", "--check"]);
        assert!(check.status.success() && text(&check).contains("0 open holds"), "{}", text(&check));
        let ends = text(&baseload(data.path(), &["usage", "--by", "end", "--format", "csv"]));
        let rows = |end: &str| ends.lines().filter(|line| line.contains(end)).count();
        assert_eq!(rows("unknown"), 1, "round {round}: what was lost is unknown, not zero:\n{ends}");
        assert_eq!(rows("complete"), 1, "round {round}: what was answered is booked:\n{ends}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_booked_for_what_was_produced() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let response =
        server.chat(json!({"stream": true, "ignore_eos": true, "max_tokens": 1500})).send().await.unwrap();
    let mut bytes = response.bytes_stream();
    bytes.next().await.expect("the stream has begun").expect("and is whole so far");
    drop(bytes);
    for _ in 0..100 {
        if text(&baseload(data.path(), &["usage", "--by", "end"])).contains("cancelled") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let ends = text(&baseload(data.path(), &["usage", "--by", "end"]));
    assert!(ends.contains("cancelled_aborted") || ends.contains("cancelled-aborted"), "{ends}");
    server.signal(SIGTERM);
    assert!(server.wait().success());
}
