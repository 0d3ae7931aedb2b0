//! How is a chat answer written while it grows?

use serde::Serialize;
use serde_json::Value;

use domain::{Delta, Finish, FinishReason, Part, Reasoning, TokenScore, UsageReport};

use super::reply::{ExtraContent, extra_content};
use crate::openai::logprobs::ChatLogprobs;
use crate::openai::stream::{DONE, frame};
use crate::openai::usage::UsageWire;
use crate::openai::{thoughts, tier};
use crate::{Head, Trouble, Writer};

/// Writes the events of one streamed answer.
#[derive(Debug)]
pub struct Stream {
    head: Head,
    include_usage: bool,
    choices: Vec<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    opened: bool,
    finished: bool,
    /// The block of reasoning that has had no proof yet; no longer than the answer.
    thought: String,
    /// How many blocks were written for their maker.
    blocks: usize,
}

impl Stream {
    /// `include_usage` is `stream_options.include_usage`: then every chunk carries `usage`, `null` in all but the last.
    pub fn new(head: Head, choices: u32, include_usage: bool) -> Self {
        Self { head, include_usage, choices: vec![Progress::default(); choices as usize] }
    }
    fn write(&mut self, choice: u32, delta: DeltaWire, scores: Option<&[TokenScore]>) -> Vec<u8> {
        let mut bytes = self.open(choice);
        assert!(!self.choices[choice as usize].finished, "choice {choice} was already finished");
        bytes.append(&mut self.chunk(choice, delta, scores, None));
        bytes
    }
    fn open(&mut self, choice: u32) -> Vec<u8> {
        if std::mem::replace(&mut self.choices[choice as usize].opened, true) {
            return Vec::new();
        }
        let role = DeltaWire {
            role: Some("assistant".to_owned()),
            content: Some(String::new()),
            ..DeltaWire::default()
        };
        self.chunk(choice, role, None, None)
    }
    fn chunk(
        &self,
        choice: u32,
        delta: DeltaWire,
        logprobs: Option<&[TokenScore]>,
        finish_reason: Option<FinishReason>,
    ) -> Vec<u8> {
        let logprobs = logprobs.map(ChatLogprobs::new);
        frame(&self.wire(
            vec![ChoiceWire { index: choice as usize, delta, logprobs, finish_reason }],
            self.include_usage.then_some(None),
        ))
    }
    fn wire(&self, choices: Vec<ChoiceWire>, usage: Option<Option<UsageWire>>) -> Chunk<'_> {
        Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: self.head.model.as_str(),
            system_fingerprint: self.head.system_fingerprint.as_deref(),
            choices,
            service_tier: None,
            usage,
        }
    }
}

impl Progress {
    /// Returns the block that this delta completes, if its maker will want it back.
    fn detail(&mut self, delta: &Delta) -> Option<Value> {
        let part = match delta {
            Delta::Reasoning(more) => {
                self.thought.push_str(more);
                return None;
            }
            Delta::ReasoningProof { proof, id } => {
                let text = std::mem::take(&mut self.thought);
                Part::Reasoning(Reasoning { text, proof: proof.clone(), id: id.clone() })
            }
            Delta::SealedReasoning(data) => Part::SealedReasoning(data.clone()),
            Delta::Scores(_) => return None,
            _ => {
                self.thought.clear();
                return None;
            }
        };
        let detail = thoughts::to_streamed_detail(&part, self.blocks);
        self.blocks += usize::from(detail.is_some());
        detail
    }
}

impl Writer for Stream {
    /// All deltas share one chunk; before the choice's first one comes the chunk that names its role.
    fn delta(&mut self, choice: u32, deltas: &[Delta]) -> Vec<u8> {
        let (mut wire, mut scores) = (DeltaWire::default(), None);
        for delta in deltas {
            wire.add(delta);
            wire.reasoning_details.extend(self.choices[choice as usize].detail(delta));
            if let Delta::Scores(more) = delta {
                scores.get_or_insert_with(Vec::new).extend_from_slice(more);
            }
        }
        if wire.is_empty() && scores.is_none() {
            return Vec::new();
        }
        self.write(choice, wire, scores.as_deref())
    }
    fn finish(&mut self, choice: u32, finish: &Finish) -> Vec<u8> {
        let mut bytes = self.open(choice);
        let progress = &mut self.choices[choice as usize];
        assert!(!progress.finished, "choice {choice} was already finished");
        progress.finished = true;
        bytes.append(&mut self.chunk(choice, DeltaWire::default(), None, Some(finish.reason)));
        bytes
    }
    /// The usage, if it was asked for, and `[DONE]`.
    fn end(self: Box<Self>, report: &UsageReport) -> Vec<u8> {
        assert!(self.choices.iter().all(|choice| choice.finished), "a stream ends after all of its choices");
        let mut bytes = Vec::new();
        if self.include_usage {
            let service_tier = report.service_tier.map(tier::word);
            let wire = self.wire(Vec::new(), Some(Some((&report.usage).into())));
            bytes = frame(&Chunk { service_tier, ..wire });
        }
        bytes.extend_from_slice(DONE);
        bytes
    }
    /// The error, and no `[DONE]`.
    fn broken(self: Box<Self>, trouble: &Trouble) -> Vec<u8> {
        crate::openai::stream::error_frame(trouble)
    }
}

impl DeltaWire {
    fn is_empty(&self) -> bool {
        self.content.is_none()
            && self.reasoning_content.is_none()
            && self.reasoning_details.is_empty()
            && self.tool_calls.is_empty()
            && self.refusal.is_none()
    }
    fn add(&mut self, delta: &Delta) {
        let append = |known: &mut Option<String>, more: &str| {
            if !more.is_empty() {
                known.get_or_insert_default().push_str(more);
            }
        };
        match delta {
            Delta::Text(text) => append(&mut self.content, text),
            Delta::Refusal(text) => append(&mut self.refusal, text),
            Delta::Reasoning(text) => append(&mut self.reasoning_content, text),
            Delta::ToolCall { index, id, name, proof } => {
                let function = FunctionWire { name: Some(name.clone()), arguments: String::new() };
                let (id, kind) = (Some(id.clone()), Some("function".to_owned()));
                let extra_content = extra_content(proof.as_deref());
                self.tool_calls.push(CallWire { index: *index as usize, id, kind, function, extra_content });
            }
            Delta::Arguments { index, json } => {
                let index = *index as usize;
                match self.tool_calls.iter_mut().find(|call| call.index == index) {
                    Some(call) => call.function.arguments.push_str(json),
                    None => {
                        let function = FunctionWire { name: None, arguments: json.clone() };
                        let (id, kind, extra_content) = (None, None, None);
                        self.tool_calls.push(CallWire { index, id, kind, function, extra_content });
                    }
                }
            }
            // Blocks are written by their progress, scores beside the delta.
            Delta::ReasoningProof { .. } | Delta::SealedReasoning(_) | Delta::Scores(_) => {}
        }
    }
}

/// One event.
#[derive(Debug, Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'a str>,
    choices: Vec<ChoiceWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    /// Absent, `null`, or there: three different things on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageWire>>,
}

#[derive(Debug, Serialize)]
struct ChoiceWire {
    index: usize,
    delta: DeltaWire,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishReason>,
}

#[derive(Debug, Default, Serialize)]
struct DeltaWire {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallWire>,
}

/// Calls come in pieces: the id and the name first, the arguments after and after.
#[derive(Debug, Serialize)]
struct CallWire {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    function: FunctionWire,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent>,
}

#[derive(Debug, Serialize)]
struct FunctionWire {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}
