//! How does an upstream's body, whole or streamed, come to whoever understands it?

use serde_json::Value;

use domain::AnswerEvent;

use super::fault;
use crate::sse::{Event, Splitter, SseError};
use crate::{BadAnswer, Reader};

/// What understands the objects of one dialect's answers.
pub(super) trait Understand: Send {
    /// Takes the only object of a whole answer.
    fn whole(&mut self, text: &str, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer>;
    /// Takes the data of one event of a stream.
    fn event(&mut self, name: &str, data: &str, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer>;
    /// The body is over: says what that completes, or that something is missing.
    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer>;
    /// Whether the answer has said its own end, so that a torn rest costs nothing.
    fn is_over(&self) -> bool;
    /// Whether the last mark has come, with or without an end: nothing that follows is part of the answer.
    fn is_marked_done(&self) -> bool {
        false
    }
}

/// An event larger than this is no part of an answer.
pub(super) const EVENT_BYTES_MAX: usize = 16 << 20;
/// The largest answer that is kept whole: a batch of embeddings, 2,048 of 3,072 numbers, is about 80 MB of JSON.
pub(super) const WHOLE_BYTES_MAX: usize = 96 << 20;

/// Reads one body for `U`.
pub(super) struct BodyReader<U> {
    framing: Framing,
    understand: U,
    /// A stream's first byte that is not white has come.
    has_begun: bool,
}

enum Framing {
    /// At most [`WHOLE_BYTES_MAX`].
    Whole(Vec<u8>),
    Events(Splitter),
}

impl<U: Understand> BodyReader<U> {
    pub fn new(is_stream: bool, understand: U) -> Self {
        let framing = match is_stream {
            true => Framing::Events(Splitter::new(EVENT_BYTES_MAX)),
            false => Framing::Whole(Vec::new()),
        };
        Self { framing, understand, has_begun: false }
    }

    /// Some servers answer a stream's request with one object, an error for the most part: no event begins with a brace.
    fn notice_a_whole_body(&mut self, bytes: &[u8]) {
        if let (false, Framing::Events(_)) = (self.has_begun, &self.framing)
            && let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            self.has_begun = true;
            if matches!(first, b'{' | b'[') {
                self.framing = Framing::Whole(Vec::new());
            }
        }
    }
}

impl<U: Understand> Reader for BodyReader<U> {
    fn is_over(&self) -> bool {
        self.understand.is_over() || self.understand.is_marked_done()
    }

    fn feed(&mut self, bytes: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        self.notice_a_whole_body(bytes);
        match &mut self.framing {
            Framing::Whole(body) if body.len() + bytes.len() > WHOLE_BYTES_MAX => {
                Err(BadAnswer::TooLarge(WHOLE_BYTES_MAX))
            }
            Framing::Whole(body) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
            Framing::Events(splitter) => {
                let complete = splitter.feed(bytes).map_err(bad_event)?;
                complete.iter().try_for_each(|event| said(&mut self.understand, event, events))
            }
        }
    }

    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        match &mut self.framing {
            Framing::Whole(body) => {
                let body = std::mem::take(body);
                if body.iter().all(u8::is_ascii_whitespace) {
                    return Err(BadAnswer::Unfinished);
                }
                let text = std::str::from_utf8(&body).map_err(|_| malformed("it is not UTF-8"))?;
                self.understand.whole(text, events)?;
            }
            Framing::Events(splitter) => match splitter.end() {
                // A last event that only lacks its empty line is whole; one that is torn is not.
                Ok(Some(event)) if !event.data.is_empty() => {
                    match said(&mut self.understand, &event, events) {
                        Err(BadAnswer::Malformed(_)) if self.understand.is_over() => {}
                        Err(BadAnswer::Malformed(_)) => return Err(BadAnswer::Unfinished),
                        said => said?,
                    }
                }
                Ok(_) => {}
                Err(_) if self.understand.is_over() => {}
                Err(_) => return Err(BadAnswer::Unfinished),
            },
        }
        self.understand.end(events)
    }
}

fn said<U: Understand>(
    understand: &mut U,
    event: &Event,
    events: &mut Vec<AnswerEvent>,
) -> Result<(), BadAnswer> {
    match event.data.trim().is_empty() {
        // A comment, or a heartbeat.
        true => Ok(()),
        false => understand.event(&event.name, &event.data, events),
    }
}

/// Reads `text`, or says why it is none of the dialect's objects.
pub(super) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, BadAnswer> {
    serde_json::from_str(text).map_err(|error| not_ours(text, error))
}

/// Returns why `text` is none of the dialect's objects. What an upstream calls an error is that error.
pub(super) fn not_ours(text: &str, why: impl ToString) -> BadAnswer {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if fault::is_error(&value) => BadAnswer::Fault(fault::of_value(None, &value)),
        _ => malformed(why),
    }
}

pub(super) fn malformed(why: impl ToString) -> BadAnswer {
    BadAnswer::Malformed(why.to_string())
}

fn bad_event(error: SseError) -> BadAnswer {
    match error {
        SseError::TooLarge(bytes) => BadAnswer::TooLarge(bytes),
        SseError::NotText => malformed("an event is not UTF-8"),
    }
}
