//! Responses: which events does an answer consist of?

use serde_json::{Value, json};

use super::responses::{Response, scores};
use crate::standin::mind::{Ending, Said};
use crate::standin::reply::{Event, Framing, Part, Stream};
use crate::standin::tokens::tokens;

/// Events, numbered as they are made.
#[derive(Default)]
struct Events(Vec<Event>);

pub fn stream(response: &Response<'_>) -> Stream {
    let mut events = Events::default();
    events.add(Part::Opening, "response.created", json!({"response": response.begun()}));
    events.add(Part::Opening, "response.in_progress", json!({"response": response.begun()}));
    for (place, item) in response.items.iter().enumerate() {
        match item["type"].as_str() {
            Some("reasoning") => events.reasoning(place, item, &response.said),
            Some("message") => events.message(place, item, response),
            _ => events.call(place, item),
        }
    }
    let finished = response.finished();
    let name = if finished["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
    events.add(Part::Finish, name, json!({"response": finished}));
    let number = events.0.len();
    let error = json!({"type": "error", "sequence_number": number, "code": "server_error",
        "message": "The model failed to generate a response.", "param": null});
    let failed =
        json!({"type": "response.failed", "sequence_number": number + 1, "response": response.failed()});
    let broken = vec![
        Event::new(Part::Error, Some("error"), &error),
        Event::new(Part::Error, Some("response.failed"), &failed),
    ];
    Stream { framing: Framing::ServerSent, events: events.0, broken, ping: None }
}

impl Events {
    fn add(&mut self, part: Part, name: &'static str, mut data: Value) {
        let mut event = json!({"type": name, "sequence_number": self.0.len()});
        if let (Some(event), Some(data)) = (event.as_object_mut(), data.as_object_mut()) {
            event.append(data);
        }
        self.0.push(Event::new(part, Some(name), &event));
    }

    fn reasoning(&mut self, place: usize, item: &Value, said: &Said) {
        let id = &item["id"];
        let begun = json!({"id": id, "type": "reasoning", "summary": []});
        self.add(Part::Opening, "response.output_item.added", json!({"output_index": place, "item": begun}));
        if !item["summary"].as_array().is_none_or(Vec::is_empty) {
            let at = |mut data: Value| {
                (data["item_id"], data["output_index"], data["summary_index"]) =
                    (id.clone(), json!(place), json!(0));
                data
            };
            let part = |text: &str| json!({"type": "summary_text", "text": text});
            let text = said.reasoning_text();
            self.add(Part::Opening, "response.reasoning_summary_part.added", at(json!({"part": part("")})));
            for token in &said.reasoning {
                self.add(Part::Content, "response.reasoning_summary_text.delta", at(json!({"delta": token})));
            }
            self.add(Part::Opening, "response.reasoning_summary_text.done", at(json!({"text": text})));
            self.add(Part::Opening, "response.reasoning_summary_part.done", at(json!({"part": part(&text)})));
        }
        self.add(Part::Opening, "response.output_item.done", json!({"output_index": place, "item": item}));
    }

    fn message(&mut self, place: usize, item: &Value, response: &Response<'_>) {
        let id = &item["id"];
        let begun =
            json!({"id": id, "type": "message", "status": "in_progress", "content": [], "role": "assistant"});
        self.add(Part::Opening, "response.output_item.added", json!({"output_index": place, "item": begun}));
        let at = |mut data: Value| {
            (data["item_id"], data["output_index"], data["content_index"]) =
                (id.clone(), json!(place), json!(0));
            data
        };
        let is_refusal = response.said.ending == Ending::Refusal;
        let begun = match is_refusal {
            true => json!({"type": "refusal", "refusal": ""}),
            false => json!({"type": "output_text", "annotations": [], "logprobs": [], "text": ""}),
        };
        self.add(Part::Opening, "response.content_part.added", at(json!({"part": begun})));
        for token in &response.said.text {
            match is_refusal {
                true => self.add(Part::Content, "response.refusal.delta", at(json!({"delta": token}))),
                false => {
                    let logprobs: Vec<Value> = scores(response.body(), token).into_iter().collect();
                    let delta = json!({"delta": token, "logprobs": logprobs});
                    self.add(Part::Content, "response.output_text.delta", at(delta));
                }
            }
        }
        let part = &item["content"][0];
        match is_refusal {
            true => self.add(Part::Opening, "response.refusal.done", at(json!({"refusal": part["refusal"]}))),
            false => {
                let done = json!({"text": part["text"], "logprobs": part["logprobs"]});
                self.add(Part::Opening, "response.output_text.done", at(done));
            }
        }
        self.add(Part::Opening, "response.content_part.done", at(json!({"part": part})));
        self.add(Part::Opening, "response.output_item.done", json!({"output_index": place, "item": item}));
    }

    fn call(&mut self, place: usize, item: &Value) {
        let mut begun = item.clone();
        (begun["status"], begun["arguments"]) = (json!("in_progress"), json!(""));
        let id = &item["id"];
        self.add(Part::Opening, "response.output_item.added", json!({"output_index": place, "item": begun}));
        for piece in tokens(item["arguments"].as_str().unwrap_or_default()) {
            let delta = json!({"item_id": id, "output_index": place, "delta": piece});
            self.add(Part::Content, "response.function_call_arguments.delta", delta);
        }
        let done = json!({"item_id": id, "output_index": place, "arguments": item["arguments"]});
        self.add(Part::Opening, "response.function_call_arguments.done", done);
        self.add(Part::Opening, "response.output_item.done", json!({"output_index": place, "item": item}));
    }
}
