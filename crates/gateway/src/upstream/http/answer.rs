//! What does an upstream's answer say, piece by piece, and when is it broken?
//!
//! An answer begins to count with its first word: until then another unit may be asked, and the client knows nothing. So
//! [`UpstreamAnswer::begin`] waits for that word, and keeps what came with it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use dialect::sse::Splitter;
use dialect::{BadAnswer, Fault, FaultKind, Reader, Target, Upstream, WireRequest};
use domain::AnswerEvent;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{HttpProvider, connect};

/// Why an upstream gave no answer, or no whole one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    #[error("no connection came to be: {0}")]
    Unreachable(String),
    #[error("nothing came within {} s", .waited.as_secs_f32())]
    Silent { waited: Duration },
    #[error("the answer stood still for {} s", .waited.as_secs_f32())]
    Stalled { waited: Duration },
    #[error("the connection broke: {0}")]
    Broke(String),
    #[error("its answer cannot be read: {0}")]
    Malformed(String),
    #[error("its answer ended before its end")]
    Unfinished,
    /// An error's status.
    #[error("it answered {status}: {fault}")]
    Status { status: u16, fault: Fault },
    /// A good status, and then an error.
    #[error("it failed: {0}")]
    Said(Fault),
    #[error("the credentials for it cannot be had: {0}")]
    Credentials(String),
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
}

/// A piece of an answer: what it says and, where the client shall have the upstream's own bytes, those.
#[derive(Debug, Default, PartialEq)]
pub struct Piece {
    pub raw: Vec<u8>,
    pub events: Vec<AnswerEvent>,
    /// From here on it says how it ended.
    pub is_over: bool,
}

/// An answer that has begun.
pub struct UpstreamAnswer {
    body: Incoming,
    reader: Box<dyn Reader>,
    /// Cuts the body into events that are passed on one by one; nothing where they are not passed on.
    splitter: Option<Splitter>,
    /// A whole answer, kept to be passed on.
    whole: Option<Vec<u8>>,
    ready: VecDeque<Piece>,
    bytes: usize,
    has_ended: bool,
    stall: Duration,
}

/// How long what may follow an answer's end is waited for: its usage comes at once, or never.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// A whole answer above this is no answer to a request that we understand.
const WHOLE_BYTES_MAX: usize = 64 << 20;
/// And no event of a stream is larger.
const EVENT_BYTES_MAX: usize = 16 << 20;

impl From<BadAnswer> for Failure {
    fn from(bad: BadAnswer) -> Self {
        match bad {
            BadAnswer::Malformed(why) => Self::Malformed(why),
            BadAnswer::TooLarge(bytes) => Self::Malformed(format!("it has an event above {bytes} bytes")),
            BadAnswer::Unfinished => Self::Unfinished,
            BadAnswer::Fault(fault) => Self::Said(fault),
        }
    }
}

impl Failure {
    /// Returns what the upstream itself says of it.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Status { fault, .. } | Self::Said(fault) => Some(fault),
            _ => None,
        }
    }

    /// Returns what it says of the unit.
    pub fn outcome(&self) -> fleet::Outcome {
        use fleet::{Fault as Sickness, Outcome};
        match self {
            Self::Unreachable(_) => Outcome::Failed(Sickness::Connect),
            Self::Silent { .. } => Outcome::Failed(Sickness::Timeout),
            Self::Stalled { .. } => Outcome::Failed(Sickness::Stall),
            Self::Broke(_) => Outcome::Failed(Sickness::Reset),
            Self::Malformed(_) | Self::Unfinished => Outcome::Failed(Sickness::Malformed),
            Self::Credentials(_) => Outcome::Failed(Sickness::Server),
            Self::Unsendable(_) => Outcome::ClientFault,
            Self::Status { fault, .. } | Self::Said(fault) => match fault.kind {
                FaultKind::RateLimited | FaultKind::QuotaExhausted => {
                    Outcome::RateLimited { retry_after: fault.retry_after }
                }
                FaultKind::Timeout => Outcome::Failed(Sickness::Timeout),
                FaultKind::Overloaded
                | FaultKind::Server
                | FaultKind::Credentials
                | FaultKind::UnknownModel => Outcome::Failed(Sickness::Server),
                FaultKind::BadRequest | FaultKind::ContextOverflow | FaultKind::ContentFiltered => {
                    Outcome::ClientFault
                }
            },
        }
    }

    /// Whether another unit may do better. A request that is wrong is wrong everywhere.
    pub fn is_worth_another(&self) -> bool {
        !self.fault().is_some_and(|fault| fault.kind.is_clients())
    }
}

