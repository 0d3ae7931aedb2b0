//! Are the stand-ins as strict, as deterministic and as ugly as they say? Asked over real sockets, without any library between.
//!
//! That they are true to form, the providers' own client libraries judge in `tests/matrix/standins_check.py`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use simulator::standin::{
    Behaviour, CacheRules, FastSettings, Kind, ResetHow, RetryForm, Rule, ServerErrorBody, Settings, Standin,
    Ugly, UsageQuirk, When,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn standin(kind: Kind) -> Standin {
    Standin::start(kind, ANYWHERE, Settings::default()).await.expect("loopback has a free port")
}

fn always(ugly: Ugly) -> Behaviour {
    Behaviour { ugly: vec![Rule { when: When::Always, path: None, ugly }], ..Behaviour::default() }
}

fn chat(text: &str, stream: bool) -> Value {
    json!({"model": "gpt-standin", "messages": [{"role": "user", "content": text}], "stream": stream})
}

fn written(method: &str, path: &str, body: &str) -> String {
    let keys =
        "authorization: Bearer standin-key\r\nx-api-key: standin-key\r\nx-goog-api-key: standin-key\r\n";
    let rest = "anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\nconnection: close";
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\n{keys}{rest}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns all bytes up to the end, and whether that was a reset.
async fn raw(to: SocketAddr, method: &str, path: &str, body: &Value) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(to).await.expect("it listens");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    stream.write_all(written(method, path, &body).as_bytes()).await.expect("it reads");
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await;
    (bytes, ended.is_err())
}

/// Returns the status, the head and the body with its chunks joined.
async fn ask(to: SocketAddr, path: &str, body: &Value) -> (u16, String, Vec<u8>) {
    parted(&raw(to, "POST", path, body).await.0)
}

fn parted(bytes: &[u8]) -> (u16, String, Vec<u8>) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let status = head[9..12].parse().expect("a status is a number");
    let mut rest = &bytes[end + 4..];
    if !head.contains("transfer-encoding: chunked") {
        return (status, head, rest.to_vec());
    }
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).expect("a size is text");
        let size = usize::from_str_radix(size, 16).expect("a size is a number");
        rest = &rest[line + 2..];
        if size == 0 || rest.len() < size {
            break;
        }
        body.extend(&rest[..size]);
        rest = &rest[size + 2..];
    }
    (status, head, body)
}

async fn asked(to: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, bytes) = ask(to, path, body).await;
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

const CHAT: &str = "/v1/chat/completions";

