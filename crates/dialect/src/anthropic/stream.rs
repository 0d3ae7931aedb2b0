//! How is an answer written while it grows?
//!
//! ```text
//! message_start ─▶ (content_block_start ─▶ content_block_delta … ─▶ content_block_stop) … ─▶ message_delta ─▶ message_stop
//! ```
//!
//! - `message_start` comes before anything is known: its usage is all zero. The true totals, input and cache included, come with
//!   `message_delta`, and clients' SDKs take them from there.
//! - A piece of another kind closes the open block and opens the next. Only calls may be open beside each other, while their
//!   JSON is not complete: some providers mix the arguments of parallel calls.
//! - An answer that a budget cut says `budget_exhausted` where its stop reason stands, with its usage, and then ends with an
//!   `error` event in place of `message_stop`. It is delivered and billed, but nobody takes it for whole.

use serde::Serialize;
use serde_json::{Value, json};

use domain::{Delta, Finish, FinishReason, UsageReport};

use super::answer::{Message, stop_reason};
use super::usage::UsageOut;
use crate::{Head, Trouble, TroubleKind, Writer};

/// Writes the events of one streamed answer.
#[derive(Debug)]
pub(super) struct Stream {
    head: Head,
    is_open: bool,
    /// The index of the next block.
    next: u32,
    /// The block of text or thinking that grows.
    open: Option<(u32, Kind)>,
    /// The calls whose JSON is not complete, at most [`CALLS_OPEN_MAX`].
    calls: Vec<Call>,
    has_calls: bool,
    finish: Option<Finish>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

#[derive(Debug)]
struct Call {
    /// Its number among the answer's calls.
    call: u32,
    block: u32,
    json: Progress,
}

/// Calls that grow beside each other; the oldest is closed for one more. Each costs a few bytes.
const CALLS_OPEN_MAX: usize = 128;

#[derive(Serialize)]
struct MessageStart<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: Message<'a>,
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    delta: Stopped<'a>,
    usage: UsageOut,
}

#[derive(Serialize)]
struct Stopped<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

impl Stream {
    pub fn new(head: Head) -> Self {
        Self {
            head,
            is_open: false,
            next: 0,
            open: None,
            calls: Vec::new(),
            has_calls: false,
            finish: None,
        }
    }

    fn write(&mut self, delta: &Delta, bytes: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) | Delta::Refusal(text) if !text.is_empty() => {
                let index = self.grow(Kind::Text, bytes);
                put_delta(bytes, index, json!({"type": "text_delta", "text": text}));
            }
            Delta::Reasoning(text) if !text.is_empty() => {
                let index = self.grow(Kind::Thinking, bytes);
                put_delta(bytes, index, json!({"type": "thinking_delta", "thinking": text}));
            }
            Delta::ReasoningProof { proof, .. } => self.prove(proof.as_deref(), bytes),
            Delta::SealedReasoning(data) => {
                self.close_all(bytes);
                let index = self.start(json!({"type": "redacted_thinking", "data": data}), bytes);
                put_stop(bytes, index);
            }
            Delta::ToolCall { index, id, name, .. } => {
                self.close_open(bytes);
                if self.calls.len() == CALLS_OPEN_MAX {
                    put_stop(bytes, self.calls.remove(0).block);
                }
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                let block = self.start(block, bytes);
                self.calls.push(Call { call: *index, block, json: Progress::default() });
                self.has_calls = true;
            }
            Delta::Arguments { index, json } if !json.is_empty() => self.argue(*index, json, bytes),
            // Nothing, or what this dialect has no words for.
            Delta::Text(_) | Delta::Refusal(_) | Delta::Reasoning(_) => {}
            Delta::Arguments { .. } | Delta::Scores(_) => {}
        }
    }

    /// Ends a block of thinking. One whose text nobody shows has only its proof.
    fn prove(&mut self, proof: Option<&str>, bytes: &mut Vec<u8>) {
        if let Some(signature) = proof {
            let index = self.grow(Kind::Thinking, bytes);
            put_delta(bytes, index, json!({"type": "signature_delta", "signature": signature}));
        }
        if let Some((_, Kind::Thinking)) = self.open {
            self.close_open(bytes);
        }
    }

    /// Adds to a call's JSON, and stops its block as soon as that is complete. What comes after is nothing but space.
    fn argue(&mut self, call: u32, json: &str, bytes: &mut Vec<u8>) {
        let Some(place) = self.calls.iter().position(|open| open.call == call) else {
            return;
        };
        let open = &mut self.calls[place];
        let block = open.block;
        put_delta(bytes, block, json!({"type": "input_json_delta", "partial_json": json}));
        if open.json.feed(json) {
            put_stop(bytes, block);
            self.calls.remove(place);
        }
    }

    /// Returns the open block of this kind, opened now if it is not.
    fn grow(&mut self, kind: Kind, bytes: &mut Vec<u8>) -> u32 {
        match self.open {
            Some((index, open)) if open == kind => index,
            _ => {
                self.close_all(bytes);
                let block = match kind {
                    Kind::Text => json!({"type": "text", "text": ""}),
                    Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
                };
                let index = self.start(block, bytes);
                self.open = Some((index, kind));
                index
            }
        }
    }

    fn start(&mut self, content_block: Value, bytes: &mut Vec<u8>) -> u32 {
        let index = self.next;
        self.next += 1;
        let kind = "content_block_start";
        put(bytes, kind, &json!({"type": kind, "index": index, "content_block": content_block}));
        index
    }

    fn close_open(&mut self, bytes: &mut Vec<u8>) {
        if let Some((index, _)) = self.open.take() {
            put_stop(bytes, index);
        }
    }

    fn close_all(&mut self, bytes: &mut Vec<u8>) {
        self.close_open(bytes);
        self.calls.drain(..).for_each(|call| put_stop(bytes, call.block));
    }
}

