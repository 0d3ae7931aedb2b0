//! How is a chat answer written while it grows, and read back?

use serde::{Deserialize, Serialize};

use domain::{Delta, Finish, FinishReason, TokenScore, ToolCall, UsageReport};

use super::{Choice, Reply};
use crate::openai::logprobs::ChatLogprobs;
use crate::openai::stream::{DONE, Fold, frame};
use crate::openai::usage::UsageWire;
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
    fn wire(&self, choices: Vec<ChoiceWire>, usage: Option<Option<UsageWire>>) -> Chunk {
        Chunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.head.created,
            model: self.head.model.as_str().to_owned(),
            system_fingerprint: self.head.system_fingerprint.clone(),
            choices,
            usage,
        }
    }
}

impl Writer for Stream {
    /// All deltas share one chunk; before the choice's first one comes the chunk that names its role.
    fn delta(&mut self, choice: u32, deltas: &[Delta]) -> Vec<u8> {
        let (mut wire, mut scores) = (DeltaWire::default(), None);
        for delta in deltas {
            wire.add(delta);
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
            bytes = frame(&self.wire(Vec::new(), Some(Some((&report.usage).into()))));
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
            Delta::ToolCall { index, id, name, .. } => {
                let function = FunctionWire { name: Some(name.clone()), arguments: String::new() };
                let (id, kind) = (Some(id.clone()), Some("function".to_owned()));
                self.tool_calls.push(CallWire { index: *index as usize, id, kind, function });
            }
            Delta::Arguments { index, json } => {
                let index = *index as usize;
                match self.tool_calls.iter_mut().find(|call| call.index == index) {
                    Some(call) => call.function.arguments.push_str(json),
                    None => {
                        let function = FunctionWire { name: None, arguments: json.clone() };
                        self.tool_calls.push(CallWire { index, id: None, kind: None, function });
                    }
                }
            }
            // Only their maker has a use for these, and this dialect no words.
            Delta::ReasoningProof { .. } | Delta::SealedReasoning(_) | Delta::Scores(_) => {}
        }
    }
}

/// One event. Private to the dialect, but named by [`Fold`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Chunk {
    id: String,
    object: String,
    created: u64,
    model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<String>,
    choices: Vec<ChoiceWire>,
    /// Absent, `null`, or there: three different things on the wire; `null` reads as absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageWire>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChoiceWire {
    index: usize,
    delta: DeltaWire,
    #[serde(default)]
    logprobs: Option<ChatLogprobs>,
    #[serde(default)]
    finish_reason: Option<FinishReason>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct DeltaWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallWire>,
}

/// Other servers send a call in pieces: the id and the name first, the arguments after and after.
#[derive(Debug, Serialize, Deserialize)]
struct CallWire {
    index: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    function: FunctionWire,
}

#[derive(Debug, Serialize, Deserialize)]
struct FunctionWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default)]
    arguments: String,
}

/// Choices and calls that a stream may name; more is no answer to a request that we understand.
const FOLDED_MAX: usize = 1024;

impl Default for Reply {
    fn default() -> Self {
        let head = Head { id: String::new(), created: 0, model: "".into(), system_fingerprint: None };
        Self { head, choices: Vec::new(), usage: None }
    }
}

impl Fold for Reply {
    type Chunk = Chunk;

    fn fold(&mut self, chunk: Chunk) -> Result<(), String> {
        self.head = Head {
            id: chunk.id,
            created: chunk.created,
            model: chunk.model.as_str().into(),
            system_fingerprint: chunk.system_fingerprint,
        };
        if let Some(Some(usage)) = &chunk.usage {
            self.usage = Some(usage.into());
        }
        for choice in chunk.choices {
            if choice.index >= FOLDED_MAX {
                return Err(format!("choice {} of at most {FOLDED_MAX}", choice.index));
            }
            if self.choices.len() <= choice.index {
                self.choices.resize_with(choice.index + 1, Choice::default);
            }
            self.choices[choice.index].fold(choice)?;
        }
        Ok(())
    }
    fn check(&self) -> Result<(), String> {
        match self.choices.iter().position(|choice| choice.finish.is_none()) {
            Some(index) => Err(format!("choice {index} never finished")),
            None => Ok(()),
        }
    }
}

impl Choice {
    fn fold(&mut self, chunk: ChoiceWire) -> Result<(), String> {
        if self.finish.is_some() {
            return Err(format!("choice {} went on after its end", chunk.index));
        }
        self.finish = chunk.finish_reason;
        self.content.push_str(chunk.delta.content.as_deref().unwrap_or_default());
        self.reasoning.push_str(chunk.delta.reasoning_content.as_deref().unwrap_or_default());
        if let Some(logprobs) = chunk.logprobs {
            self.logprobs.get_or_insert_default().extend(logprobs.scores());
        }
        for call in chunk.delta.tool_calls {
            if call.index >= FOLDED_MAX {
                return Err(format!("tool call {} of at most {FOLDED_MAX}", call.index));
            }
            if self.tool_calls.len() <= call.index {
                let empty = || ToolCall {
                    id: String::new(),
                    name: String::new(),
                    arguments: String::new(),
                    proof: None,
                };
                self.tool_calls.resize_with(call.index + 1, empty);
            }
            let known = &mut self.tool_calls[call.index];
            known.id.push_str(call.id.as_deref().unwrap_or_default());
            known.name.push_str(call.function.name.as_deref().unwrap_or_default());
            known.arguments.push_str(&call.function.arguments);
        }
        Ok(())
    }
}
