//! How do server-sent events carry an answer, and how is the whole answer got back from them?

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The event that ends a stream which ended well, and no other.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// An event larger than this is not one of ours, and no answer needs it.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Returns `value` as JSON. Wire types are plain data, so writing them cannot fail.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types are plain data with text keys")
}

/// Returns one event, ready for the socket.
pub(super) fn frame<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = b"data: ".to_vec();
    serde_json::to_writer(&mut bytes, value).expect("wire types are plain data with text keys");
    bytes.extend_from_slice(b"\n\n");
    bytes
}

/// Returns the last event of an answer that broke.
pub(super) fn error_frame(trouble: &crate::Trouble) -> Vec<u8> {
    let mut bytes = b"data: ".to_vec();
    bytes.append(&mut super::error_to_json(trouble));
    bytes.extend_from_slice(b"\n\n");
    bytes
}

/// Why a stream gave no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the stream ended without [DONE]")]
    Unfinished,
    #[error("the server said: {0}")]
    Error(String),
    #[error("an event that is no chunk of this kind: {0}")]
    NotAChunk(String),
    #[error("an event above {EVENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("something came after [DONE]")]
    AfterDone,
}

/// A whole answer that can be folded from its chunks.
pub trait Fold: Default {
    type Chunk: DeserializeOwned;
    /// Adds what the chunk says, or says why it contradicts what came before.
    fn fold(&mut self, chunk: Self::Chunk) -> Result<(), String>;
    /// Says why the answer is not whole yet, though the stream ended well.
    fn check(&self) -> Result<(), String>;
}

/// Folds a stream, fed in pieces of any size, back into the whole reply: the twin of `Reply::to_json`.
#[derive(Debug)]
pub struct Accumulator<Reply: Fold> {
    reply: Reply,
    /// The line that has not ended yet; at most [`EVENT_BYTES_MAX`].
    line: Vec<u8>,
    data: Vec<u8>,
    done: bool,
    broken: Option<Broken>,
}

impl<Reply: Fold> Default for Accumulator<Reply> {
    fn default() -> Self {
        Self { reply: Reply::default(), line: Vec::new(), data: Vec::new(), done: false, broken: None }
    }
}

impl<Reply: Fold> Accumulator<Reply> {
    pub fn new() -> Self {
        Self::default()
    }
    /// Takes the next bytes of the body. After the first error the rest is not looked at.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.broken.is_none() {
                self.line.extend_from_slice(piece);
                if let Err(broken) = self.end_of_piece(piece.ends_with(b"\n")) {
                    self.broken = Some(broken);
                }
            }
        }
        self.broken.clone().map_or(Ok(()), Err)
    }
    /// Returns the whole reply, if the stream ended well and nothing is missing.
    pub fn finish(self) -> Result<Reply, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        if !self.done {
            return Err(Broken::Unfinished);
        }
        self.reply.check().map_err(Broken::NotAChunk)?;
        Ok(self.reply)
    }
    fn end_of_piece(&mut self, line_ended: bool) -> Result<(), Broken> {
        if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
            return Err(Broken::TooLarge);
        }
        if !line_ended {
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return if data.is_empty() { Ok(()) } else { self.event(&data) };
        }
        // Other fields (`event:`, `id:`) and comments (`: ping`) carry nothing that is folded.
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        Ok(())
    }
    fn event(&mut self, data: &[u8]) -> Result<(), Broken> {
        if self.done {
            return Err(Broken::AfterDone);
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let not_a_chunk = |error: serde_json::Error| Broken::NotAChunk(error.to_string());
        let value: Value = serde_json::from_slice(data).map_err(not_a_chunk)?;
        if let Some(error) = value.get("error") {
            let message = error.get("message").and_then(Value::as_str).map(str::to_owned);
            return Err(Broken::Error(message.unwrap_or_else(|| error.to_string())));
        }
        // Read from the bytes once more: going through `Value` would change the digits of 32-bit numbers.
        let chunk: Reply::Chunk = serde_json::from_slice(data).map_err(not_a_chunk)?;
        self.reply.fold(chunk).map_err(Broken::NotAChunk)
    }
}
