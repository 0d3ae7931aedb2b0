//! How do an answer's bytes reach the socket: in which pieces, how fast, and where do they break off?

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::aws::event_stream;
use super::behaviour::{Behaviour, Plan, ResetHow, Ugly, draw};
use super::http::reason;
use super::reply::{Body, Event, Framing, Part, Reply, Stream};

/// Long enough that two writes are two reads at the other end.
const CUT_PAUSE: Duration = Duration::from_millis(4);

/// What became of an answer.
#[derive(Debug, Default)]
pub struct Sent {
    pub events: u64,
    pub bytes: u64,
    pub client_left: bool,
    pub is_complete: bool,
    /// The connection cannot be used any further.
    pub is_over: bool,
}

/// Why writing ended.
enum Gone {
    Client,
    AsPlanned,
}

struct Wire<'a> {
    stream: &'a mut TcpStream,
    plan: &'a Plan,
    behaviour: &'a Behaviour,
    /// Draws the jitter.
    number: u64,
    pauses: u64,
    written: usize,
    events: u64,
    packed: Option<Vec<u8>>,
    gzip: Option<Gzip>,
}

/// Sends a reply as the plan says.
pub async fn send(
    stream: &mut TcpStream,
    reply: Reply,
    plan: &Plan,
    behaviour: &Behaviour,
    number: u64,
    accepts_gzip: bool,
) -> Sent {
    let gzip = (accepts_gzip && plan.has(&Ugly::Gzip)).then(Gzip::default);
    let packed = plan.has(&Ugly::Packed).then(Vec::new);
    let mut wire = Wire { stream, plan, behaviour, number, pauses: 0, written: 0, events: 0, packed, gzip };
    let result = wire.reply(reply).await;
    let (bytes, events) = (wire.written as u64, wire.events);
    let client_left = matches!(result, Err(Gone::Client));
    Sent { events, bytes, client_left, is_complete: result.is_ok(), is_over: result.is_err() }
}

