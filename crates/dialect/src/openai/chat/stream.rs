//! How is a chat answer written while it grows, and read back?

use serde::{Deserialize, Serialize};

use domain::{ToolCall, Usage};

use super::{Choice, Reply};
use crate::openai::logprobs::ChatLogprobs;
use crate::openai::stream::{DONE, Fold, frame};
use crate::openai::usage::UsageWire;
use crate::openai::{ErrorBody, FinishReason, Head, TokenScore};

/// What one chunk adds to one choice. Empty fields add nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    pub content: String,
    pub reasoning: String,
    /// Each call comes whole, because only a whole call is known to be one.
    pub tool_calls: Vec<ToolCall>,
    /// Scores of the tokens that became final with this chunk.
    pub logprobs: Option<Vec<TokenScore>>,
}

/// Writes the events of one streamed answer. It ends exactly once: [`Stream::end`] or [`Stream::broken`] takes it.
#[derive(Debug)]
pub struct Stream {
    head: Head,
    include_usage: bool,
    choices: Vec<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    opened: bool,
    tool_calls: usize,
    finished: bool,
}

impl Stream {
    /// `include_usage` is `stream_options.include_usage`: then every chunk carries `usage`, `null` in all but the last.
    pub fn new(head: Head, choices: u32, include_usage: bool) -> Self {
        Self { head, include_usage, choices: vec![Progress::default(); choices as usize] }
    }
    /// Returns the chunk that carries `delta`; before the choice's first one, also the chunk that names its role.
    ///
    /// Returns no bytes for a delta that adds nothing.
    pub fn delta(&mut self, choice: u32, delta: &Delta) -> Vec<u8> {
        if *delta == Delta::default() {
            return Vec::new();
        }
        let mut bytes = self.open(choice);
        let progress = &mut self.choices[choice as usize];
        assert!(!progress.finished, "choice {choice} was already finished");
        let first_call = progress.tool_calls;
        progress.tool_calls += delta.tool_calls.len();
        let calls = delta.tool_calls.iter().enumerate();
        let wire = DeltaWire {
            role: None,
            content: (!delta.content.is_empty()).then(|| delta.content.clone()),
            reasoning_content: (!delta.reasoning.is_empty()).then(|| delta.reasoning.clone()),
            tool_calls: calls.map(|(place, call)| CallWire::new(first_call + place, call)).collect(),
        };
        bytes.append(&mut self.chunk(choice, wire, delta.logprobs.as_deref(), None));
        bytes
    }
    /// Returns the chunk that ends one choice. Each choice is finished exactly once.
    pub fn finish(&mut self, choice: u32, reason: FinishReason) -> Vec<u8> {
        let mut bytes = self.open(choice);
        let progress = &mut self.choices[choice as usize];
        assert!(!progress.finished, "choice {choice} was already finished");
        progress.finished = true;
        bytes.append(&mut self.chunk(choice, DeltaWire::default(), None, Some(reason)));
        bytes
    }
    /// Returns the end of an answer that ended well: the usage, if it was asked for, and `[DONE]`.
    pub fn end(self, usage: &Usage) -> Vec<u8> {
        assert!(self.choices.iter().all(|choice| choice.finished), "a stream ends after all of its choices");
        let mut bytes = Vec::new();
        if self.include_usage {
            bytes = frame(&self.wire(Vec::new(), Some(Some(usage.into()))));
        }
        bytes.extend_from_slice(DONE);
        bytes
    }
    /// Returns the end of an answer that broke: the error, and no `[DONE]`, so that nobody takes it for a whole one.
    pub fn broken(self, error: &ErrorBody) -> Vec<u8> {
        crate::openai::stream::error_frame(error)
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

impl CallWire {
    fn new(index: usize, call: &ToolCall) -> Self {
        let function = FunctionWire { name: Some(call.name.clone()), arguments: call.arguments.clone() };
        Self { index, id: Some(call.id.clone()), kind: Some("function".to_owned()), function }
    }
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
                let empty = || ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
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
