//! What is left after `kill -9` in mid-stream: a ledger that balances, an open hold that is found and closed, and nothing
//! that a client has received and nobody has booked.

mod support;

#[path = "support/postgres.rs"]
#[allow(dead_code, reason = "each test takes what it needs of it")]
mod postgres;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use ledger::{How, Journal};
use serde_json::{Value, json};
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

/// Delivered tokens of every request, as its client counted them.
type Received = Arc<Mutex<BTreeMap<String, u64>>>;

/// Asks for answers, one after the other, until the server is gone.
async fn ask_until_killed(url: String, client: reqwest::Client, number: usize, received: Received) {
    for turn in 0.. {
        let body = json!({
            "model": "small", "stream": true, "ignore_eos": true, "logprobs": true, "temperature": 0,
            "max_tokens": 20 + 90 * (turn % 5),
            "messages": [{"role": "user", "content": format!("What is TTFT? ({number}, {turn})")}],
        });
        let request = client.post(format!("{url}/v1/chat/completions")).json(&body);
        let Ok(response) = request.send().await else { return };
        assert_eq!(response.status(), 200);
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let mut bytes = response.bytes_stream();
        let mut rest = Vec::new();
        while let Some(Ok(piece)) = bytes.next().await {
            rest.extend_from_slice(&piece);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let whole: Vec<u8> = rest.drain(..=end).collect();
            let tokens = tokens_in(std::str::from_utf8(&whole).unwrap());
            *received.lock().unwrap().entry(id.clone()).or_default() += tokens;
        }
    }
}

/// Returns how many tokens these lines of a stream deliver: each has a log-probability.
fn tokens_in(lines: &str) -> u64 {
    let events = lines.lines().filter_map(|line| line.strip_prefix("data: {"));
    let events =
        events.map(|event| serde_json::from_str::<Value>(&format!("{{{event}")).expect("an event is JSON"));
    let choices = events.flat_map(|event| event["choices"].as_array().cloned().unwrap_or_default());
    choices
        .filter_map(|choice| choice["logprobs"]["content"].as_array().map(|tokens| tokens.len() as u64))
        .sum()
}

/// Returns how many requests of these have been lost; all others ended by themselves. Each is booked for no less than its
/// client has received.
async fn lost_of(journal: &Journal, received: &BTreeMap<String, u64>) -> usize {
    let ids: Vec<_> = received.keys().map(|id| id.as_str().into()).collect();
    let rows = journal.requests(&ids).await.expect("the requests can be read");
    assert_eq!(rows.len(), received.len(), "every request that was answered is in the book");
    let mut lost = 0;
    for (row, (id, received)) in rows.iter().zip(received) {
        let ending = row.ending.as_ref().unwrap_or_else(|| panic!("{id} has no end"));
        let booked = ending.usage().expect("its usage is known or estimated").output;
        assert!(
            *received <= booked,
            "{id}: {received} tokens were delivered, {booked} are booked: {ending:?}"
        );
        lost += usize::from(matches!(ending.how, How::Lost { .. }));
    }
    lost
}

/// `CRASH_ROUNDS=100` for a long night.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_under_load_the_ledger_balances_and_nothing_delivered_is_unbooked() {
    let rounds: u64 = std::env::var("CRASH_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number"));
    let data = tempfile::tempdir().unwrap();
    let (mut requests, mut lost, mut delivered) = (0, 0, 0);
    for round in 0..rounds {
        let mut server = Server::start(data.path(), &[]);
        let received = Received::default();
        let clients: Vec<_> = (0..12)
            .map(|number| ask_until_killed(server.url.clone(), support::client(), number, received.clone()))
            .map(tokio::spawn)
            .collect();
        // Sometimes amid first prompts, sometimes amid settlements.
        tokio::time::sleep(Duration::from_millis(300 + round * 733 % 1_900)).await;
        server.signal(SIGKILL);
        server.wait();
        for client in clients {
            client.await.expect("a client only sees its connection end");
        }
        let check = baseload(data.path(), &["usage", "--check"]);
        assert!(check.status.success(), "round {round}, after the kill: {}", text(&check));

        let mut again = Server::start(data.path(), &[]);
        again.signal(SIGTERM);
        assert!(again.wait().success());
        let check = baseload(data.path(), &["usage", "--check"]);
        assert!(
            check.status.success() && text(&check).contains("0 open holds"),
            "round {round}: {}",
            text(&check)
        );
        let received = received.lock().unwrap().clone();
        let journal =
            Journal::attach(&data.path().join("ledger.sqlite")).await.expect("the ledger can be read");
        lost += lost_of(&journal, &received).await;
        requests += received.len();
        delivered += received.values().sum::<u64>();
    }
    println!(
        "{rounds} kills: {requests} requests, {lost} of them lost, {delivered} tokens delivered and booked"
    );
    assert!(lost > 0 && delivered > 0, "a kill that interrupts nothing shows nothing");
}

/// How soon the others must have closed what a dead server left open: it is dead after 15 seconds of silence.
const BURIED_WITHIN: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_servers_on_one_postgres_one_is_killed_and_the_others_close_its_holds() {
    let Some(postgres) = postgres::Postgres::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let (url, received) = (postgres.url(), Received::default());
    let mut servers: Vec<Server> = (0..3)
        .map(|number| Server::start(&home.path().join(number.to_string()), &["--ledger", &url]))
        .collect();
    let clients: Vec<_> = (0..9)
        .map(|number| {
            ask_until_killed(servers[number % 3].url.clone(), support::client(), number, received.clone())
        })
        .map(tokio::spawn)
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    servers[0].signal(SIGKILL);
    servers[0].wait();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The clients of the living leave in the middle.
    for client in clients {
        client.abort();
        let _ = client.await;
    }
    let journal = Journal::attach_url(&url).await.expect("the ledger can be read");
    let began = Instant::now();
    while !journal.open_holds().await.expect("they can be read").is_empty() {
        assert!(began.elapsed() < BURIED_WITHIN, "holds of a dead server stay open");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!("all of the dead server's holds were closed {:?} after its clients' end", began.elapsed());
    let received = received.lock().unwrap().clone();
    let lost = lost_of(&journal, &received).await;
    let integrity = journal.check_integrity().await.expect("it can be checked");
    assert!(integrity.is_sound() && lost > 0, "{lost} lost; {integrity:?}");
    for server in &mut servers[1..] {
        server.signal(SIGTERM);
        assert!(server.wait().success());
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
