//! How is a response written while it grows?
//!
//! ```text
//! created · in_progress · ( output_item.added · … parts and their deltas … · output_item.done )* · completed | incomplete | failed
//! ```
//!
//! Texts and thoughts end when something else begins. Calls may grow side by side, and end together.

use serde_json::{Map, Value, json};

use domain::{Delta, Finish, FinishReason, Reasoning, TokenScore, ToolCall, UsageReport};

use super::object;
use super::output::{
    SEALED, call_item, call_prefix, is_custom, is_cut, item_id, logprobs, message_item, reasoning_id,
    reasoning_item, text_part,
};
use crate::{Head, Trouble, Writer};

/// Writes the events of one streamed response.
#[derive(Debug)]
pub struct Stream {
    head: Head,
    echo: Map<String, Value>,
    /// The number of the next event.
    sequence: u64,
    /// Every item so far. What they hold is the answer, which whoever feeds this has bounded.
    items: Vec<Item>,
    finish: Option<FinishReason>,
}

#[derive(Debug)]
struct Item {
    id: String,
    kind: Kind,
    is_done: bool,
}

#[derive(Debug)]
enum Kind {
    /// The parts that have ended, and the one that grows.
    Message {
        done: Vec<Value>,
        growing: Option<Growing>,
    },
    Reasoning {
        reasoning: Reasoning,
        has_part: bool,
    },
    Call {
        index: u32,
        call: ToolCall,
    },
}

#[derive(Debug)]
struct Growing {
    is_refusal: bool,
    text: String,
    scores: Vec<TokenScore>,
}

impl Stream {
    pub fn new(head: Head, echo: Map<String, Value>) -> Self {
        Self { head, echo, sequence: 0, items: Vec::new(), finish: None }
    }

    /// Writes one event: its type and its number come first.
    fn event(&mut self, kind: &str, fields: Value, bytes: &mut Vec<u8>) {
        let mut event = Map::from_iter([
            ("type".to_owned(), json!(kind)),
            ("sequence_number".to_owned(), json!(self.sequence)),
        ]);
        self.sequence += 1;
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        bytes.extend_from_slice(format!("event: {kind}\n").as_bytes());
        bytes.append(&mut crate::openai::stream::frame(&event));
    }

    /// Begins an item, and says its first form.
    fn add(&mut self, id: String, kind: Kind, bytes: &mut Vec<u8>) {
        let place = self.items.len();
        let item = match &kind {
            Kind::Message { .. } => message_item(&id, Vec::new(), "in_progress"),
            Kind::Reasoning { .. } => reasoning_item(&id, &Reasoning::default()),
            Kind::Call { call, .. } => call_item(&id, call, "in_progress"),
        };
        self.items.push(Item { id, kind, is_done: false });
        self.event("response.output_item.added", json!({"output_index": place, "item": item}), bytes);
    }

    /// Ends all items that have not ended, but calls where another call begins.
    fn close(&mut self, keeps_calls: bool, bytes: &mut Vec<u8>) {
        for place in 0..self.items.len() {
            let is_kept = keeps_calls && matches!(self.items[place].kind, Kind::Call { .. });
            if !self.items[place].is_done && !is_kept {
                self.close_parts(place, bytes);
                self.items[place].is_done = true;
                let item = self.item(place);
                self.event("response.output_item.done", json!({"output_index": place, "item": item}), bytes);
            }
        }
    }

    /// Says what an item's parts have become.
    fn close_parts(&mut self, place: usize, bytes: &mut Vec<u8>) {
        let at = json!({"item_id": self.items[place].id, "output_index": place});
        match &mut self.items[place].kind {
            Kind::Message { .. } => self.close_content(place, bytes),
            Kind::Reasoning { reasoning, has_part: true } => {
                let text = reasoning.text.clone();
                let at = with(at, json!({"summary_index": 0}));
                self.event(
                    "response.reasoning_summary_text.done",
                    with(at.clone(), json!({"text": text})),
                    bytes,
                );
                let part = json!({"part": {"type": "summary_text", "text": text}});
                self.event("response.reasoning_summary_part.done", with(at, part), bytes);
            }
            Kind::Reasoning { .. } => {}
            Kind::Call { call, .. } if is_custom(call) => {
                let input = call.arguments.clone();
                self.event("response.custom_tool_call_input.done", with(at, json!({"input": input})), bytes);
            }
            Kind::Call { call, .. } => {
                let said = with(at, json!({"arguments": call.arguments.clone()}));
                self.event("response.function_call_arguments.done", said, bytes);
            }
        }
    }