impl UpstreamAnswer {
    /// Sends a request and waits for the answer's first words. `passes` keeps the upstream's bytes for the client.
    pub async fn begin(
        provider: &HttpProvider,
        dialect: &dyn Upstream,
        wire: WireRequest,
        target: Target<'_>,
        extra: &[(HeaderName, HeaderValue)],
        passes: bool,
    ) -> Result<Self, Failure> {
        let deadline = Instant::now() + provider.timeouts.first;
        let answer = provider.send(dialect, wire, target.model, extra).await?;
        // Some servers answer a request for a stream with a whole answer, or with an error of a good status.
        let is_stream = target.stream && !is_json(&answer);
        if !is_stream && target.stream && passes {
            return Err(Failure::Malformed("it was asked for a stream and answered with a whole".into()));
        }
        let mut begun = Self {
            reader: dialect.reader(is_stream),
            splitter: (is_stream && passes).then(|| Splitter::new(EVENT_BYTES_MAX)),
            whole: (!is_stream && passes).then(Vec::new),
            body: answer.into_body(),
            ready: VecDeque::new(),
            bytes: 0,
            has_ended: false,
            stall: provider.timeouts.stall,
        };
        let says_something = |piece: &Piece| {
            piece
                .events
                .iter()
                .any(|event| matches!(event, AnswerEvent::Delta { .. } | AnswerEvent::Finished { .. }))
        };
        while !begun.has_ended && !begun.ready.iter().any(says_something) {
            match tokio::time::timeout_at(deadline, begun.read()).await {
                Ok(read) => read?,
                Err(_) => return Err(Failure::Silent { waited: provider.timeouts.first }),
            }
        }
        Ok(begun)
    }

    /// Returns the next piece; nothing after the answer's good end.
    pub async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.has_ended {
                return Ok(None);
            }
            // Some servers leave the connection open behind their last word.
            let is_over = self.reader.is_over();
            let wait = if is_over { self.stall.min(LAST_WORDS) } else { self.stall };
            match tokio::time::timeout(wait, self.read()).await {
                Ok(read) => read?,
                Err(_) if is_over => self.end()?,
                Err(_) => return Err(Failure::Stalled { waited: wait }),
            }
        }
    }

    /// Returns what has already been read, without waiting for more.
    pub fn next_ready(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }

    /// Returns a whole answer's own bytes.
    pub fn take_whole(&mut self) -> Option<Vec<u8>> {
        self.whole.take()
    }

    /// Reads on: adds at least one piece, or nothing, or notes the good end.
    async fn read(&mut self) -> Result<(), Failure> {
        match self.body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.take(&data),
                Err(_) => Ok(()), // Trailers say nothing here.
            },
            Some(Err(error)) => Err(Failure::Broke(connect::cause(&error))),
            None => self.end(),
        }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), Failure> {
        self.bytes += data.len();
        if let Some(splitter) = &mut self.splitter {
            let frames = splitter.feed(data).map_err(|error| Failure::Malformed(error.to_string()))?;
            for frame in frames {
                let mut events = Vec::new();
                let fed = self.reader.feed(&frame.raw, &mut events);
                // What came before the trouble is still passed on.
                let raw = if fed.is_ok() { frame.raw } else { Vec::new() };
                let is_over = self.reader.is_over();
                self.ready.push_back(Piece { raw, events, is_over });
                fed?;
            }
            return Ok(());
        }
        if let Some(whole) = &mut self.whole {
            whole.extend_from_slice(data);
        }
        if self.bytes > WHOLE_BYTES_MAX && self.whole.is_some() {
            return Err(Failure::Malformed(format!("it is larger than {WHOLE_BYTES_MAX} bytes")));
        }
        let mut events = Vec::new();
        let fed = self.reader.feed(data, &mut events);
        if !events.is_empty() {
            self.ready.push_back(Piece { events, ..Piece::default() });
        }
        Ok(fed?)
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.has_ended = true;
        let mut last = Piece { is_over: true, ..Piece::default() };
        if let Some(rest) = self.splitter.as_mut().and_then(|splitter| splitter.end().ok().flatten()) {
            self.reader.feed(&rest.raw, &mut last.events)?;
            last.raw = rest.raw;
        }
        self.reader.end(&mut last.events)?;
        if !last.raw.is_empty() || !last.events.is_empty() {
            self.ready.push_back(last);
        }
        Ok(())
    }
}

fn is_json(answer: &Response<Incoming>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("application/json")
}