impl Writer for Stream {
    fn open(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.is_open, true) {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        let message = Message::empty(&self.head, &UsageReport::default());
        put(&mut bytes, "message_start", &MessageStart { kind: "message_start", message });
        bytes
    }
    fn delta(&mut self, choice: u32, deltas: &[Delta]) -> Vec<u8> {
        let mut bytes = self.open();
        if choice == 0 {
            assert!(self.finish.is_none(), "the answer was already finished");
            deltas.iter().for_each(|delta| self.write(delta, &mut bytes));
        }
        bytes
    }
    fn finish(&mut self, choice: u32, finish: &Finish) -> Vec<u8> {
        let mut bytes = self.open();
        if choice == 0 {
            assert!(self.finish.is_none(), "the answer was already finished");
            self.close_all(&mut bytes);
            self.finish = Some(finish.clone());
        }
        bytes
    }
    fn end(mut self: Box<Self>, report: &UsageReport) -> Vec<u8> {
        let mut bytes = self.open();
        let finish = self.finish.as_ref().expect("a stream ends after its choice");
        let delta =
            Stopped { stop_reason: stop_reason(finish, self.has_calls), stop_sequence: finish.stop.as_deref() };
        let kind = "message_delta";
        put(&mut bytes, kind, &MessageDelta { kind, delta, usage: report.into() });
        if finish.reason == FinishReason::BudgetExhausted {
            put_error(&mut bytes, &cut_by_budget());
        } else {
            put(&mut bytes, "message_stop", &json!({"type": "message_stop"}));
        }
        bytes
    }
    /// The error, and no `message_stop`.
    fn broken(self: Box<Self>, trouble: &Trouble) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_error(&mut bytes, trouble);
        bytes
    }
    fn ping(&self) -> &'static [u8] {
        b"event: ping\ndata: {\"type\":\"ping\"}\n\n"
    }
}

fn cut_by_budget() -> Trouble {
    let message = "The answer was cut: a budget has no room for more. What came before is billed; raise the budget to go on.";
    Trouble::new(TroubleKind::InsufficientQuota, message).code("budget_exhausted")
}

/// Adds one event.
fn put<T: Serialize>(bytes: &mut Vec<u8>, name: &str, value: &T) {
    bytes.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
    serde_json::to_writer(&mut *bytes, value).expect("wire types are plain data with text keys");
    bytes.extend_from_slice(b"\n\n");
}

fn put_delta(bytes: &mut Vec<u8>, index: u32, delta: Value) {
    let kind = "content_block_delta";
    put(bytes, kind, &json!({"type": kind, "index": index, "delta": delta}));
}

fn put_stop(bytes: &mut Vec<u8>, index: u32) {
    let kind = "content_block_stop";
    put(bytes, kind, &json!({"type": kind, "index": index}));
}

fn put_error(bytes: &mut Vec<u8>, trouble: &Trouble) {
    bytes.extend_from_slice(b"event: error\ndata: ");
    bytes.append(&mut super::error_to_json(trouble));
    bytes.extend_from_slice(b"\n\n");
}

/// How far a JSON object or array has come. It is not checked, only followed to its end.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    depth: u32,
    is_in_string: bool,
    is_escaped: bool,
}

impl Progress {
    /// Follows more text; says whether the outermost bracket was closed in it.
    fn feed(&mut self, text: &str) -> bool {
        text.bytes().any(|byte| {
            if self.is_in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_string = false,
                    _ => {}
                }
                return false;
            }
            match byte {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    return self.depth == 0;
                }
                _ => {}
            }
            false
        })
    }
}
