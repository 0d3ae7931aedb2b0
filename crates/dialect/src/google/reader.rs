//! How is a body cut into responses? Events, one object, or an array of objects: the first byte says which.

use domain::AnswerEvent;

use super::answer::Growing;
use super::objects::{BadObjects, Objects};
use crate::sse::{Event, Splitter, SseError};
use crate::{BadAnswer, Reader};

/// The largest event of a stream: a long chain of thought comes in pieces far below this.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// The largest whole answer: 64 Ki tokens with all alternatives of their log-probabilities stay below this.
const WHOLE_BYTES_MAX: usize = 32 << 20;

pub(super) struct AnswerReader {
    framing: Framing,
    bytes_max: usize,
    answer: Growing,
}

enum Framing {
    /// Nothing but white space has come.
    Unknown,
    Events(Splitter),
    /// A whole answer, or a stream without `alt=sse`.
    Objects(Objects),
}

impl AnswerReader {
    pub fn new(is_stream: bool) -> Self {
        let bytes_max = if is_stream { EVENT_BYTES_MAX } else { WHOLE_BYTES_MAX };
        Self { framing: Framing::Unknown, bytes_max, answer: Growing::default() }
    }

    fn hear(&mut self, event: &Event, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let data = event.data.trim();
        if data.is_empty() {
            // A stream that breaks may end in an error that is no event.
            let raw = event.raw.trim_ascii();
            return if raw.starts_with(b"{") || raw.starts_with(b"[") {
                self.objects(raw, events)
            } else {
                Ok(())
            };
        }
        match data {
            "[DONE]" => Ok(()),
            data => self.objects(data.as_bytes(), events),
        }
    }

    fn objects(&mut self, json: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let mut objects = Objects::new(self.bytes_max);
        for object in objects.feed(json)? {
            self.answer.learn(&object, events)?;
        }
        match objects.is_within() {
            true => Err(BadAnswer::Malformed("an event with half an object".into())),
            false => Ok(()),
        }
    }
}

impl Reader for AnswerReader {
    /// It is never passed on: no client speaks this.
    fn is_over(&self) -> bool {
        false
    }
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if let Framing::Unknown = self.framing {
            match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => return Ok(()),
                Some(b'{' | b'[') => self.framing = Framing::Objects(Objects::new(self.bytes_max)),
                Some(_) => self.framing = Framing::Events(Splitter::new(self.bytes_max)),
            }
        }
        match &mut self.framing {
            Framing::Unknown => {}
            Framing::Events(splitter) => {
                for event in splitter.feed(bytes).map_err(bad_event)? {
                    self.hear(&event, events)?;
                }
            }
            Framing::Objects(objects) => {
                for object in objects.feed(bytes)? {
                    self.answer.learn(&object, events)?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        match &mut self.framing {
            Framing::Unknown => return Err(BadAnswer::Unfinished),
            Framing::Events(splitter) => {
                // What is cut in its middle is no wrong answer, but half of one.
                if let Some(event) = splitter.end().map_err(|_| BadAnswer::Unfinished)? {
                    self.hear(&event, events).map_err(|bad| match bad {
                        BadAnswer::Malformed(_) => BadAnswer::Unfinished,
                        other => other,
                    })?;
                }
            }
            Framing::Objects(objects) if objects.is_within() => return Err(BadAnswer::Unfinished),
            Framing::Objects(_) => {}
        }
        self.answer.end(events)
    }
}

fn bad_event(bad: SseError) -> BadAnswer {
    match bad {
        SseError::TooLarge(bytes) => BadAnswer::TooLarge(bytes),
        SseError::NotText => BadAnswer::Malformed(bad.to_string()),
    }
}

impl From<BadObjects> for BadAnswer {
    fn from(bad: BadObjects) -> Self {
        match bad {
            BadObjects::TooLarge(bytes) => Self::TooLarge(bytes),
            BadObjects::NoObject => Self::Malformed("neither an object nor an array of them".into()),
        }
    }
}