impl Wire<'_> {
    async fn reply(&mut self, mut reply: Reply) -> Result<(), Gone> {
        self.stall_before(0).await?;
        let content_type = self.plan.find(|ugly| match ugly {
            Ugly::ContentType { value } => Some(value.clone()),
            _ => None,
        });
        if let Some(value) = content_type {
            reply.headers.retain(|(name, _)| *name != "content-type");
            reply.headers.push(("content-type", value));
        }
        if self.gzip.is_some() {
            reply.headers.push(("content-encoding", "gzip".into()));
        }
        match reply.body {
            Body::Whole { bytes, tokens } => {
                let pace = tokens.saturating_sub(1);
                self.wait(self.behaviour.time_to_first_token_ms as f64 + pace as f64 * self.token_ms())
                    .await?;
                let bytes = match &mut self.gzip {
                    Some(gzip) => [gzip.piece(&bytes), gzip.end()].concat(),
                    None => bytes,
                };
                let mut all = head(reply.status, &reply.headers, Some(bytes.len()));
                all.extend(bytes);
                self.write(&all).await
            }
            Body::Stream(stream) => {
                // As providers do: the head leaves when the first event does.
                self.wait(self.behaviour.time_to_first_token_ms as f64).await?;
                self.write(&head(reply.status, &reply.headers, None)).await?;
                self.stream(stream).await
            }
        }
    }

    async fn stream(&mut self, stream: Stream) -> Result<(), Gone> {
        let events = planned(&stream, self.plan);
        let is_array = stream.framing == Framing::JsonArray;
        let mut tokens = 0;
        for (place, event) in events.iter().enumerate() {
            self.stall_before(place + 1).await?;
            if tokens > 0 {
                self.wait(event.tokens as f64 * self.token_ms()).await?;
            }
            tokens += event.tokens;
            let mut bytes = framed(event, stream.framing, self.plan.has(&Ugly::CarriageReturns));
            if is_array {
                bytes.splice(0..0, if place == 0 { b"[".to_vec() } else { b",\r\n".to_vec() });
            }
            let is_malformed = |ugly: &Ugly| matches!(ugly, Ugly::MalformedLine { before_event } if *before_event == place + 1);
            if self.plan.find(|ugly| is_malformed(ugly).then_some(())).is_some() {
                bytes.splice(0..0, b"data: {\"this is\": no JSON\n\n".to_vec());
            }
            if self.plan.has(&Ugly::Comments) && stream.framing == Framing::ServerSent {
                bytes.splice(0..0, b": keep-alive\n\n".to_vec());
            }
            self.chunk(&bytes).await?;
            self.events += 1;
        }
        if is_array {
            self.chunk(b"]").await?;
        }
        if let Some(gzip) = &mut self.gzip {
            let end = gzip.end();
            self.plain_chunk(&end).await?;
        }
        if let Some(packed) = self.packed.take() {
            self.plain_chunk(&packed).await?;
        }
        self.write(b"0\r\n\r\n").await
    }

    async fn chunk(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let bytes = match &mut self.gzip {
            Some(gzip) => gzip.piece(bytes),
            None => bytes.to_vec(),
        };
        match &mut self.packed {
            Some(packed) => {
                packed.extend(bytes);
                Ok(())
            }
            None => self.plain_chunk(&bytes).await,
        }
    }

    async fn plain_chunk(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend(bytes);
        chunk.extend(b"\r\n");
        self.write(&chunk).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let (limit, how) = self
            .plan
            .find(|ugly| if let Ugly::Reset { at_byte, how } = ugly { Some((*at_byte, *how)) } else { None })
            .unwrap_or((usize::MAX, ResetHow::Reset));
        let room = limit.saturating_sub(self.written);
        let (now, ends) = (&bytes[..bytes.len().min(room)], bytes.len() > room || room == 0);
        let size = self.plan.find(|ugly| match ugly {
            Ugly::TinyWrites { bytes } => Some((*bytes, Duration::ZERO)),
            Ugly::SlowDrip { bytes, milliseconds } => Some((*bytes, Duration::from_millis(*milliseconds))),
            _ => None,
        });
        let cut = self.plan.find(|ugly| if let Ugly::Cut { at_byte } = ugly { Some(*at_byte) } else { None });
        let cut =
            cut.and_then(|cut| cut.checked_sub(self.written)).filter(|cut| (1..now.len()).contains(cut));
        let parts: Vec<&[u8]> = match (size, cut) {
            (Some((size, _)), _) => now.chunks(size.max(1)).collect(),
            (None, Some(cut)) => vec![&now[..cut], &now[cut..]],
            (None, None) => vec![now],
        };
        let count = parts.len();
        for (place, part) in parts.into_iter().enumerate() {
            self.stream.write_all(part).await.map_err(|_| Gone::Client)?;
            self.written += part.len();
            match size {
                Some((_, Duration::ZERO)) => tokio::task::yield_now().await,
                Some((_, pause)) => self.wait(pause.as_secs_f64() * 1000.0).await?,
                None if place + 1 < count => sleep(CUT_PAUSE).await,
                None => {}
            }
        }
        if ends {
            // What was written shall arrive: a reset that comes too soon takes it back.
            sleep(CUT_PAUSE).await;
            match how {
                ResetHow::Reset => drop(self.stream.set_zero_linger()),
                ResetHow::Close => drop(self.stream.shutdown().await),
            }
            return Err(Gone::AsPlanned);
        }
        Ok(())
    }

    async fn stall_before(&mut self, event: usize) -> Result<(), Gone> {
        let pause = self.plan.find(|ugly| match ugly {
            Ugly::Stall { before_event, milliseconds } if *before_event == event => Some(*milliseconds),
            _ => None,
        });
        match pause {
            Some(milliseconds) => self.pause(Duration::from_millis(milliseconds)).await,
            None => Ok(()),
        }
    }

    /// Waits about so long; a client that leaves meanwhile is noticed.
    async fn wait(&mut self, milliseconds: f64) -> Result<(), Gone> {
        self.pauses += 1;
        let drawn = draw(self.behaviour.seed ^ self.number << 20, self.pauses) * 2.0 - 1.0;
        let milliseconds = milliseconds * (1.0 + self.behaviour.jitter * drawn);
        self.pause(Duration::from_secs_f64(milliseconds.max(0.0) / 1000.0)).await
    }

    async fn pause(&mut self, length: Duration) -> Result<(), Gone> {
        if length.is_zero() {
            return Ok(());
        }
        let mut byte = [0];
        tokio::select! {
            () = sleep(length) => Ok(()),
            gone = left(self.stream, &mut byte) => { let () = gone; Err(Gone::Client) }
        }
    }

    fn token_ms(&self) -> f64 {
        self.behaviour.tokens_per_second.filter(|rate| *rate > 0.0).map_or(0.0, |rate| 1000.0 / rate)
    }
}

