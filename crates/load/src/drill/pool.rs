//! How is one request sent over a kept connection, and its answer read and checked?

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::http1::{Body, Head};
use super::order::Order;

/// What is asked, again and again, with another order each time.
#[derive(Debug)]
pub struct Asking {
    address: String,
    /// Head and body, with an order of the right length in it.
    template: Vec<u8>,
    order_at: usize,
    stream: bool,
}

/// Connections that wait for their next request, and how many are busy.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<Vec<Connection>>,
    busy: Cell<usize>,
    pub busy_max: usize,
}

/// One of the requests under way; given back however it ends, also by a timeout.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(busy: &'a Cell<usize>) -> Self {
        busy.set(busy.get() + 1);
        Self(busy)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    raw: Vec<u8>,
    used: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the connection ended early")]
    Early,
    #[error("not HTTP: {0}")]
    Protocol(&'static str),
    #[error("status {0}: {1}")]
    Status(u16, String),
    #[error("not the JSON of an answer: {0}")]
    Json(String),
    #[error("the wrong text: {0:?}")]
    Text(String),
    #[error("the wrong usage: {0}")]
    Usage(String),
    #[error("no finish reason")]
    Unfinished,
    #[error("no [DONE]")]
    NotDone,
    #[error("more than {0} requests under way")]
    Crowded(usize),
}

impl Asking {
    pub fn new(
        url: &str,
        headers: &BTreeMap<String, String>,
        model: &str,
        stream: bool,
        prompt_bytes: usize,
    ) -> anyhow::Result<Self> {
        let rest =
            url.strip_prefix("http://").ok_or_else(|| anyhow::anyhow!("{url:?} must begin with http://"))?;
        let (address, path) = rest.split_once('/').ok_or_else(|| anyhow::anyhow!("{url:?} has no path"))?;
        let order = Order { id: 0, tokens: 0, first_us: 0, pace_us: 0 }.text();
        let filler = "What would you say of a gateway that is asked the same thing all day? ";
        let words: String =
            filler.chars().cycle().take(prompt_bytes.saturating_sub(order.len() + 1)).collect();
        let mut body = serde_json::json!({
            "model": model,
            "messages": [{"role": "system", "content": "You are terse."}, {"role": "user", "content": format!("{words} {order}")}],
            "temperature": 0,
        });
        if stream {
            body["stream"] = true.into();
            body["stream_options"] = serde_json::json!({"include_usage": true});
        }
        let body = body.to_string();
        let mut head =
            format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let template = [head.as_bytes(), body.as_bytes()].concat();
        let order_at = template
            .windows(order.len())
            .rposition(|window| window == order.as_bytes())
            .expect("the order was just written");
        Ok(Self { address: address.to_owned(), template, order_at, stream })
    }

    fn request(&self, order: &Order) -> Vec<u8> {
        let (mut request, text) = (self.template.clone(), order.text());
        request[self.order_at..self.order_at + text.len()].copy_from_slice(text.as_bytes());
        request
    }
}

impl Pool {
    pub fn new(busy_max: usize) -> Self {
        Self { idle: RefCell::new(Vec::new()), busy: Cell::new(0), busy_max }
    }

    /// Sends one request and returns when its first token came and when it ended, both since `due`; anything but the right
    /// answer is an error.
    pub async fn ask(
        &self,
        asking: &Asking,
        order: &Order,
        due: Instant,
        on_first: impl Fn(),
    ) -> Result<(Duration, Duration), Wrong> {
        if self.busy.get() >= self.busy_max {
            return Err(Wrong::Crowded(self.busy_max));
        }
        let _place = Place::take(&self.busy);
        let (first, end) = self.ask_somehow(asking, order, &on_first).await?;
        Ok((first - due, end - due))
    }

    /// A kept connection may have been closed by the other side in the meantime: then a new one is tried, once.
    async fn ask_somehow(
        &self,
        asking: &Asking,
        order: &Order,
        on_first: &impl Fn(),
    ) -> Result<(Instant, Instant), Wrong> {
        let request = asking.request(order);
        let kept = self.idle.borrow_mut().pop();
        if let Some(mut connection) = kept {
            match connection.exchange(&request, asking.stream, order, on_first).await {
                Err(Wrong::Io(_) | Wrong::Early) if connection.raw.is_empty() && !connection.used => {}
                outcome => return self.keep(connection, outcome),
            }
        }
        let socket = TcpStream::connect(&asking.address).await?;
        socket.set_nodelay(true)?;
        let mut connection = Connection { socket, raw: Vec::with_capacity(8 << 10), used: false };
        let outcome = connection.exchange(&request, asking.stream, order, on_first).await;
        self.keep(connection, outcome)
    }

