//! Whether the load generator believes only answers that end well, and counts what really came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use load::{Arrivals, Endpoint, Lengths, RunOptions, Slo, Summary, run};

/// Serves every request with the same bytes, written in pieces with a pause between, then closes.
fn endpoint_that_says(pieces: Vec<String>, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pieces = pieces.clone();
            std::thread::spawn(move || answer(stream, &pieces, pause));
        }
    });
    url
}

fn answer(mut stream: TcpStream, pieces: &[String], pause: Duration) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    for piece in pieces {
        if stream.write_all(piece.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const TEXT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

async fn measure(pieces: &[&str], pause_ms: u64) -> Summary {
    let pieces = std::iter::once(HEAD).chain(pieces.iter().copied()).map(str::to_owned).collect();
    let url = endpoint_that_says(pieces, Duration::from_millis(pause_ms));
    let endpoint = Endpoint::open(&url, None, Some("m".into()), Duration::from_secs(10), true).await.unwrap();
    let three = Lengths { least: 3, most: 3 };
    let options = RunOptions {
        arrivals: Arrivals::Closed { concurrency: 2 },
        requests: 4,
        duration: None,
        prompt_tokens: three,
        output_tokens: three,
        shared_prefix_tokens: 0,
        warmup: 0,
        seed: 1,
        slo: Slo::default(),
    };
    run(&endpoint, &options).await.unwrap_or_else(|error| panic!("{error:#}"))
}

#[tokio::test]
async fn a_good_stream_is_counted_by_the_endpoints_own_usage() {
    let summary = measure(&[TEXT, TEXT, TEXT, FINISH, USAGE, DONE], 20).await;
    assert_eq!((summary.requests, summary.failed), (4, 0));
    assert_eq!((summary.output_tokens, summary.input_tokens, summary.cached_tokens), (12, 160, 32));
    // The first text comes one pause after the head, and each gap is one pause: slower is noise, faster is impossible.
    assert!(summary.ttft_ms.unwrap().p50 >= 19.0, "{:?}", summary.ttft_ms);
    assert!(summary.gap_ms.unwrap().p50 >= 19.0, "{:?}", summary.gap_ms);
    assert_eq!(summary.samples[0].gaps.len(), 2);
}

/// Calibration refuses an endpoint that never answers well, so broken streams are shown by asking directly.
async fn ask(pieces: &[&str]) -> Option<String> {
    let url = endpoint_that_says(pieces.iter().map(|piece| (*piece).to_owned()).collect(), Duration::ZERO);
    let endpoint =
        Endpoint::open(&url, None, Some("m".into()), Duration::from_millis(500), true).await.unwrap();
    endpoint.ask("hello", 3).await.error
}

#[tokio::test]
async fn a_broken_answer_is_a_failure_whatever_came_before() {
    let rows: [(&[&str], &str); 6] = [
        (&[HEAD, TEXT, FINISH, USAGE], "without [DONE]"),
        (&[HEAD, TEXT, USAGE, DONE], "without a finish reason"),
        (&[HEAD, TEXT, "data: {\"error\":{\"message\":\"engine died\"}}\n\n"], "engine died"),
        (&[HEAD, TEXT, "data: {not json}\n\n"], "key must be a string"),
        (&["HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\nwait"], "status 429: wait"),
        (&["HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\ndata"], ""),
    ];
    for (pieces, expected) in rows {
        let error = ask(pieces).await;
        assert!(
            error.as_ref().is_some_and(|error| error.contains(expected)),
            "{expected:?} was expected, got {error:?}"
        );
    }
    assert_eq!(ask(&[HEAD, TEXT, FINISH, USAGE, DONE]).await, None);
}

#[tokio::test]
async fn chunks_cut_anywhere_are_read_alike() {
    let whole: String = [TEXT, TEXT, FINISH, USAGE, DONE].concat();
    for cut in (1..whole.len()).step_by(7) {
        assert_eq!(ask(&[HEAD, &whole[..cut], &whole[cut..]]).await, None, "cut at byte {cut}");
    }
}
