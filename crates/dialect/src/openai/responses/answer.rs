//! What does a response say, whole or event by event?
//!
//! Items are told by their deltas, and once more when they are done, and all of them at the end. Whatever came first counts; what
//! only comes later (several servers leave out deltas) is said then. **Its end** is `response.completed` or
//! `response.incomplete`; a stream that ends without one broke, whatever it said before.

use serde_json::Value;

use domain::{AnswerEvent, Delta, Finish, FinishReason, ServiceTier, UsageReport};

use super::output::{CUSTOM, SEALED};
use crate::openai::body::{Understand, malformed, parse};
use crate::openai::fault;
use crate::openai::logprobs::LogprobsHeard;
use crate::openai::tier;
use crate::openai::usage::UsageHeard;
use crate::{BadAnswer, Fault, FaultKind};

/// What has been heard of one response.
#[derive(Default)]
pub(super) struct ResponseReader {
    has_begun: bool,
    /// By `output_index`; at most [`ITEMS_MAX`].
    items: Vec<Item>,
    calls: u32,
    report: Option<UsageReport>,
    finish: Option<FinishReason>,
    has_ended: bool,
}

/// What of an item has been said already.
#[derive(Clone, Debug, Default)]
struct Item {
    /// The number of the call that it is.
    call: Option<u32>,
    has_text: bool,
    /// Thoughts come as a summary or as they are; the first to come counts.
    thought: Option<Thought>,
    is_done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thought {
    Summary,
    Content,
}

/// Nobody says more things in one answer.
const ITEMS_MAX: usize = 4096;

impl Understand for ResponseReader {
    fn whole(&mut self, text: &str, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let response: Value = parse(text)?;
        if response["output"].is_array() {
            return self.over(&response, events);
        }
        match fault::is_error(&response) {
            true => Err(BadAnswer::Fault(fault::of_value(None, &response))),
            false => Err(malformed("an object that is no response")),
        }
    }