    fn close_content(&mut self, place: usize, bytes: &mut Vec<u8>) {
        let id = self.items[place].id.clone();
        let Kind::Message { done, growing } = &mut self.items[place].kind else { return };
        let Some(part) = growing.take() else { return };
        let at = json!({"item_id": id, "output_index": place, "content_index": done.len()});
        let wire = part.wire();
        done.push(wire.clone());
        match part.is_refusal {
            true => {
                let said = with(at.clone(), json!({"refusal": part.text}));
                self.event("response.refusal.done", said, bytes);
            }
            false => {
                let said = json!({"text": part.text, "logprobs": logprobs(&part.scores)});
                self.event("response.output_text.done", with(at.clone(), said), bytes);
            }
        }
        self.event("response.content_part.done", with(at, json!({"part": wire})), bytes);
    }

    /// Returns an item as it is now.
    fn item(&self, place: usize) -> Value {
        let Item { id, kind, is_done } = &self.items[place];
        let is_last = place + 1 == self.items.len();
        let status = match (is_done, is_last && self.finish.is_some_and(is_cut)) {
            (true, false) => "completed",
            _ => "incomplete",
        };
        match kind {
            Kind::Message { done, growing } => {
                let content = done.iter().cloned().chain(growing.as_ref().map(Growing::wire)).collect();
                message_item(id, content, status)
            }
            // Its maker's own id, which is known at its end, is the one that it must be given back under.
            Kind::Reasoning { reasoning, .. } => {
                reasoning_item(reasoning.id.as_deref().unwrap_or(id), reasoning)
            }
            Kind::Call { call, .. } => call_item(id, call, status),
        }
    }

    fn output(&self) -> Vec<Value> {
        (0..self.items.len()).map(|place| self.item(place)).collect()
    }

    fn text(&mut self, text: &str, is_refusal: bool, scores: Vec<TokenScore>, bytes: &mut Vec<u8>) {
        if !matches!(self.items.last(), Some(Item { kind: Kind::Message { .. }, is_done: false, .. })) {
            self.close(false, bytes);
            let id = item_id("msg", &self.head.id, self.items.len());
            self.add(id, Kind::Message { done: Vec::new(), growing: None }, bytes);
        }
        let place = self.items.len() - 1;
        let goes_on = |growing: &Option<Growing>| {
            growing.as_ref().is_some_and(|growing| growing.is_refusal == is_refusal)
        };
        let is_new = match &self.items[place].kind {
            Kind::Message { growing, .. } => !goes_on(growing),
            _ => false,
        };
        if is_new {
            self.close_content(place, bytes);
        }
        let id = self.items[place].id.clone();
        let Kind::Message { done, growing } = &mut self.items[place].kind else { return };
        let at = json!({"item_id": id, "output_index": place, "content_index": done.len()});
        let delta_logprobs = logprobs(&scores);
        let part =
            growing.get_or_insert_with(|| Growing { is_refusal, text: String::new(), scores: Vec::new() });
        let empty = part.wire();
        part.text.push_str(text);
        part.scores.extend(scores);
        if is_new {
            self.event("response.content_part.added", with(at.clone(), json!({"part": empty})), bytes);
        }
        match is_refusal {
            true => self.event("response.refusal.delta", with(at, json!({"delta": text})), bytes),
            false => {
                let said = json!({"delta": text, "logprobs": delta_logprobs});
                self.event("response.output_text.delta", with(at, said), bytes);
            }
        }
    }

    /// Returns the place of the thought that grows; begins one where there is none.
    fn thought(&mut self, bytes: &mut Vec<u8>) -> usize {
        if !matches!(self.items.last(), Some(Item { kind: Kind::Reasoning { .. }, is_done: false, .. })) {
            self.close(false, bytes);
            let id = reasoning_id(&self.head.id, self.items.len(), &Reasoning::default());
            let kind = Kind::Reasoning { reasoning: Reasoning::default(), has_part: false };
            self.add(id, kind, bytes);
        }
        self.items.len() - 1
    }

    fn reasoning(&mut self, text: &str, bytes: &mut Vec<u8>) {
        let place = self.thought(bytes);
        let at = json!({"item_id": self.items[place].id, "output_index": place, "summary_index": 0});
        let Kind::Reasoning { reasoning, has_part } = &mut self.items[place].kind else { return };
        reasoning.text.push_str(text);
        if !std::mem::replace(has_part, true) {
            let part = json!({"part": {"type": "summary_text", "text": ""}});
            self.event("response.reasoning_summary_part.added", with(at.clone(), part), bytes);
        }
        self.event("response.reasoning_summary_text.delta", with(at, json!({"delta": text})), bytes);
    }

