//! How is an answer read, whole or while it grows?
//!
//! - What the provider's own tools did (`server_tool_use` and whatever new kinds there are) and citations are passed over: they
//!   live in the bytes that a client of the same dialect gets. Their blocks are counted like any other, so they move no text
//!   and no call. Two blocks of text in a row are one text.
//! - Of the usage at an answer's beginning only the input is believed: its count of output is a placeholder. A stream that dies
//!   before its `message_delta` thus reports an output of zero *up to there*; who settles it counts what came after.
//! - An answer has ended when `message_stop` came, after a stop reason, and not before.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use domain::{AnswerEvent, CHOICES_MAX, Delta, Finish, FinishReason};

use super::fault::{ErrorIn, fault};
use super::usage::UsageIn;
use crate::sse::{Event, Splitter, SseError};
use crate::{BadAnswer, Reader};

/// An event larger than this is none of this dialect's.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// A whole answer larger than this is not read.
const WHOLE_BYTES_MAX: usize = 64 << 20;
/// What proves a block of thinking: some kilobytes in practice.
const SIGNATURE_BYTES_MAX: usize = 4 << 20;
/// Blocks that are open at once; providers open one after the other. With [`SIGNATURE_BYTES_MAX`] this bounds what is kept.
const BLOCKS_OPEN_MAX: usize = 64;

/// Returns what reads an answer.
pub(super) fn reader(is_stream: bool) -> Box<dyn Reader> {
    match is_stream {
        true => Box::new(StreamReader::default()),
        false => Box::new(WholeReader::default()),
    }
}

#[derive(Debug, Default)]
struct WholeReader {
    /// At most [`WHOLE_BYTES_MAX`].
    body: Vec<u8>,
}

#[derive(Debug)]
struct StreamReader {
    splitter: Splitter,
    /// The blocks that grow, by their index; at most [`BLOCKS_OPEN_MAX`].
    blocks: Vec<(u64, Open)>,
    calls: u32,
    usage: UsageIn,
    stop: Option<Finish>,
    is_done: bool,
}

#[derive(Debug)]
enum Open {
    Text,
    Thinking { signature: String },
    Call { index: u32, input: String, has_json: bool },
    PassedOver,
}

#[derive(Deserialize)]
struct EventIn {
    #[serde(rename = "type")]
    kind: String,
    index: Option<u64>,
    message: Option<MessageIn>,
    content_block: Option<BlockIn>,
    delta: Option<DeltaIn>,
    usage: Option<UsageIn>,
    error: Option<ErrorIn>,
}

#[derive(Deserialize)]
struct MessageIn {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    model: Option<String>,
    content: Option<Vec<BlockIn>>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    usage: Option<UsageIn>,
    error: Option<ErrorIn>,
}

/// The fields of all kinds of blocks: one that is passed over may have any type in them.
#[derive(Deserialize)]
struct BlockIn {
    #[serde(rename = "type")]
    kind: String,
    text: Option<Value>,
    thinking: Option<Value>,
    signature: Option<Value>,
    data: Option<Value>,
    id: Option<Value>,
    name: Option<Value>,
    /// As it came: no digit of it changes.
    input: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
struct DeltaIn {
    #[serde(rename = "type", default)]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            splitter: Splitter::new(EVENT_BYTES_MAX),
            blocks: Vec::new(),
            calls: 0,
            usage: UsageIn::default(),
            stop: None,
            is_done: false,
        }
    }
}

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
    /// The same steps as a stream's, one after the other.
    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let body = std::mem::take(&mut self.body);
        let message: MessageIn = serde_json::from_slice(&body).map_err(|error| not_json(&error, &body))?;
        if let Some(error) = &message.error {
            return Err(BadAnswer::Fault(fault(None, error)));
        }
        if message.kind.as_deref() != Some("message") {
            return Err(malformed("it is no message"));
        }
        let mut stream = StreamReader::default();
        began(&message, events);
        for (index, block) in (0..).zip(message.content.unwrap_or_default()) {
            stream.start(index, block, events)?;
            stream.close(index, events);
        }
        stream.stop = message.stop_reason.map(|reason| finish(&reason, message.stop_sequence));
        stream.used(message.usage, events);
        stream.done(events)
    }
}

