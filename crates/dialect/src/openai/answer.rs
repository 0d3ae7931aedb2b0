//! What do the answers to chats and completions say, as OpenAI's and many other servers write them?
//!
//! One reader for both, whole and streamed: the envelopes are the same, and what others call compatible differs in ways that
//! are named where they are met. **Its end** is what the answer itself says: a stream is good when every choice that it began
//! has a finish reason; `[DONE]` alone is no such word (a dead server's proxy can write it), and where only `[DONE]` is missing,
//! nothing is (several servers never send it). Finish reasons are told at the end, because some servers repeat them, and some
//! go on after the first.

use serde::Deserialize;
use serde_json::Value;

use domain::{AnswerEvent, CHOICES_MAX, Delta, Finish, FinishReason, UsageReport};

use super::body::{Understand, malformed, not_ours, parse};
use super::calls::{CallPiece, Calls, FunctionPiece};
use super::fault;
use super::logprobs::LogprobsHeard;
use super::thoughts::{Thought, Thoughts};
use super::tier;
use super::usage::UsageHeard;
use crate::{BadAnswer, Fault, FaultKind};

/// A whole answer, or a chunk of one.
#[derive(Deserialize)]
struct Object {
    id: Option<String>,
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<UsageHeard>,
    service_tier: Option<String>,
    /// Groq's own place for the usage of a stream.
    x_groq: Option<Groq>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Groq {
    usage: Option<UsageHeard>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u32>,
    delta: Option<Message>,
    message: Option<Message>,
    /// Completions only.
    text: Option<String>,
    logprobs: Option<LogprobsHeard>,
    finish_reason: Option<String>,
    /// vLLM names the stop string here.
    stop_reason: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    reasoning_details: Option<Vec<Value>>,
    thinking_blocks: Option<Vec<Value>>,
    tool_calls: Option<Vec<CallPiece>>,
    function_call: Option<FunctionPiece>,
}

/// Mistral's reasoning models answer in parts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Value>),
}

/// What has been heard of one answer.
#[derive(Default)]
pub(super) struct ObjectReader {
    id: Option<String>,
    model: Option<String>,
    /// Who the model's answer is billed as, as far as it has been said.
    report: Option<UsageReport>,
    tier: Option<domain::ServiceTier>,
    /// At most [`CHOICES_MAX`].
    choices: Vec<Progress>,
    is_done: bool,
    has_ended: bool,
}

/// What has been heard of one choice.
#[derive(Default)]
struct Progress {
    has_begun: bool,
    finish: Option<Finish>,
    calls: Calls,
    thoughts: Thoughts,
}

impl Understand for ObjectReader {
    fn whole(&mut self, text: &str, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        self.object(read(text)?, true, events)
    }

    fn event(&mut self, name: &str, data: &str, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if data.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        // The answer is over; whatever this is, it is no part of it.
        if self.is_done {
            return Ok(());
        }
        if name == "error" {
            let said = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
            return Err(BadAnswer::Fault(fault::of_value(None, &said)));
        }
        self.object(read(data)?, false, events)
    }

    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if !self.is_over() {
            return Err(BadAnswer::Unfinished);
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Ok(());
        }
        for (choice, progress) in (0..).zip(&mut self.choices) {
            let mut finish =
                progress.finish.clone().expect("an answer that is over has every choice's finish");
            // An answer that calls tools waits for them, also where the server calls that a stop.
            if finish.reason == FinishReason::Stop && !progress.calls.is_empty() {
                finish.reason = FinishReason::ToolCalls;
            }
            events.push(AnswerEvent::Finished { choice, finish });
        }
        Ok(())
    }

    fn is_marked_done(&self) -> bool {
        self.is_done
    }

    fn is_over(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finish.is_some())
    }
}

impl ObjectReader {
    fn object(
        &mut self,
        object: Object,
        is_whole: bool,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), BadAnswer> {
        if let Some(error) = object.error {
            return Err(BadAnswer::Fault(fault::of_value(None, &error)));
        }
        self.begin(object.id, object.model, events);
        for (place, choice) in object.choices.unwrap_or_default().into_iter().enumerate() {
            self.choice(place as u32, choice, is_whole, events)?;
        }
        self.tier = object.service_tier.as_deref().and_then(tier::read).or(self.tier);
        let usage = object.usage.or(object.x_groq.and_then(|groq| groq.usage));
        self.used(usage.and_then(|usage| usage.usage()), events);
        Ok(())
    }

    fn begin(&mut self, id: Option<String>, model: Option<String>, events: &mut Vec<AnswerEvent>) {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (id, model) = (said(id), said(model));
        // Azure's first chunk has neither: it only speaks of the prompt's filters.
        let is_news = (self.id.is_none() && id.is_some()) || (self.model.is_none() && model.is_some());
        if is_news {
            self.id = self.id.take().or(id);
            self.model = self.model.take().or(model);
            events.push(AnswerEvent::Began { id: self.id.clone(), model: self.model.clone() });
        }
    }