    fn proof(&mut self, proof: Option<String>, bytes: &mut Vec<u8>) {
        let place = self.thought(bytes);
        if let Kind::Reasoning { reasoning, .. } = &mut self.items[place].kind {
            reasoning.proof = proof;
        }
        self.close(false, bytes);
    }

    fn call(&mut self, index: u32, call: ToolCall, bytes: &mut Vec<u8>) {
        self.close(true, bytes);
        let id = item_id(call_prefix(&call), &self.head.id, self.items.len());
        self.add(id, Kind::Call { index, call }, bytes);
    }

    fn arguments(&mut self, index: u32, json: &str, bytes: &mut Vec<u8>) {
        let is_it = |item: &Item| matches!(&item.kind, Kind::Call { index: known, .. } if *known == index);
        let Some(place) = self.items.iter().rposition(is_it) else { return };
        let at = json!({"item_id": self.items[place].id, "output_index": place});
        let Kind::Call { call, .. } = &mut self.items[place].kind else { return };
        call.arguments.push_str(json);
        let kind = match is_custom(call) {
            true => "response.custom_tool_call_input.delta",
            false => "response.function_call_arguments.delta",
        };
        self.event(kind, with(at, json!({"delta": json})), bytes);
    }
}

impl Growing {
    fn wire(&self) -> Value {
        match self.is_refusal {
            true => json!({"type": "refusal", "refusal": self.text}),
            false => text_part(&self.text, Some(&self.scores)),
        }
    }
}

impl Writer for Stream {
    fn open(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for kind in ["response.created", "response.in_progress"] {
            let response = object::growing(&self.echo, &self.head);
            self.event(kind, json!({"response": response}), &mut bytes);
        }
        bytes
    }

    fn delta(&mut self, choice: u32, deltas: &[Delta]) -> Vec<u8> {
        let mut bytes = Vec::new();
        // The dialect has one answer to a request.
        if choice > 0 {
            return bytes;
        }
        let mut scores: Vec<TokenScore> = deltas
            .iter()
            .filter_map(|delta| match delta {
                Delta::Scores(scores) => Some(scores.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        for delta in deltas {
            match delta {
                Delta::Text(text) if !text.is_empty() => {
                    self.text(text, false, std::mem::take(&mut scores), &mut bytes);
                }
                Delta::Refusal(text) if !text.is_empty() => {
                    self.text(text, true, std::mem::take(&mut scores), &mut bytes);
                }
                Delta::Reasoning(text) if !text.is_empty() => self.reasoning(text, &mut bytes),
                Delta::ReasoningProof { proof, id } => {
                    let place = self.thought(&mut bytes);
                    if let (Kind::Reasoning { reasoning, .. }, Some(id)) = (&mut self.items[place].kind, id) {
                        reasoning.id = Some(id.clone());
                    }
                    self.proof(proof.clone(), &mut bytes);
                }
                Delta::SealedReasoning(data) => {
                    self.close(false, &mut bytes);
                    self.proof(Some(format!("{SEALED}{data}")), &mut bytes);
                }
                Delta::ToolCall { index, id, name, proof } => {
                    let (id, name, proof) = (id.clone(), name.clone(), proof.clone());
                    self.call(*index, ToolCall { id, name, arguments: String::new(), proof }, &mut bytes);
                }
                Delta::Arguments { index, json } if !json.is_empty() => {
                    self.arguments(*index, json, &mut bytes);
                }
                _ => {}
            }
        }
        // Scores of tokens that have shown no text yet belong to what grows.
        if let Some(Item { kind: Kind::Message { growing: Some(growing), .. }, .. }) = self.items.last_mut() {
            growing.scores.append(&mut scores);
        }
        bytes
    }

    fn finish(&mut self, choice: u32, finish: &Finish) -> Vec<u8> {
        let mut bytes = Vec::new();
        if choice == 0 {
            self.finish = Some(finish.reason);
            self.close(false, &mut bytes);
        }
        bytes
    }

    fn end(mut self: Box<Self>, report: &UsageReport) -> Vec<u8> {
        let mut bytes = Vec::new();
        let kind = match self.finish {
            Some(finish) if !is_cut(finish) => "response.completed",
            _ => "response.incomplete",
        };
        let response = object::ended(&self.echo, &self.head, self.output(), self.finish, report);
        self.event(kind, json!({"response": response}), &mut bytes);
        bytes
    }

    fn broken(mut self: Box<Self>, trouble: &Trouble) -> Vec<u8> {
        let mut bytes = Vec::new();
        let response = object::failed(&self.echo, &self.head, self.output(), trouble);
        self.event("response.failed", json!({"response": response}), &mut bytes);
        bytes
    }
}

/// Returns both objects' fields in one.
fn with(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}