/// Ids and times are not what is compared.
fn essence(stream: &[u8]) -> String {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n");
    let data = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    data.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn what_is_not_documented_is_refused_in_the_providers_own_words() {
    let message = json!([{"role": "user", "content": "Hi"}]);
    let cases = [
        (
            Kind::OpenAi,
            CHAT,
            json!({"model": "m", "messages": message, "tok_p": 1}),
            "/error/code",
            "unknown_parameter",
        ),
        (Kind::OpenAi, CHAT, json!({"model": "m", "messages": message, "n": "2"}), "/error/param", "n"),
        (
            Kind::OpenAi,
            "/v1/responses",
            json!({"model": "m", "input": "x", "max_tokens": 1}),
            "/error/param",
            "max_tokens",
        ),
        (
            Kind::Compatible,
            "/v1/responses",
            json!({"model": "m", "input": "x"}),
            "/error/message",
            "Invalid URL (POST /v1/responses)",
        ),
        (
            Kind::Anthropic,
            "/v1/messages",
            json!({"model": "m", "messages": message}),
            "/error/message",
            "max_tokens: Field required",
        ),
        (
            Kind::Anthropic,
            "/v1/messages",
            json!({"model": "m", "max_tokens": 1, "messages": message, "n": 1}),
            "/error/message",
            "n: Extra inputs are not permitted",
        ),
        (
            Kind::Gemini,
            "/v1beta/models/gemini-2.5-x:generateContent",
            json!({"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"max_tokens": 1}}),
            "/error/status",
            "INVALID_ARGUMENT",
        ),
        (
            Kind::Bedrock,
            "/model/m/converse",
            json!({"messages": []}),
            "/message",
            "The request signature is incomplete: Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.",
        ),
    ];
    for (kind, path, body, pointer, expected) in cases {
        let standin = standin(kind).await;
        let (status, value) = asked(standin.address(), path, &body).await;
        assert!((400..500).contains(&status), "{status} {value}");
        assert_eq!(value.pointer(pointer), Some(&json!(expected)), "{value}");
    }
}

#[tokio::test]
async fn an_answer_follows_from_its_request_alone() {
    let standin = standin(Kind::OpenAi).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (status, value) = asked(standin.address(), CHAT, &chat("Hello there", false)).await;
        assert_eq!(status, 200);
        answers.push((value["choices"].clone(), value["usage"].clone()));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0[0]["message"]["content"], "You said: Hello there");
}

#[tokio::test]
async fn however_the_bytes_are_cut_they_are_the_same_answer() {
    let standin = standin(Kind::OpenAi).await;
    let whole = ask(standin.address(), CHAT, &chat("Hello there, you", true)).await.2;
    let mut shapes = vec![
        Ugly::TinyWrites { bytes: 1 },
        Ugly::TinyWrites { bytes: 7 },
        Ugly::CarriageReturns,
        Ugly::Comments,
        Ugly::Packed,
        Ugly::SlowDrip { bytes: 400, milliseconds: 1 },
        Ugly::MalformedLine { before_event: 2 },
    ];
    shapes.extend((0..2600).step_by(97).map(|at_byte| Ugly::Cut { at_byte }));
    for ugly in shapes {
        standin.behave(always(ugly.clone()));
        let cut = ask(standin.address(), CHAT, &chat("Hello there, you", true)).await.2;
        assert_eq!(essence(&cut), essence(&whole), "{ugly:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_at_the_byte_that_was_asked_for() {
    let standin = standin(Kind::Anthropic).await;
    let body = json!({"model": "m", "max_tokens": 99, "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let length = raw(standin.address(), "POST", "/v1/messages", &body).await.0.len();
    for at_byte in (0..length).step_by(61) {
        standin.behave(always(Ugly::Reset { at_byte, how: ResetHow::Close }));
        let (bytes, was_reset) = raw(standin.address(), "POST", "/v1/messages", &body).await;
        assert_eq!((bytes.len(), was_reset), (at_byte, false));
    }
    standin.behave(always(Ugly::Reset { at_byte: 500, how: ResetHow::Reset }));
    let (bytes, was_reset) = raw(standin.address(), "POST", "/v1/messages", &body).await;
    assert!(was_reset && bytes.len() <= 500, "{} bytes", bytes.len());
}

#[tokio::test]
async fn an_end_can_lack_what_should_be_there() {
    let standin = standin(Kind::OpenAi).await;
    let mut body = chat("Hello", true);
    body["stream_options"] = json!({"include_usage": true});
    let usages = |text: &str| text.matches("\"prompt_tokens\":").count();
    for (ugly, finishes, dones, reports) in [
        // Only for those who accept it: this client does not.
        (Ugly::Gzip, 1, 1, 1),
        (Ugly::EndEarly { after_events: None }, 0, 0, 0),
        (Ugly::DoneWithoutFinish, 0, 1, 0),
        (Ugly::Usage { how: UsageQuirk::Missing }, 1, 1, 0),
        (Ugly::Usage { how: UsageQuirk::Twice }, 1, 1, 2),
        (Ugly::Usage { how: UsageQuirk::WithChoices }, 1, 1, 1),
        (Ugly::ErrorAfter { events: 2 }, 0, 0, 0),
    ] {
        standin.behave(always(ugly.clone()));
        let (status, _, bytes) = ask(standin.address(), CHAT, &body).await;
        let text = String::from_utf8(bytes).expect("text");
        let found = (
            text.matches("\"finish_reason\":\"stop\"").count(),
            text.matches("[DONE]").count(),
            usages(&text),
        );
        assert_eq!((status, found), (200, (finishes, dones, reports)), "{ugly:?}: {text}");
    }
    standin.behave(always(Ugly::Usage { how: UsageQuirk::Zeros }));
    let (_, value) = asked(standin.address(), CHAT, &chat("Hello", false)).await;
    assert_eq!(value["usage"]["total_tokens"], 0);
    let tally = standin.requests().pop().and_then(|last| last.tally).expect("it was counted");
    assert!(tally.output > 0, "what was counted is told apart from what was reported");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back_in_the_form_that_was_asked_for() {
    for (kind, path) in [(Kind::OpenAi, CHAT), (Kind::Anthropic, "/v1/messages")] {
        let standin = standin(kind).await;
        for (retry, sign) in [
            (RetryForm::Seconds, "retry-after: 2"),
            (RetryForm::HttpDate, " GMT"),
            (RetryForm::Milliseconds, "retry-after-ms: 1500"),
            (RetryForm::ResetHeaders, "ratelimit-"),
        ] {
            standin.behave(always(Ugly::RateLimited { retry, seconds: 1.5 }));
            let (status, head, _) = ask(standin.address(), path, &chat("x", false)).await;
            assert_eq!(status, 429);
            assert!(head.contains(sign), "{retry:?}: {head}");
        }
        standin.behave(always(Ugly::RateLimited { retry: RetryForm::BodyOnly, seconds: 1.5 }));
        let (_, head, body) = ask(standin.address(), path, &chat("x", false)).await;
        assert!(
            !head.contains("retry-after") && String::from_utf8_lossy(&body).contains("try again in 1.5s")
        );
    }
    let gemini = standin(Kind::Gemini).await;
    gemini.behave(always(Ugly::RateLimited { retry: RetryForm::BodyOnly, seconds: 34.0 }));
    let (_, value) = asked(gemini.address(), "/v1beta/models/m:generateContent", &json!({})).await;
    assert_eq!(value["error"]["details"][0]["retryDelay"], "34s");
}

#[tokio::test]
async fn a_broken_server_answers_with_anything() {
    let standin = standin(Kind::Anthropic).await;
    for (body, is_json) in [
        (ServerErrorBody::Json, true),
        (ServerErrorBody::Html, false),
        (ServerErrorBody::Partial, false),
        (ServerErrorBody::Empty, false),
    ] {
        standin.behave(always(Ugly::ServerError { status: 502, body }));
        let (status, _, bytes) = ask(standin.address(), "/v1/messages", &json!({})).await;
        assert_eq!((status, serde_json::from_slice::<Value>(&bytes).is_ok()), (502, is_json), "{body:?}");
    }
    standin.behave(always(Ugly::Overloaded));
    assert_eq!(ask(standin.address(), "/v1/messages", &json!({})).await.0, 529);
}

#[tokio::test]
async fn chaos_is_mixed_by_its_seed_and_counted_from_its_beginning() {
    let standin = standin(Kind::OpenAi).await;
    let rule = |when: When| Rule { when, path: Some("/chat/".into()), ugly: Ugly::Overloaded };
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        standin.behave(Behaviour {
            seed,
            ugly: vec![rule(When::Fraction(0.5)), rule(When::Nth(vec![1]))],
            ..Behaviour::default()
        });
        let mut statuses = Vec::new();
        for _ in 0..32 {
            statuses.push(ask(standin.address(), CHAT, &chat("x", false)).await.0);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    assert_eq!(runs[2][0], 503, "the first is named");
    let failures = runs[0].iter().filter(|status| **status == 503).count();
    assert!((6..=26).contains(&failures), "{failures} of 32 failed");
}

#[tokio::test]
async fn what_came_is_told_without_secrets_and_with_what_became_of_it() {
    let standin = standin(Kind::OpenAi).await;
    ask(standin.address(), CHAT, &chat("Hello", false)).await;
    let told = parted(&raw(standin.address(), "GET", "/__requests", &Value::Null).await.0).2;
    assert!(!String::from_utf8_lossy(&told).contains("standin-key"));
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    let first = &told["requests"][0];
    assert_eq!(
        (&first["path"], &first["status"], &first["is_complete"]),
        (&json!(CHAT), &json!(200), &json!(true))
    );
    assert_eq!(first["body"]["messages"][0]["content"], "Hello");
    assert_eq!(first["headers"]["authorization"], "(hidden)");
    assert!(first["tally"]["output"].as_u64() > Some(0));

    // A client that leaves in the middle is noticed, also while nothing is written.
    standin.behave(Behaviour { tokens_per_second: Some(20.0), ..Behaviour::default() });
    let mut stream = TcpStream::connect(standin.address()).await.expect("it listens");
    let body = chat("count to 500", true).to_string();
    stream.write_all(written("POST", CHAT, &body).as_bytes()).await.expect("it reads");
    stream.read_exact(&mut [0; 600]).await.expect("it answers");
    drop(stream);
    for _ in 0..100 {
        if standin.requests().last().is_some_and(|last| last.client_left) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody noticed");
}

#[tokio::test]
async fn a_repeated_beginning_is_cached_by_the_rules_that_were_set() {
    let standin = standin(Kind::OpenAi).await;
    standin
        .behave(Behaviour { cache: CacheRules { min_tokens: 4, block_tokens: 4 }, ..Behaviour::default() });
    let ask = chat("one two three four five six seven eight nine ten", false);
    let mut cached = Vec::new();
    for _ in 0..2 {
        cached.push(
            asked(standin.address(), CHAT, &ask).await.1["usage"]["prompt_tokens_details"]["cached_tokens"]
                .clone(),
        );
    }
    assert_eq!(cached, [json!(0), json!(8)]);
}

#[tokio::test]
async fn pace_is_kept() {
    let standin = standin(Kind::OpenAi).await;
    standin.behave(Behaviour {
        time_to_first_token_ms: 60,
        tokens_per_second: Some(100.0),
        ..Behaviour::default()
    });
    let began = std::time::Instant::now();
    ask(standin.address(), CHAT, &chat("count to 20", true)).await;
    let took = began.elapsed();
    // 20 tokens with 19 pauses of 10 ms; a busy machine may take longer, never less.
    assert!(took >= Duration::from_millis(60 + 190), "{took:?}");
}

#[tokio::test]
async fn the_fast_one_answers_one_after_the_other_on_one_connection() {
    let (to, task) = Standin::start_fast(ANYWHERE, FastSettings { tokens: 3, ..FastSettings::default() })
        .await
        .expect("a port");
    let values = asked_keeping(to, &["/v1/chat/completions", "/v1/messages"]).await;
    let spent = (&values[0]["usage"]["completion_tokens"], &values[1]["usage"]["output_tokens"]);
    assert_eq!(spent, (&json!(3), &json!(3)));
    task.abort();
}

/// Asks several times on one connection.
async fn asked_keeping(to: SocketAddr, paths: &[&str]) -> Vec<Value> {
    let mut stream = TcpStream::connect(to).await.expect("it listens");
    let mut values = Vec::new();
    for path in paths {
        let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut bytes = Vec::new();
        loop {
            stream.read_buf(&mut bytes).await.expect("it answers");
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            if let Ok(value) = serde_json::from_slice(&bytes[end + 4..]) {
                values.push(value);
                break;
            }
        }
    }
    values
}