    fn used(&mut self, usage: Option<domain::Usage>, events: &mut Vec<AnswerEvent>) {
        let usage = usage.or(self.report.as_ref().map(|report| report.usage));
        let Some(usage) = usage else { return };
        let report = UsageReport { usage, service_tier: self.tier };
        if self.report.as_ref() != Some(&report) {
            self.report = Some(report.clone());
            events.push(AnswerEvent::Used(report));
        }
    }

    fn choice(
        &mut self,
        place: u32,
        wire: Choice,
        is_whole: bool,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), BadAnswer> {
        if let Some(error) = wire.error {
            return Err(BadAnswer::Fault(fault::of_value(None, &error)));
        }
        let choice = wire.index.unwrap_or(place);
        if choice >= CHOICES_MAX {
            return Err(malformed(format!("choice {choice} of at most {CHOICES_MAX}")));
        }
        if self.choices.len() <= choice as usize {
            self.choices.resize_with(choice as usize + 1, Progress::default);
        }
        let made_up = format!("call_{}_{choice}", self.id.as_deref().unwrap_or("of"));
        let progress = &mut self.choices[choice as usize];
        progress.has_begun = true;
        let mut deltas = Vec::new();
        let message = if is_whole { wire.message.or(wire.delta) } else { wire.delta.or(wire.message) };
        if let Some(message) = message {
            progress.message(message, is_whole, &made_up, &mut deltas)?;
        }
        deltas.extend(wire.text.filter(|text| !text.is_empty()).map(Delta::Text));
        let scores = wire.logprobs.map(LogprobsHeard::scores).filter(|scores| !scores.is_empty());
        deltas.extend(scores.map(Delta::Scores));
        events.extend(deltas.into_iter().map(|delta| AnswerEvent::Delta { choice, delta }));
        if let Some(reason) = wire.finish_reason.filter(|reason| !reason.is_empty()) {
            let stop = wire.stop_reason.as_ref().and_then(Value::as_str).map(str::to_owned);
            progress.finish = Some(Finish { reason: read_finish(&reason)?, stop });
        }
        Ok(())
    }
}

impl Progress {
    fn message(
        &mut self,
        message: Message,
        is_whole: bool,
        made_up: &str,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), BadAnswer> {
        let blocks = message.reasoning_details.or(message.thinking_blocks).unwrap_or_default();
        let plain = message.reasoning_content.filter(|text| !text.is_empty()).or(message.reasoning);
        let thoughts: Vec<Thought> = blocks.iter().filter_map(Thought::read).collect();
        self.thoughts.hear(plain.unwrap_or_default(), thoughts, deltas);
        match message.content {
            Some(Content::Text(text)) => deltas.extend(said(text).map(Delta::Text)),
            Some(Content::Parts(parts)) => parts.iter().for_each(|part| self.part(part, deltas)),
            None => {}
        }
        deltas.extend(message.refusal.and_then(said).map(Delta::Refusal));
        let older = message.function_call.map(CallPiece::of_function);
        let pieces = message.tool_calls.unwrap_or_default().into_iter().chain(older);
        for piece in pieces {
            self.calls.hear(piece, is_whole, made_up, deltas)?;
        }
        Ok(())
    }

    fn part(&mut self, part: &Value, deltas: &mut Vec<Delta>) {
        let text = |value: &Value| value["text"].as_str().and_then(|text| said(text.to_owned()));
        match part["type"].as_str() {
            Some("text" | "output_text") => deltas.extend(text(part).map(Delta::Text)),
            Some("thinking") => {
                let thought: String = match &part["thinking"] {
                    Value::Array(pieces) => pieces.iter().filter_map(text).collect(),
                    other => other.as_str().unwrap_or_default().to_owned(),
                };
                self.thoughts.hear(thought, Vec::new(), deltas);
            }
            _ => {}
        }
    }
}

/// Reads an object. Errors of some servers have none of its fields, and no `error` either.
fn read(text: &str) -> Result<Object, BadAnswer> {
    let object: Object = parse(text)?;
    let has_something = object.choices.is_some() || object.usage.is_some() || object.x_groq.is_some();
    match has_something || object.id.is_some() || object.error.is_some() {
        true => Ok(object),
        false => Err(not_ours(text, "an object that has neither choices nor usage")),
    }
}

fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn read_finish(reason: &str) -> Result<FinishReason, BadAnswer> {
    let failed = |kind| Err(BadAnswer::Fault(Fault::new(kind, &format!("it ended with '{reason}'"))));
    match reason {
        "length" | "max_tokens" | "model_length" => Ok(FinishReason::Length),
        "tool_calls" | "function_call" | "tool_use" => Ok(FinishReason::ToolCalls),
        "content_filter" | "safety" => Ok(FinishReason::ContentFilter),
        "budget_exhausted" => Ok(FinishReason::BudgetExhausted),
        "error" | "abort" | "aborted" => failed(FaultKind::Server),
        "insufficient_system_resource" => failed(FaultKind::Overloaded),
        // `eos`, `eos_token`, `stop_sequence`, `end_turn`, …: it ended by itself, and said so.
        _ => Ok(FinishReason::Stop),
    }
}
