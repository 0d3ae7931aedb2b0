//! What does an answer consist of, in one neutral form that every upstream's is read into and every dialect is written from?

use serde::{Deserialize, Serialize};

use crate::{Part, Reasoning, ServiceTier, ToolCall, Usage};

/// One step in an answer's growth. A whole answer is read as the same events, all at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AnswerEvent {
    /// The upstream's own names for the answer and for the model that gives it.
    Began {
        id: Option<String>,
        model: Option<String>,
    },
    Delta {
        choice: u32,
        delta: Delta,
    },
    Finished {
        choice: u32,
        finish: Finish,
    },
    /// All that the upstream says was used up to here. A later report replaces an earlier one; none at all is not zero.
    Used(UsageReport),
}

/// What is added to one choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Delta {
    Text(String),
    /// What the model says instead of an answer.
    Refusal(String),
    Reasoning(String),
    /// Ends a block of reasoning with what proves it to its maker; what follows is another block.
    ReasoningProof {
        proof: Option<String>,
        id: Option<String>,
    },
    SealedReasoning(String),
    /// A call begins; its arguments follow. Calls are numbered from 0 within their choice.
    ToolCall {
        index: u32,
        id: String,
        name: String,
        proof: Option<String>,
    },
    /// A further piece of a call's JSON.
    Arguments {
        index: u32,
        json: String,
    },
    /// How likely the tokens of the text were.
    Scores(Vec<TokenScore>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    pub reason: FinishReason,
    /// The stop string that ended it, where the upstream says which.
    pub stop: Option<String>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The answer asks for tools (chat only).
    ToolCalls,
    /// Withheld by a filter; read from other servers, never written by this one.
    ContentFilter,
    /// A limit of the caller's has no room for more. Our own word: a client must not take the cut for an answer's end.
    BudgetExhausted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    pub usage: Usage,
    /// The tier that it was really served and will be billed at, where the upstream says so.
    pub service_tier: Option<ServiceTier>,
}

/// A token that could stand at some place, and how likely it was there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The token's text; bytes that are no UTF-8 by themselves show as U+FFFD.
    pub text: String,
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

/// One place of an answer: the token there and its likeliest rivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    pub text: String,
    pub bytes: Vec<u8>,
    /// `None` for the first token of an echoed prompt: nothing came before it.
    pub logprob: Option<f32>,
    pub top: Vec<Scored>,
}

/// A whole answer: what its events add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub id: Option<String>,
    pub model: Option<String>,
    pub choices: Vec<AnsweredChoice>,
    pub report: Option<UsageReport>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnsweredChoice {
    /// Text, refusal, reasoning and calls, in the order they came.
    pub parts: Vec<Part>,
    /// `None` unless log-probabilities were reported.
    pub scores: Option<Vec<TokenScore>>,
    pub finish: Option<Finish>,
    /// The reasoning block at the end has had its proof: more reasoning begins another.
    #[serde(skip)]
    is_proven: bool,
}

/// Choices and calls that an answer may have; an upstream that names more is not believed.
pub const CHOICES_MAX: u32 = 1024;

impl Finish {
    pub fn of(reason: FinishReason) -> Self {
        Self { reason, stop: None }
    }
}

impl Answer {
    /// Adds what an event says. Choices past [`CHOICES_MAX`] are not kept.
    pub fn fold(&mut self, event: AnswerEvent) {
        match event {
            AnswerEvent::Began { id, model } => {
                self.id = id.or(self.id.take());
                self.model = model.or(self.model.take());
            }
            AnswerEvent::Delta { choice, delta } => {
                self.choice(choice).into_iter().for_each(|known| known.fold(delta.clone()))
            }
            AnswerEvent::Finished { choice, finish } => {
                self.choice(choice).into_iter().for_each(|known| known.finish = Some(finish.clone()));
            }
            AnswerEvent::Used(report) => self.report = Some(report),
        }
    }

    /// Returns events that add up to this answer again.
    pub fn events(&self) -> Vec<AnswerEvent> {
        let mut events = vec![AnswerEvent::Began { id: self.id.clone(), model: self.model.clone() }];
        for (choice, answered) in (0..).zip(&self.choices) {
            let deltas = answered.deltas().into_iter();
            events.extend(deltas.map(|delta| AnswerEvent::Delta { choice, delta }));
            events.extend(answered.finish.clone().map(|finish| AnswerEvent::Finished { choice, finish }));
        }
        events.extend(self.report.clone().map(AnswerEvent::Used));
        events
    }

    fn choice(&mut self, choice: u32) -> Option<&mut AnsweredChoice> {
        if choice >= CHOICES_MAX {
            return None;
        }
        let place = choice as usize;
        if self.choices.len() <= place {
            self.choices.resize_with(place + 1, AnsweredChoice::default);
        }
        self.choices.get_mut(place)
    }
}