    fn keep(
        &self,
        connection: Connection,
        outcome: Result<(Instant, Instant, bool), Wrong>,
    ) -> Result<(Instant, Instant), Wrong> {
        let (first, end, keeps) = outcome?;
        if keeps {
            self.idle.borrow_mut().push(connection);
        }
        Ok((first, end))
    }
}

impl Connection {
    async fn exchange(
        &mut self,
        request: &[u8],
        stream: bool,
        order: &Order,
        on_first: &impl Fn(),
    ) -> Result<(Instant, Instant, bool), Wrong> {
        self.used = false;
        self.socket.write_all(request).await?;
        let head = loop {
            self.more().await?;
            self.used = true;
            if let Some(head) = Head::read(&self.raw).map_err(Wrong::Protocol)? {
                break head;
            }
        };
        self.raw.drain(..head.bytes);
        let mut body = Body::new(head.framing);
        let mut payload = Vec::new();
        let streams = stream && head.status() == Some(200);
        let mut reading =
            Reading { order, text: String::new(), usage: None, finished: false, done: false, seen: 0 };
        let mut first = None;
        loop {
            body.take(&mut self.raw, &mut payload).map_err(Wrong::Protocol)?;
            if streams {
                reading.lines(&payload)?;
                if first.is_none() && !reading.text.is_empty() {
                    first = Some(Instant::now());
                    on_first();
                }
            }
            if body.is_done() {
                break;
            }
            match self.more().await {
                Err(Wrong::Early) if head.framing == super::http1::Framing::UntilClose => break,
                outcome => outcome?,
            }
        }
        let end = Instant::now();
        match head.status() {
            Some(200) if streams => reading.check_end()?,
            Some(200) => check_whole(&payload, order)?,
            status => {
                let text = String::from_utf8_lossy(&payload).chars().take(160).collect();
                return Err(Wrong::Status(status.unwrap_or(0), text));
            }
        }
        Ok((first.unwrap_or(end), end, !head.closes))
    }

    async fn more(&mut self) -> Result<(), Wrong> {
        match self.socket.read_buf(&mut self.raw).await? {
            0 => Err(Wrong::Early),
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default, alias = "delta")]
    message: Said<'a>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// What an event stream has said so far.
struct Reading<'a> {
    order: &'a Order,
    text: String,
    usage: Option<Usage>,
    finished: bool,
    done: bool,
    /// Bytes of the payload that were read as whole lines.
    seen: usize,
}

impl Reading<'_> {
    fn lines(&mut self, payload: &[u8]) -> Result<(), Wrong> {
        while let Some(end) = payload[self.seen..].iter().position(|byte| *byte == b'\n') {
            let line = &payload[self.seen..self.seen + end];
            self.seen += end + 1;
            let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { continue };
            if data == b"[DONE]" {
                self.done = true;
                continue;
            }
            let event: Event<'_> =
                serde_json::from_slice(data).map_err(|error| Wrong::Json(error.to_string()))?;
            if let Some(error) = event.error {
                return Err(Wrong::Json(format!("an error in the stream: {error}")));
            }
            self.usage = event.usage.or(self.usage);
            if let Some(choice) = event.choices.first() {
                self.text.push_str(choice.message.content.as_deref().unwrap_or_default());
                self.finished |= choice.finish_reason.is_some();
            }
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), Wrong> {
        check(&self.text, self.finished, self.usage, self.order)?;
        if self.done { Ok(()) } else { Err(Wrong::NotDone) }
    }
}

fn check_whole(payload: &[u8], order: &Order) -> Result<(), Wrong> {
    let answer: Event<'_> =
        serde_json::from_slice(payload).map_err(|error| Wrong::Json(error.to_string()))?;
    let choice = answer.choices.first().ok_or_else(|| Wrong::Json("no choice".into()))?;
    let text = choice.message.content.as_deref().unwrap_or_default();
    check(text, choice.finish_reason.is_some(), answer.usage, order)
}

fn check(text: &str, finished: bool, usage: Option<Usage>, order: &Order) -> Result<(), Wrong> {
    if text != order.answer() {
        return Err(Wrong::Text(text.chars().take(40).collect()));
    }
    if !finished {
        return Err(Wrong::Unfinished);
    }
    let expected = Usage { prompt_tokens: order.prompt_tokens(), completion_tokens: order.tokens.into() };
    match usage {
        Some(usage) if usage == expected => Ok(()),
        other => Err(Wrong::Usage(format!("{other:?}"))),
    }
}
