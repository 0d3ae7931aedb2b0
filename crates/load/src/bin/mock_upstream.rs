//! How does a provider look that costs next to nothing? The stand-in behind every gateway of `bench/overhead`.
//!
//! `mock_upstream ADDRESS` answers `POST` anywhere as OpenAI's chat does, whole or streamed, as the order in the prompt says.
//! `GET /tally` says what was served so far, so that a gateway's book can be compared with it.

use std::cell::Cell;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use load::drill::Order;
use load::drill::http1::{Body, Head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

#[derive(Default)]
struct Served {
    requests: Cell<u64>,
    prompt_tokens: Cell<u64>,
    completion_tokens: Cell<u64>,
}

/// A body beyond this is a mistake in a definition.
const BODY_BYTES_MAX: usize = 16 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address =
        std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("usage: mock_upstream ADDRESS:PORT"))?;
    let listener = TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let served = Rc::new(Served::default());
    let connections = tokio::task::LocalSet::new();
    connections
        .run_until(async move {
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let served = served.clone();
                // A gateway that goes away ends its connections in any way it likes: that is no error here.
                tokio::task::spawn_local(async move { serve(socket, &served).await });
            }
        })
        .await
}

async fn serve(mut socket: TcpStream, served: &Served) -> std::io::Result<()> {
    let (mut raw, mut body_bytes) = (Vec::with_capacity(8 << 10), Vec::new());
    loop {
        let head = loop {
            match Head::read(&raw) {
                Ok(Some(head)) => break head,
                Ok(None) if socket.read_buf(&mut raw).await? == 0 => return Ok(()),
                Ok(None) => {}
                Err(_) => return Ok(()),
            }
        };
        raw.drain(..head.bytes);
        body_bytes.clear();
        let mut body = Body::new(head.framing);
        while body.take(&mut raw, &mut body_bytes).is_ok() && !body.is_done() {
            if body_bytes.len() > BODY_BYTES_MAX || socket.read_buf(&mut raw).await? == 0 {
                return Ok(());
            }
        }
        answer(&mut socket, &head, &body_bytes, served).await?;
        if head.closes {
            return Ok(());
        }
    }
}

async fn answer(socket: &mut TcpStream, head: &Head, body: &[u8], served: &Served) -> std::io::Result<()> {
    if head.first_line.starts_with("GET /tally") {
        let tally = format!(
            r#"{{"requests":{},"prompt_tokens":{},"completion_tokens":{}}}"#,
            served.requests.get(),
            served.prompt_tokens.get(),
            served.completion_tokens.get()
        );
        return whole(socket, 200, &tally).await;
    }
    let Some(order) = Order::find(body) else {
        return whole(
            socket,
            400,
            r#"{"error":{"message":"no order in the prompt","type":"invalid_request_error"}}"#,
        )
        .await;
    };
    if wants_stream(body) {
        stream(socket, &order).await?;
    } else {
        whole(socket, 200, &completion(&order)).await?;
    }
    // Counted only once all of it was taken: what nobody received is nobody's.
    served.requests.set(served.requests.get() + 1);
    served.prompt_tokens.set(served.prompt_tokens.get() + order.prompt_tokens());
    served.completion_tokens.set(served.completion_tokens.get() + u64::from(order.tokens));
    Ok(())
}

/// Whether the body says `"stream": true`, however it is spaced; reading all of it as JSON would cost more than all the rest.
fn wants_stream(body: &[u8]) -> bool {
    let name = br#""stream""#;
    body.windows(name.len()).enumerate().filter(|(_, window)| window == name).any(|(at, _)| {
        let after: Vec<u8> = body[at + name.len()..]
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .take(5)
            .collect();
        after == b":true"
    })
}

fn completion(order: &Order) -> String {
    format!(
        r#"{{"id":"chatcmpl-{}","object":"chat.completion","created":1780000000,"model":"mock","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{}}}"#,
        order.id,
        order.answer(),
        usage(order)
    )
}

fn usage(order: &Order) -> String {
    let (prompt, completion) = (order.prompt_tokens(), u64::from(order.tokens));
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{}}}"#,
        prompt + completion
    )
}

async fn whole(socket: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).await
}

async fn stream(socket: &mut TcpStream, order: &Order) -> std::io::Result<()> {
    let mut out = String::from(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    event(&mut out, order, r#"{"role":"assistant","content":""}"#, "null", None);
    let mut due = Instant::now() + Duration::from_micros(order.first_us);
    for index in 0..order.tokens {
        let wait = if index == 0 { order.first_us } else { order.pace_us };
        if wait > 0 {
            flush(socket, &mut out).await?;
            sleep_until(due).await;
        }
        event(&mut out, order, &format!(r#"{{"content":"{}"}}"#, order.token(index)), "null", None);
        due += Duration::from_micros(order.pace_us);
    }
    event(&mut out, order, "{}", r#""stop""#, None);
    event(&mut out, order, "", "", Some(&usage(order)));
    chunk(&mut out, "data: [DONE]\n\n");
    out.push_str("0\r\n\r\n");
    flush(socket, &mut out).await
}

fn event(out: &mut String, order: &Order, delta: &str, finish: &str, usage: Option<&str>) {
    let choices = match usage {
        Some(_) => "[]".to_owned(),
        None => format!(r#"[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]"#),
    };
    let usage = usage.unwrap_or("null");
    let id = order.id;
    chunk(
        out,
        &format!(
            "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":1780000000,\"model\":\"mock\",\"choices\":{choices},\"usage\":{usage}}}\n\n"
        ),
    );
}

fn chunk(out: &mut String, text: &str) {
    let _ = write!(out, "{:x}\r\n{text}\r\n", text.len());
}

async fn flush(socket: &mut TcpStream, out: &mut String) -> std::io::Result<()> {
    socket.write_all(out.as_bytes()).await?;
    out.clear();
    Ok(())
}