impl AnsweredChoice {
    pub fn text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.parts.iter().filter_map(text).collect()
    }

    pub fn refusal(&self) -> Option<String> {
        let refusal = |part: &Part| match part {
            Part::Refusal(text) => Some(text.clone()),
            _ => None,
        };
        self.parts.iter().filter_map(refusal).reduce(|all, more| all + &more)
    }

    pub fn reasoning(&self) -> Option<String> {
        let text = |part: &Part| match part {
            Part::Reasoning(reasoning) => Some(reasoning.text.clone()),
            _ => None,
        };
        self.parts.iter().filter_map(text).reduce(|all, more| all + &more)
    }

    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    fn fold(&mut self, delta: Delta) {
        let is_proven = std::mem::take(&mut self.is_proven);
        match (delta, self.parts.last_mut()) {
            (Delta::Text(more), Some(Part::Text { text, .. })) => text.push_str(&more),
            (Delta::Text(text), _) => self.parts.push(Part::text(text)),
            (Delta::Refusal(more), Some(Part::Refusal(text))) => text.push_str(&more),
            (Delta::Refusal(text), _) => self.parts.push(Part::Refusal(text)),
            (Delta::Reasoning(more), Some(Part::Reasoning(known))) if !is_proven => {
                known.text.push_str(&more)
            }
            (Delta::Reasoning(text), _) => {
                self.parts.push(Part::Reasoning(Reasoning { text, ..Reasoning::default() }));
            }
            (Delta::ReasoningProof { proof, id }, Some(Part::Reasoning(known))) if !is_proven => {
                (known.proof, known.id) = (proof, id);
                self.is_proven = true;
            }
            (Delta::ReasoningProof { proof, id }, _) => {
                self.parts.push(Part::Reasoning(Reasoning { text: String::new(), proof, id }));
                self.is_proven = true;
            }
            (Delta::SealedReasoning(sealed), _) => self.parts.push(Part::SealedReasoning(sealed)),
            (Delta::ToolCall { id, name, proof, .. }, _) => {
                self.parts.push(Part::ToolCall(ToolCall { id, name, arguments: String::new(), proof }));
            }
            (Delta::Arguments { index, json }, _) => {
                let mut calls = self.parts.iter_mut().filter_map(|part| match part {
                    Part::ToolCall(call) => Some(call),
                    _ => None,
                });
                calls.nth(index as usize).into_iter().for_each(|call| call.arguments.push_str(&json));
            }
            (Delta::Scores(mut scores), _) => {
                self.is_proven = is_proven;
                self.scores.get_or_insert_default().append(&mut scores);
            }
        }
    }

    fn deltas(&self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let mut index = 0;
        for part in &self.parts {
            match part {
                Part::Text { text, .. } => deltas.push(Delta::Text(text.clone())),
                Part::Refusal(text) => deltas.push(Delta::Refusal(text.clone())),
                Part::Media(_) => {}
                Part::Reasoning(Reasoning { text, proof, id }) => {
                    deltas.push(Delta::Reasoning(text.clone()));
                    deltas.push(Delta::ReasoningProof { proof: proof.clone(), id: id.clone() });
                }
                Part::SealedReasoning(sealed) => deltas.push(Delta::SealedReasoning(sealed.clone())),
                Part::ToolCall(ToolCall { id, name, arguments, proof }) => {
                    let (id, name, proof) = (id.clone(), name.clone(), proof.clone());
                    deltas.push(Delta::ToolCall { index, id, name, proof });
                    deltas.push(Delta::Arguments { index, json: arguments.clone() });
                    index += 1;
                }
            }
        }
        deltas.extend(self.scores.clone().map(Delta::Scores));
        deltas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(delta: Delta) -> AnswerEvent {
        AnswerEvent::Delta { choice: 0, delta }
    }

    fn folded(events: impl IntoIterator<Item = AnswerEvent>) -> Answer {
        let mut answer = Answer::default();
        events.into_iter().for_each(|event| answer.fold(event));
        answer
    }

    #[test]
    fn events_add_up_to_an_answer_in_the_order_they_came_and_back_again() {
        let call = |index, name: &str| {
            delta(Delta::ToolCall { index, id: format!("call_{index}"), name: name.into(), proof: None })
        };
        let json = |index, json: &str| delta(Delta::Arguments { index, json: json.into() });
        let proof = |text: &str| delta(Delta::ReasoningProof { proof: Some(text.into()), id: None });
        let answer = folded([
            AnswerEvent::Began { id: Some("a".into()), model: None },
            delta(Delta::Reasoning("Let me ".into())),
            delta(Delta::Reasoning("see.".into())),
            proof("sig1"),
            delta(Delta::Reasoning("More.".into())),
            proof("sig2"),
            delta(Delta::Text("Hel".into())),
            delta(Delta::Text("lo".into())),
            call(0, "add"),
            json(0, "{\"a\":"),
            call(1, "sub"),
            json(0, "1}"),
            json(1, "{}"),
            AnswerEvent::Finished { choice: 0, finish: Finish::of(FinishReason::ToolCalls) },
            AnswerEvent::Used(UsageReport::default()),
        ]);
        let choice = &answer.choices[0];
        assert_eq!(choice.parts.len(), 5);
        assert_eq!((choice.text(), choice.reasoning()), ("Hello".into(), Some("Let me see.More.".into())));
        let calls: Vec<_> = choice.tool_calls().map(|call| (&*call.name, &*call.arguments)).collect();
        assert_eq!(calls, [("add", "{\"a\":1}"), ("sub", "{}")]);
        assert_eq!(folded(answer.events()), answer);
    }

    #[test]
    fn an_upstream_cannot_make_us_keep_choices_without_end() {
        let event = AnswerEvent::Delta { choice: u32::MAX, delta: Delta::Text("x".into()) };
        assert_eq!(folded([event]), Answer::default());
    }
}