impl Reader for StreamReader {
    fn is_over(&self) -> bool {
        self.is_done || self.stop.is_some()
    }
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        for event in self.splitter.feed(bytes).map_err(not_an_event)? {
            let read = self.read(&event, events);
            // A body that goes on has not been cut: what is no JSON here never will be.
            read.map_err(|bad| if bad == BadAnswer::Unfinished { malformed("cut JSON") } else { bad })?;
        }
        Ok(())
    }
    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        // What lacks only its empty line is read; what was cut in the middle of a character or of JSON is cut.
        if let Ok(Some(event)) = self.splitter.end() {
            self.read(&event, events)?;
        }
        if self.is_done { Ok(()) } else { Err(BadAnswer::Unfinished) }
    }
}

impl StreamReader {
    fn read(&mut self, event: &Event, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if event.data.is_empty() || self.is_done {
            return Ok(());
        }
        let event: EventIn =
            serde_json::from_str(&event.data).map_err(|error| not_json(&error, event.data.as_bytes()))?;
        let index = || event.index.ok_or_else(|| malformed("a block without its index"));
        match event.kind.as_str() {
            "message_start" => {
                let message = event.message.ok_or_else(|| malformed("message_start without a message"))?;
                began(&message, events);
                self.used(message.usage.map(UsageIn::without_output), events);
            }
            "content_block_start" => {
                let index = index()?;
                let block = event.content_block.ok_or_else(|| malformed("a block that is nothing"))?;
                self.start(index, block, events)?;
            }
            "content_block_delta" => {
                let index = index()?;
                let delta = event.delta.ok_or_else(|| malformed("a delta that is nothing"))?;
                self.grow(index, delta, events)?;
            }
            "content_block_stop" => self.close(index()?, events),
            "message_delta" => {
                let delta = event.delta.unwrap_or_default();
                if let Some(reason) = delta.stop_reason {
                    self.stop = Some(finish(&reason, delta.stop_sequence));
                }
                self.used(event.usage, events);
            }
            "message_stop" => self.done(events)?,
            "error" => return Err(BadAnswer::Fault(fault(None, &event.error.unwrap_or_default()))),
            // `ping`, and whatever new kinds there are.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, index: u64, block: BlockIn, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        self.close(index, events);
        if self.blocks.len() == BLOCKS_OPEN_MAX {
            return Err(malformed("more blocks are open at once than any answer has"));
        }
        let open = match block.kind.as_str() {
            "text" => {
                events.extend(said(block.text).map(Delta::Text).map(delta));
                Open::Text
            }
            "thinking" => {
                events.extend(said(block.thinking).map(Delta::Reasoning).map(delta));
                Open::Thinking { signature: said(block.signature).unwrap_or_default() }
            }
            "redacted_thinking" => {
                events.push(delta(Delta::SealedReasoning(said(block.data).unwrap_or_default())));
                Open::PassedOver
            }
            "tool_use" => {
                let (id, name) = (said(block.id), said(block.name));
                let (Some(id), Some(name)) = (id, name) else {
                    return Err(malformed("a call without an id or a name"));
                };
                if self.calls == CHOICES_MAX {
                    return Err(malformed("more calls than any answer has"));
                }
                let index = self.calls;
                self.calls += 1;
                events.push(delta(Delta::ToolCall { index, id, name, proof: None }));
                let input = block.input.map_or_else(|| "{}".to_owned(), |input| input.get().to_owned());
                Open::Call { index, input, has_json: false }
            }
            _ => Open::PassedOver,
        };
        self.blocks.push((index, open));
        Ok(())
    }

    fn grow(&mut self, index: u64, piece: DeltaIn, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let known = self.blocks.iter_mut().find(|(known, _)| *known == index);
        let Some((_, open)) = known else {
            return Err(malformed(&format!("a piece of block {index}, which is not open")));
        };
        match (open, piece.kind.as_str()) {
            (Open::PassedOver, _) => {}
            (Open::Text, "text_delta") => events.extend(some(piece.text).map(Delta::Text).map(delta)),
            (Open::Thinking { .. }, "thinking_delta") => {
                events.extend(some(piece.thinking).map(Delta::Reasoning).map(delta));
            }
            (Open::Thinking { signature }, "signature_delta") => {
                signature.push_str(&piece.signature.unwrap_or_default());
                if signature.len() > SIGNATURE_BYTES_MAX {
                    return Err(BadAnswer::TooLarge(SIGNATURE_BYTES_MAX));
                }
            }
            (Open::Call { index, has_json, .. }, "input_json_delta") => {
                if let Some(json) = some(piece.partial_json) {
                    *has_json = true;
                    events.push(delta(Delta::Arguments { index: *index, json }));
                }
            }
            (_, kind @ ("text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta")) => {
                return Err(malformed(&format!("a {kind} in a block of another kind")));
            }
            // `citations_delta`, and whatever new kinds there are.
            _ => {}
        }
        Ok(())
    }

    /// Ends a block, if it is open.
    fn close(&mut self, index: u64, events: &mut Vec<AnswerEvent>) {
        let place = self.blocks.iter().position(|(known, _)| *known == index);
        match place.map(|place| self.blocks.remove(place).1) {
            Some(Open::Thinking { signature }) => {
                events.push(delta(Delta::ReasoningProof { proof: some(Some(signature)), id: None }));
            }
            // Some providers say the whole input at once where the block begins; one without any is empty.
            Some(Open::Call { index, input, has_json: false }) => {
                events.push(delta(Delta::Arguments { index, json: input }));
            }
            _ => {}
        }
    }

    fn used(&mut self, usage: Option<UsageIn>, events: &mut Vec<AnswerEvent>) {
        if let Some(usage) = usage {
            self.usage.update(usage);
            events.extend(self.usage.report().map(AnswerEvent::Used));
        }
    }

    fn done(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let finish = self.stop.take().ok_or_else(|| malformed("it ended without a stop reason"))?;
        while let Some((index, _)) = self.blocks.first() {
            self.close(*index, events);
        }
        events.push(AnswerEvent::Finished { choice: 0, finish });
        self.is_done = true;
        Ok(())
    }
}

fn began(message: &MessageIn, events: &mut Vec<AnswerEvent>) {
    events.push(AnswerEvent::Began { id: message.id.clone(), model: message.model.clone() });
}

/// Returns why the answer ended. One that was paused, or ended for a reason that nobody knows yet, is cut: what it is worth
/// can be had by going on.
fn finish(reason: &str, stop: Option<String>) -> Finish {
    let reason = match reason {
        "end_turn" => FinishReason::Stop,
        "stop_sequence" => return Finish { reason: FinishReason::Stop, stop },
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        // `max_tokens`, `model_context_window_exceeded`, `pause_turn`, `compaction`, and what comes next.
        _ => FinishReason::Length,
    };
    Finish::of(reason)
}

fn delta(delta: Delta) -> AnswerEvent {
    AnswerEvent::Delta { choice: 0, delta }
}

fn said(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => some(Some(text)),
        _ => None,
    }
}

fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn malformed(what: &str) -> BadAnswer {
    BadAnswer::Malformed(what.to_owned())
}

/// What is wrong only at its very end was cut there. The parser says so of most things, but not of half a number.
fn not_json(error: &serde_json::Error, text: &[u8]) -> BadAnswer {
    let last_line = text.split(|byte| *byte == b'\n').enumerate().last();
    let is_at_end =
        last_line.is_some_and(|(line, text)| (error.line(), error.column()) >= (line + 1, text.len()));
    match error.is_eof() || (error.is_syntax() && is_at_end) {
        true => BadAnswer::Unfinished,
        false => BadAnswer::Malformed(error.to_string()),
    }
}

fn not_an_event(error: SseError) -> BadAnswer {
    match error {
        SseError::TooLarge(bytes) => BadAnswer::TooLarge(bytes),
        SseError::NotText => malformed("an event that is not UTF-8"),
    }
}
