//! How is an upstream asked in its own dialect, and how is its answer read?
//!
//! ```text
//! Ask ─▶ Upstream::request ─▶ (gateway sends) ─▶ Reader::feed ─▶ AnswerEvents ─▶ the client's Writer
//! client's own bytes ─▶ Upstream::passed ─▶ …      where both speak the same dialect: unknown fields survive
//! ```

use std::time::Duration;

use domain::{AnswerEvent, Ask, EmbedAsk};

use crate::openai::embeddings::Embeddings;

/// One wire format, from the asking side.
pub trait Upstream: Send + Sync {
    /// The dialect's name, as [`crate::Form::dialect`] has it.
    fn name(&self) -> &'static str;
    /// Returns the request in this dialect, or what of the ask it has no words for.
    fn request(&self, ask: &Ask, target: &Target<'_>) -> Result<WireRequest, Untellable>;
    /// Returns the client's own request for this upstream: only the model's name is another, and usage is asked for.
    fn passed(&self, original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable>;
    /// Returns what reads the answer. A reader of whole answers gives the same events as one of streams.
    fn reader(&self, is_stream: bool) -> Box<dyn Reader>;
    /// Returns what an answer of an error's status means.
    fn fault(&self, answer: &ErrorAnswer<'_>) -> Fault;
    /// Returns a request for embeddings, where the dialect has any.
    fn embed(&self, _: &EmbedAsk, _: &Target<'_>) -> Result<WireRequest, Untellable> {
        Err(Untellable { what: "embeddings".into(), why: format!("{} has none", self.name()) })
    }
    /// Reads the answer to a request for embeddings of so many inputs.
    fn embedded(&self, body: &[u8], inputs: usize) -> Result<Embeddings, BadAnswer> {
        Embeddings::read(body, inputs)
    }
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The upstream's own name of the model.
    pub model: &'a str,
    /// Ask for the answer as it grows.
    pub stream: bool,
}

/// A request, ready to be signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireRequest {
    /// Path and query below the provider's base URL, such as `/v1/messages`.
    pub path: String,
    /// Headers that belong to the dialect; keys and signatures are added by whoever sends.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// What an upstream's dialect has no words for: the request must go elsewhere, or be refused by name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{what}' cannot be said to this upstream: {why}")]
pub struct Untellable {
    /// The field of the request.
    pub what: String,
    pub why: String,
}

/// Reads one answer's body, whole or streamed, fed in pieces of any size.
pub trait Reader: Send {
    /// Adds the events that these bytes complete.
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer>;
    /// Adds what the body's end completes. An answer that did not say its own end is no good answer.
    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer>;
    /// Whether a stream has said its own end: what may still follow is its usage and its last mark. Whoever passes an answer on
    /// holds the end back until it is booked, and waits for the rest only for a moment.
    fn is_over(&self) -> bool;
}

/// Why an answer is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    #[error("the upstream's answer is not what its dialect writes: {0}")]
    Malformed(String),
    #[error("the upstream's answer ended before its end")]
    Unfinished,
    #[error("the upstream's answer has an event above {0} bytes")]
    TooLarge(usize),
    /// The upstream itself says that it failed.
    #[error("the upstream failed: {0}")]
    Fault(Fault),
}

/// An answer whose status says that something is wrong.
#[derive(Clone, Copy, Debug)]
pub struct ErrorAnswer<'a> {
    pub status: u16,
    /// Lower-case names.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    /// Seconds since 1970, for dates in `retry-after`.
    pub now: u64,
}

/// What went wrong at an upstream, in whose words, and whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub kind: FaultKind,
    /// The upstream's own words, bounded; they hold no secret of ours.
    pub message: String,
    /// The upstream's own code.
    pub code: Option<String>,
    pub param: Option<String>,
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The client's request is wrong, wherever it goes.
    BadRequest,
    /// The prompt is longer than this model takes; another may take it.
    ContextOverflow,
    /// The upstream will not answer this; another might.
    ContentFiltered,
    /// Our credentials are wrong or not enough: ours to mend, not the client's.
    Credentials,
    /// The upstream does not know the model we named.
    UnknownModel,
    /// Too many requests or tokens for now.
    RateLimited,
    /// The account with the upstream has nothing left.
    QuotaExhausted,
    Overloaded,
    Server,
    Timeout,
}

impl FaultKind {
    /// Whether the client caused it, so that no other upstream can help and no breaker opens.
    pub fn is_clients(self) -> bool {
        matches!(self, Self::BadRequest)
    }
    /// Whether it says that the upstream is not well.
    pub fn is_sickness(self) -> bool {
        matches!(self, Self::Overloaded | Self::Server | Self::Timeout)
    }
}

impl Fault {
    /// The longest message that is passed on.
    pub const MESSAGE_CHARS_MAX: usize = 1_000;

    pub fn new(kind: FaultKind, message: &str) -> Self {
        let message = message.chars().take(Self::MESSAGE_CHARS_MAX).collect();
        Self { kind, message, code: None, param: None, retry_after: None }
    }
}
