//! How fast can an answer be? Fixed bytes, no JSON read or written: what a benchmark of overhead puts behind a gateway.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::http::find;

/// A request is a head and a body of at most so many bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct FastSettings {
    /// Before the first byte of an answer.
    pub delay: Duration,
    /// Pause between the chunks of a stream; none sends all in one write.
    pub between_chunks: Duration,
    /// Tokens of an answer: as many chunks has a stream.
    pub tokens: usize,
}

impl Default for FastSettings {
    fn default() -> Self {
        Self { delay: Duration::ZERO, between_chunks: Duration::ZERO, tokens: 16 }
    }
}

/// The bytes of all answers, made once.
#[derive(Debug)]
struct Answers {
    chat: Vec<u8>,
    chat_stream: Vec<Vec<u8>>,
    messages: Vec<u8>,
    messages_stream: Vec<Vec<u8>>,
    settings: FastSettings,
}

pub async fn serve(listener: TcpListener, settings: FastSettings) {
    let answers = Arc::new(Answers::new(settings));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answers = Arc::clone(&answers);
        connections.spawn(async move { converse(stream, &answers).await });
    }
}

async fn converse(mut stream: TcpStream, answers: &Answers) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let head = loop {
            if let Some(place) = find(&buffer, b"\r\n\r\n") {
                break place + 4;
            }
            (buffer.len() < REQUEST_BYTES_MAX).then_some(())?;
            (stream.read_buf(&mut buffer).await.ok()? > 0).then_some(())?;
        };
        let end = head + content_length(&buffer[..head])?;
        (end <= REQUEST_BYTES_MAX).then_some(())?;
        while buffer.len() < end {
            (stream.read_buf(&mut buffer).await.ok()? > 0).then_some(())?;
        }
        let streams = find(&buffer[head..end], b"\"stream\":true")
            .or(find(&buffer[head..end], b"\"stream\": true"))
            .is_some();
        let is_messages = find(&buffer[..head.min(64)], b"/messages").is_some();
        buffer.drain(..end);
        if !answers.settings.delay.is_zero() {
            tokio::time::sleep(answers.settings.delay).await;
        }
        match (streams, is_messages) {
            (false, false) => stream.write_all(&answers.chat).await.ok()?,
            (false, true) => stream.write_all(&answers.messages).await.ok()?,
            (true, false) => answers.pour(&mut stream, &answers.chat_stream).await?,
            (true, true) => answers.pour(&mut stream, &answers.messages_stream).await?,
        }
    }
}

/// Returns the length of the body; a chunked one is not read here.
fn content_length(head: &[u8]) -> Option<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
            return std::str::from_utf8(&line[15..]).ok()?.trim().parse().ok();
        }
    }
    Some(0)
}

impl Answers {
    fn new(settings: FastSettings) -> Self {
        let tokens = settings.tokens.max(1);
        let text = " word".repeat(tokens);
        let usage =
            format!(r#"{{"prompt_tokens":8,"completion_tokens":{tokens},"total_tokens":{}}}"#, tokens + 8);
        let chat = format!(
            r#"{{"id":"chatcmpl-fast","object":"chat.completion","created":1700000000,"model":"fast","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{usage},"service_tier":"default","system_fingerprint":"fp_fast"}}"#
        );
        let chunk = |delta: &str, finish: &str| {
            let envelope = r#""id":"chatcmpl-fast","object":"chat.completion.chunk","created":1700000000,"model":"fast""#;
            format!(
                "data: {{{envelope},\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
            )
        };
        let mut chunks = vec![chunk(r#"{"role":"assistant","content":""}"#, "null")];
        chunks.extend((0..tokens).map(|_| chunk(r#"{"content":" word"}"#, "null")));
        chunks.push(chunk("{}", "\"stop\""));
        chunks.push(format!(
            "data: {{\"id\":\"chatcmpl-fast\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"fast\",\"choices\":[],\"usage\":{usage}}}\n\n"
        ));
        chunks.push("data: [DONE]\n\n".into());
        let spent = |output: usize| {
            format!(
                r#"{{"input_tokens":8,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output}}}"#
            )
        };
        let message = |content: &str, stop: &str, output: usize| {
            format!(
                r#"{{"id":"msg_fast","type":"message","role":"assistant","model":"fast","content":{content},"stop_reason":{stop},"stop_sequence":null,"usage":{}}}"#,
                spent(output)
            )
        };
        let messages = message(&format!(r#"[{{"type":"text","text":"{text}"}}]"#), "\"end_turn\"", tokens);
        let event =
            |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
        let mut events = vec![
            event("message_start", &format!(",\"message\":{}", message("[]", "null", 1))),
            event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        ];
        let delta =
            event("content_block_delta", r#","index":0,"delta":{"type":"text_delta","text":" word"}"#);
        events.extend((0..tokens).map(|_| delta.clone()));
        events.push(event("content_block_stop", r#","index":0"#));
        let last = format!(
            r#","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{}"#,
            spent(tokens)
        );
        events.push(event("message_delta", &last));
        events.push(event("message_stop", ""));
        let one_write = settings.between_chunks.is_zero();
        Self {
            chat: whole(&chat),
            chat_stream: streamed(&chunks, one_write),
            messages: whole(&messages),
            messages_stream: streamed(&events, one_write),
            settings,
        }
    }

    async fn pour(&self, stream: &mut TcpStream, writes: &[Vec<u8>]) -> Option<()> {
        for (place, bytes) in writes.iter().enumerate() {
            if place > 0 && !self.settings.between_chunks.is_zero() {
                tokio::time::sleep(self.settings.between_chunks).await;
            }
            stream.write_all(bytes).await.ok()?;
        }
        Some(())
    }
}

fn whole(json: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    )
    .into_bytes()
}

/// Returns the writes: the head with the first event, the end with the last.
fn streamed(events: &[String], one_write: bool) -> Vec<Vec<u8>> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut writes: Vec<Vec<u8>> = Vec::new();
    for (place, event) in events.iter().enumerate() {
        let before = if place == 0 { head } else { "" };
        let after = if place + 1 == events.len() { "0\r\n\r\n" } else { "" };
        writes.push(format!("{before}{:x}\r\n{event}\r\n{after}", event.len()).into_bytes());
    }
    match one_write {
        true => vec![writes.concat()],
        false => writes,
    }
}
