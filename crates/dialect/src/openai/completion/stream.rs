//! How is a completion written while it grows, and read back?

use serde::{Deserialize, Serialize};

use domain::Usage;

use super::{Choice, Reply};
use crate::openai::logprobs::CompletionLogprobs;
use crate::openai::stream::{DONE, Fold, error_frame, frame};
use crate::openai::usage::UsageWire;
use crate::openai::{ErrorBody, FinishReason, Head, TokenScore};

/// What one chunk adds to one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    pub text: String,
    /// Scores of the tokens that became final with this chunk.
    pub logprobs: Option<Vec<TokenScore>>,
}

/// Writes the events of one streamed completion. It ends exactly once: [`Stream::end`] or [`Stream::broken`] takes it.
#[derive(Debug)]
pub struct Stream {
    head: Head,
    include_usage: bool,
    choices: Vec<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Characters of the choice's scored tokens so far: where the next one stands.
    offset: u64,
    finished: bool,
}

impl Stream {
    /// `choices` counts the choices of all prompts together. `include_usage` is `stream_options.include_usage`: then
    /// every chunk carries `usage`, `null` in all but the last.
    pub fn new(head: Head, choices: u32, include_usage: bool) -> Self {
        Self { head, include_usage, choices: vec![Progress::default(); choices as usize] }
    }
    /// Returns the chunk that carries `delta`; no bytes for a delta that adds nothing.
    pub fn delta(&mut self, choice: u32, delta: &Delta) -> Vec<u8> {
        if *delta == Delta::default() {
            return Vec::new();
        }
        let progress = &mut self.choices[choice as usize];
        assert!(!progress.finished, "choice {choice} was already finished");
        let scores = delta.logprobs.as_deref();
        let logprobs = scores.map(|scores| CompletionLogprobs::new(scores, progress.offset));
        for score in scores.unwrap_or_default() {
            progress.offset += score.text.chars().count() as u64;
        }
        self.chunk(choice, delta.text.clone(), logprobs, None)
    }
    /// Returns the chunk that ends one choice. Each choice is finished exactly once.
    pub fn finish(&mut self, choice: u32, reason: FinishReason) -> Vec<u8> {
        let progress = &mut self.choices[choice as usize];
        assert!(!progress.finished, "choice {choice} was already finished");
        progress.finished = true;
        self.chunk(choice, String::new(), None, Some(reason))
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
        error_frame(error)
    }
    fn chunk(
        &self,
        choice: u32,
        text: String,
        logprobs: Option<CompletionLogprobs>,
        finish_reason: Option<FinishReason>,
    ) -> Vec<u8> {
        frame(&self.wire(
            vec![ChoiceWire { index: choice as usize, text, logprobs, finish_reason }],
            self.include_usage.then_some(None),
        ))
    }
    fn wire(&self, choices: Vec<ChoiceWire>, usage: Option<Option<UsageWire>>) -> Chunk {
        Chunk {
            id: self.head.id.clone(),
            object: "text_completion".to_owned(),
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
    text: String,
    #[serde(default)]
    logprobs: Option<CompletionLogprobs>,
    #[serde(default)]
    finish_reason: Option<FinishReason>,
}

/// Choices that a stream may name: OpenAI's limit of 128 for each of 2,048 prompts is far above what anybody sends.
const CHOICES_FOLDED_MAX: usize = 1 << 18;

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
            if choice.index >= CHOICES_FOLDED_MAX {
                return Err(format!("choice {} of at most {CHOICES_FOLDED_MAX}", choice.index));
            }
            if self.choices.len() <= choice.index {
                self.choices.resize_with(choice.index + 1, Choice::default);
            }
            let known = &mut self.choices[choice.index];
            if known.finish.is_some() {
                return Err(format!("choice {} went on after its end", choice.index));
            }
            known.finish = choice.finish_reason;
            known.text.push_str(&choice.text);
            if let Some(logprobs) = choice.logprobs {
                known.logprobs.get_or_insert_default().extend(logprobs.scores());
            }
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
