//! How is a completion written while it grows?

use serde::Serialize;

use domain::{Delta, Finish, FinishReason, TokenScore, UsageReport};

use crate::openai::logprobs::CompletionLogprobs;
use crate::openai::stream::{DONE, error_frame, frame};
use crate::openai::usage::UsageWire;
use crate::{Head, Trouble, Writer};

/// Writes the events of one streamed completion.
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
    fn wire(&self, choices: Vec<ChoiceWire>, usage: Option<Option<UsageWire>>) -> Chunk<'_> {
        Chunk {
            id: &self.head.id,
            object: "text_completion",
            created: self.head.created,
            model: self.head.model.as_str(),
            system_fingerprint: self.head.system_fingerprint.as_deref(),
            choices,
            usage,
        }
    }
}

impl Writer for Stream {
    fn delta(&mut self, choice: u32, deltas: &[Delta]) -> Vec<u8> {
        let (mut text, mut scores) = (String::new(), None);
        for delta in deltas {
            match delta {
                Delta::Text(more) => text.push_str(more),
                Delta::Scores(more) => scores.get_or_insert_with(Vec::new).extend_from_slice(more),
                // A completion is text and nothing else.
                _ => {}
            }
        }
        if text.is_empty() && scores.is_none() {
            return Vec::new();
        }
        let progress = &mut self.choices[choice as usize];
        assert!(!progress.finished, "choice {choice} was already finished");
        let scores: Option<&[TokenScore]> = scores.as_deref();
        let logprobs = scores.map(|scores| CompletionLogprobs::new(scores, progress.offset));
        for score in scores.unwrap_or_default() {
            progress.offset += score.text.chars().count() as u64;
        }
        self.chunk(choice, text, logprobs, None)
    }
    fn finish(&mut self, choice: u32, finish: &Finish) -> Vec<u8> {
        let progress = &mut self.choices[choice as usize];
        assert!(!progress.finished, "choice {choice} was already finished");
        progress.finished = true;
        self.chunk(choice, String::new(), None, Some(finish.reason))
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
        error_frame(trouble)
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
    /// Absent, `null`, or there: three different things on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageWire>>,
}

#[derive(Debug, Serialize)]
struct ChoiceWire {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<FinishReason>,
}
