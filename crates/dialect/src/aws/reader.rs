//! How is a body of Converse's fed to its answer: whole, or in frames?

use domain::AnswerEvent;

use super::answer::Growing;
use super::fault;
use super::frames::{Frame, Frames};
use crate::{BadAnswer, Reader};

/// Reads an answer that comes at once.
#[derive(Default)]
pub(super) struct WholeReader {
    /// At most [`WHOLE_BYTES_MAX`].
    body: Vec<u8>,
}

/// Reads an `application/vnd.amazon.eventstream`.
#[derive(Default)]
pub(super) struct StreamReader {
    frames: Frames,
    answer: Growing,
}

/// Text and calls of 64 Ki tokens stay far below this.
const WHOLE_BYTES_MAX: usize = 32 << 20;

impl Reader for WholeReader {
    fn is_over(&self) -> bool {
        false
    }
    fn feed(&mut self, bytes: &[u8], _: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if self.body.len() + bytes.len() > WHOLE_BYTES_MAX {
            return Err(BadAnswer::TooLarge(WHOLE_BYTES_MAX));
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let body = std::mem::take(&mut self.body);
        let mut answer = Growing::default();
        match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
            Err(error) if error.is_eof() => return Err(BadAnswer::Unfinished),
            _ => answer.whole(&body, events)?,
        }
        answer.end()
    }
}

impl Reader for StreamReader {
    /// It is never passed on: its frames are no client's.
    fn is_over(&self) -> bool {
        false
    }
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        for frame in self.frames.feed(bytes)? {
            match frame {
                Frame::Event { name, payload } => self.answer.event(&name, &payload, events)?,
                Frame::Exception { name, payload } => {
                    return Err(BadAnswer::Fault(fault::of_exception(&name, &payload)));
                }
                Frame::Error { code, message } => {
                    return Err(BadAnswer::Fault(fault::of_words(&code, &message, None)));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        match self.frames.is_within() {
            true => Err(BadAnswer::Unfinished),
            false => self.answer.end(),
        }
    }
}