/// Returns when the client has left; never while it stays.
async fn left(stream: &TcpStream, byte: &mut [u8; 1]) {
    match stream.peek(byte).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Returns the events that the plan leaves.
fn planned(stream: &Stream, plan: &Plan) -> Vec<Event> {
    let mut events = stream.events.clone();
    let until_finish =
        |events: &[Event]| events.iter().position(|event| event.part == Part::Finish).unwrap_or(events.len());
    for ugly in &plan.uglies {
        match ugly {
            Ugly::ErrorAfter { events: count } => {
                events.truncate(*count);
                events.extend(stream.broken.clone());
            }
            Ugly::EndEarly { after_events } => {
                let count = after_events.unwrap_or_else(|| until_finish(&events));
                events.truncate(count);
            }
            Ugly::DoneWithoutFinish => {
                events.retain(|event| !matches!(event.part, Part::Finish | Part::Usage))
            }
            Ugly::Comments => {
                if let Some(ping) = &stream.ping {
                    events = events.into_iter().flat_map(|event| [ping.clone(), event]).skip(1).collect();
                }
            }
            _ => {}
        }
    }
    events
}

fn framed(event: &Event, framing: Framing, carriage_returns: bool) -> Vec<u8> {
    let text = match framing {
        Framing::ServerSent => {
            let name = event.name.map(|name| format!("event: {name}\n")).unwrap_or_default();
            format!("{name}data: {}\n\n", event.data)
        }
        Framing::JsonArray => event.data.clone(),
        Framing::Binary => {
            let name = event.name.unwrap_or_default();
            return match event.part {
                Part::Error => event_stream::exception(name, event.data.as_bytes()),
                _ => event_stream::event(name, event.data.as_bytes()),
            };
        }
    };
    match carriage_returns {
        true => text.replace('\n', "\r\n").into_bytes(),
        false => text.into_bytes(),
    }
}

fn head(status: u16, headers: &[(&'static str, String)], length: Option<usize>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    head.into_bytes()
}

/// gzip without compression: stored blocks, which every reader must know.
#[derive(Debug, Default)]
struct Gzip {
    has_begun: bool,
    bytes: Vec<u8>,
}

impl Gzip {
    fn piece(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = match std::mem::replace(&mut self.has_begun, true) {
            true => Vec::new(),
            false => vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255],
        };
        for part in bytes.chunks(usize::from(u16::MAX)) {
            let length = part.len() as u16;
            out.push(0);
            out.extend(length.to_le_bytes());
            out.extend((!length).to_le_bytes());
            out.extend(part);
        }
        self.bytes.extend(bytes);
        out
    }

    fn end(&mut self) -> Vec<u8> {
        let mut out = vec![1, 0, 0, 255, 255];
        out.extend(event_stream::crc32(&self.bytes).to_le_bytes());
        out.extend((self.bytes.len() as u32).to_le_bytes());
        out
    }
}