    fn event(&mut self, name: &str, data: &str, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if data.trim() == "[DONE]" || self.finish.is_some() {
            return Ok(());
        }
        let event: Value = parse(data)?;
        let kind = event["type"].as_str().unwrap_or(name);
        match kind {
            "error" => return Err(BadAnswer::Fault(fault::of_value(None, &event))),
            "response.created" | "response.in_progress" | "response.queued" => {
                self.begin(&event["response"], events);
            }
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                return self.over(&event["response"], events);
            }
            "response.output_item.added" => {
                let place = self.place(&event)?;
                self.call(place, &event["item"], false, events);
            }
            "response.output_item.done" => {
                let place = self.place(&event)?;
                self.item(place, &event["item"], events);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let place = self.place(&event)?;
                let Some(index) = self.items[place].call else {
                    return Err(malformed("arguments of a call that did not begin"));
                };
                self.items[place].has_text = true;
                let json = event["delta"].as_str().unwrap_or_default().to_owned();
                say(Delta::Arguments { index, json }, events);
            }
            "response.output_text.delta" => {
                let place = self.place(&event)?;
                self.items[place].has_text = true;
                text(&event["delta"], &event["logprobs"], events);
            }
            "response.refusal.delta" => {
                let place = self.place(&event)?;
                self.items[place].has_text = true;
                say(Delta::Refusal(event["delta"].as_str().unwrap_or_default().to_owned()), events);
            }
            "response.reasoning_summary_text.delta" => {
                self.thought(&event, Thought::Summary, "delta", events)?;
            }
            "response.reasoning_text.delta" => self.thought(&event, Thought::Content, "delta", events)?,
            "response.reasoning_summary_part.added" if event["summary_index"].as_u64() > Some(0) => {
                self.thought(&event, Thought::Summary, "", events)?;
            }
            _ if event.get("error").is_some_and(|error| !error.is_null()) => {
                return Err(BadAnswer::Fault(fault::of_value(None, &event)));
            }
            // Provider's tools at work, annotations, ends of what was heard already.
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let Some(reason) = self.finish else { return Err(BadAnswer::Unfinished) };
        if !std::mem::replace(&mut self.has_ended, true) {
            events.push(AnswerEvent::Finished { choice: 0, finish: Finish::of(reason) });
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.finish.is_some()
    }
}

impl ResponseReader {
    fn begin(&mut self, response: &Value, events: &mut Vec<AnswerEvent>) {
        let text = |name: &str| response[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (id, model) = (text("id"), text("model"));
        if !self.has_begun && (id.is_some() || model.is_some()) {
            self.has_begun = true;
            events.push(AnswerEvent::Began { id, model });
        }
    }

    fn place(&mut self, event: &Value) -> Result<usize, BadAnswer> {
        // Servers that give one item only may leave its place out.
        let place = event["output_index"].as_u64().unwrap_or(0) as usize;
        if place >= ITEMS_MAX {
            return Err(malformed(format!("item {place} of at most {ITEMS_MAX}")));
        }
        if self.items.len() <= place {
            self.items.resize_with(place + 1, Item::default);
        }
        Ok(place)
    }

    /// The response is over: well, cut, or not at all.
    fn over(&mut self, response: &Value, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        self.begin(response, events);
        let output = response["output"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (place, item) in output.iter().enumerate().take(ITEMS_MAX) {
            if self.items.len() <= place {
                self.items.push(Item::default());
            }
            self.item(place, item, events);
        }
        let usage: Option<UsageHeard> = serde_json::from_value(response["usage"].clone()).unwrap_or_default();
        let service_tier: Option<ServiceTier> = response["service_tier"].as_str().and_then(tier::read);
        if let Some(usage) = usage.and_then(|usage| usage.usage()) {
            let report = UsageReport { usage, service_tier };
            self.report = Some(report.clone());
            events.push(AnswerEvent::Used(report));
        }
        let failed = |otherwise: &str| {
            let fault = match response["error"].is_null() {
                true => Fault::new(FaultKind::Server, otherwise),
                false => fault::of_value(None, response),
            };
            Err(BadAnswer::Fault(fault))
        };
        self.finish = Some(match response["status"].as_str() {
            Some("completed") | None if self.calls > 0 => FinishReason::ToolCalls,
            Some("completed") | None => FinishReason::Stop,
            Some("incomplete") => match response["incomplete_details"]["reason"].as_str() {
                Some("content_filter") => FinishReason::ContentFilter,
                Some("budget_exhausted") => FinishReason::BudgetExhausted,
                _ => FinishReason::Length,
            },
            Some("failed") => return failed("the response failed"),
            Some(other) => return failed(&format!("the response is {other}")),
        });
        Ok(())
    }

    /// Says what of a whole item has not been said yet.
    fn item(&mut self, place: usize, item: &Value, events: &mut Vec<AnswerEvent>) {
        if self.items[place].is_done {
            return;
        }
        match item["type"].as_str() {
            Some("message") if !self.items[place].has_text => {
                for part in item["content"].as_array().into_iter().flatten() {
                    match part["type"].as_str() {
                        Some("refusal") => {
                            let refusal = part["refusal"].as_str().unwrap_or_default();
                            say(Delta::Refusal(refusal.to_owned()), events);
                        }
                        _ => text(&part["text"], &part["logprobs"], events),
                    }
                }
            }
            Some("function_call" | CUSTOM) => self.call(place, item, true, events),
            Some("reasoning") => self.reasoning(place, item, events),
            _ => {}
        }
        self.items[place].is_done = true;
    }

    fn call(&mut self, place: usize, item: &Value, is_whole: bool, events: &mut Vec<AnswerEvent>) {
        let is_custom = item["type"] == CUSTOM;
        if !is_custom && item["type"] != "function_call" {
            return;
        }
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let index = *self.items[place].call.get_or_insert_with(|| {
            let index = self.calls;
            self.calls += 1;
            let id = Some(text("call_id")).filter(|id| !id.is_empty()).unwrap_or_else(|| text("id"));
            let proof = is_custom.then(|| CUSTOM.to_owned());
            say(Delta::ToolCall { index, id, name: text("name"), proof }, events);
            index
        });
        if is_whole && !self.items[place].has_text {
            self.items[place].has_text = true;
            say(
                Delta::Arguments { index, json: text(if is_custom { "input" } else { "arguments" }) },
                events,
            );
        }
    }

    fn reasoning(&mut self, place: usize, item: &Value, events: &mut Vec<AnswerEvent>) {
        let texts = |name: &str| -> Vec<&str> {
            item[name].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect()
        };
        let proof = item["encrypted_content"].as_str().map(str::to_owned);
        if let Some(sealed) = proof.as_deref().and_then(|proof| proof.strip_prefix(SEALED)) {
            return say(Delta::SealedReasoning(sealed.to_owned()), events);
        }
        let mut has_text = self.items[place].thought.is_some();
        if !has_text {
            let content = texts("content");
            let text = if content.is_empty() { texts("summary").join("\n\n") } else { content.concat() };
            has_text = !text.is_empty();
            say(Delta::Reasoning(text), events);
        }
        let id = item["id"].as_str().filter(|id| id.starts_with("rs_")).map(str::to_owned);
        if proof.is_some() || has_text {
            say(Delta::ReasoningProof { proof, id }, events);
        }
    }

    fn thought(
        &mut self,
        event: &Value,
        sort: Thought,
        field: &str,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), BadAnswer> {
        let place = self.place(event)?;
        let known = &mut self.items[place].thought;
        if *known.get_or_insert(sort) == sort {
            let text = if field.is_empty() { "\n\n" } else { event[field].as_str().unwrap_or_default() };
            say(Delta::Reasoning(text.to_owned()), events);
        }
        Ok(())
    }
}

fn text(text: &Value, logprobs: &Value, events: &mut Vec<AnswerEvent>) {
    say(Delta::Text(text.as_str().unwrap_or_default().to_owned()), events);
    if logprobs.as_array().is_some_and(|places| !places.is_empty()) {
        // Places that cannot be read cost no answer.
        let heard = serde_json::from_value::<LogprobsHeard>(serde_json::json!({"content": logprobs}));
        let scores = heard.map(LogprobsHeard::scores).unwrap_or_default();
        say(Delta::Scores(scores), events);
    }
}

/// Adds a delta, unless it says nothing.
fn say(delta: Delta, events: &mut Vec<AnswerEvent>) {
    let is_nothing = match &delta {
        Delta::Text(text) | Delta::Refusal(text) | Delta::Reasoning(text) => text.is_empty(),
        Delta::Arguments { json, .. } => json.is_empty(),
        Delta::Scores(scores) => scores.is_empty(),
        _ => false,
    };
    if !is_nothing {
        events.push(AnswerEvent::Delta { choice: 0, delta });
    }
}
