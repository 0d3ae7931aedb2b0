//! How much may one client, and all clients together, take from this server?

use std::time::Duration;

/// Every bound of the door, with the reason for its default. Sizes are in bytes unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. Further ones wait in the kernel's own backlog until one closes, so a burst is served late
    /// rather than refused. 4,096: each costs a socket and at most [`Limits::connection_buffer_bytes`] twice.
    pub connections: usize,
    /// Bytes that one connection buffers while it reads, and while it writes. 64 KiB: larger headers are refused by
    /// status 431, and a slow reader is noticed early.
    pub connection_buffer_bytes: usize,
    /// Requests under way at once on one HTTP/2 connection. 128: what common clients assume.
    pub streams_per_connection: u32,
    /// From a request's first byte to the end of its headers; also how long a new connection may stay silent. 10 s: a
    /// slow line needs two, whoever needs longer holds a place on purpose.
    pub header_timeout: Duration,
    /// How long a connection may rest between two requests. 75 s: longer than the 60 s after which usual load balancers
    /// drop it, so that they close first and never send into a closing connection.
    pub idle_timeout: Duration,
    /// From the end of the headers to the end of the body. 30 s: 10 MiB on a 3 Mbit/s line.
    pub body_timeout: Duration,
    /// The largest body. 10 MiB: a context of a million tokens as JSON is half of it.
    pub body_bytes: usize,
    /// All bodies that are being read or understood, together. 256 MiB: above it new bodies are refused by 503.
    pub bodies_bytes: usize,
    /// A body that is too large is still read and thrown away, up to this, because most clients hear the refusal only
    /// after they have sent everything. 128 MiB: above it the connection is closed in their face.
    pub discarded_bytes: u64,
    /// Larger bodies are understood on a thread that may block. 64 KiB: JSON of that size takes a third of a millisecond.
    pub parse_inline_bytes: usize,
    /// Text that one request may ask to be tokenized. 4 MiB: about a million tokens, seconds of one core.
    pub prompt_bytes: usize,
    /// Shorter texts are tokenized where they are read, about a millisecond; longer ones on a thread that may block.
    pub tokenize_inline_bytes: usize,
    /// Memory that remembers which units have seen which prompts. 16 MiB: about 600,000 blocks of 1 KiB of prompt.
    pub warm_index_bytes: usize,
    /// Long texts that are understood or tokenized at once, because each takes a core from the engine. 2.
    pub tokenizers: usize,
    /// Generations under way at once, queued ones included. 1,024: beyond the engine's own queue, waiting has no purpose.
    pub requests: usize,
    /// Sequences that one request may ask for: prompts times choices. 128, OpenAI's own bound for `n`.
    pub works_per_request: usize,
    /// From a request's arrival to the end of its answer. 900 s: 15 minutes at 10 tokens a second are 9,000 tokens.
    pub request_timeout: Duration,
    /// How long a client may leave everything buffered for it unread. 30 s: more than any network hiccup.
    pub slow_reader_timeout: Duration,
    /// Bytes of one streamed answer that wait for the client, on top of the connection's buffer. 256 KiB.
    pub response_buffer_bytes: usize,
    /// A stream without news carries a comment this often, so that proxies keep it and a lost client is noticed. 15 s:
    /// half of the shortest usual proxy timeout.
    pub ping_interval: Duration,
    /// How long running answers may go on after the shutdown began. 30 s: what service managers usually wait for.
    pub drain: Duration,
    /// How long what was cut at the end of the drain may take to be booked and told. 10 s: twice the ledger's own wait.
    pub farewell: Duration,
    /// The most output tokens that are held for a sequence before it starts; an answer that uses more is booked in full
    /// all the same. 1,024: the worst case would block accounts that can well pay (a `max_tokens` is rarely reached).
    pub hold_output_tokens: u32,
    /// How long a key's lookup may be reused: the longest that a revoked key still opens. 1 s.
    pub key_reuse: Duration,
    /// Lookups of keys that are kept. 4,096, of at most 600 bytes each.
    pub keys_cached: usize,
    /// How long a settlement that the ledger could not take is tried again, after the client was told. 60 s; then the hold
    /// stays open, and whoever expires holds finds it.
    pub settle_retry: Duration,
    /// What a refusal for lack of room tells the client to wait. 1 s: places free up at the pace of whole answers.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            connections: 4_096,
            connection_buffer_bytes: 64 << 10,
            streams_per_connection: 128,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            body_bytes: 10 * MIB,
            bodies_bytes: 256 * MIB,
            discarded_bytes: 128 << 20,
            parse_inline_bytes: 64 << 10,
            prompt_bytes: 4 * MIB,
            tokenize_inline_bytes: 4 << 10,
            warm_index_bytes: 16 << 20,
            tokenizers: 2,
            requests: 1_024,
            works_per_request: 128,
            request_timeout: Duration::from_secs(900),
            slow_reader_timeout: Duration::from_secs(30),
            response_buffer_bytes: 256 << 10,
            ping_interval: Duration::from_secs(15),
            drain: Duration::from_secs(30),
            farewell: Duration::from_secs(10),
            hold_output_tokens: 1_024,
            key_reuse: Duration::from_secs(1),
            keys_cached: 4_096,
            settle_retry: Duration::from_secs(60),
            retry_after: Duration::from_secs(1),
        }
    }
}
