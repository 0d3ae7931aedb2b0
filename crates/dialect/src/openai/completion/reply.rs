//! How is a whole completion written?

use serde::Serialize;

use domain::{AnsweredChoice, FinishReason, TokenScore, UsageReport};

use crate::Head;
use crate::openai::logprobs::CompletionLogprobs;
use crate::openai::stream::json;
use crate::openai::usage::UsageWire;

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub head: Head,
    /// In order of their index: all choices of the first prompt, then those of the second.
    pub choices: Vec<Choice>,
    pub report: UsageReport,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// With `echo`, the prompt comes first.
    pub text: String,
    /// With `echo`, the prompt's tokens come first; the very first has no log-probability.
    pub logprobs: Option<Vec<TokenScore>>,
    pub finish: Option<FinishReason>,
}

#[derive(Serialize)]
struct ReplyWire<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'a str>,
    choices: Vec<ChoiceWire<'a>>,
    usage: UsageWire,
}

#[derive(Serialize)]
struct ChoiceWire<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<FinishReason>,
}

impl Reply {
    pub fn to_json(&self) -> Vec<u8> {
        json(&ReplyWire {
            id: &self.head.id,
            object: "text_completion",
            created: self.head.created,
            model: self.head.model.as_str(),
            system_fingerprint: self.head.system_fingerprint.as_deref(),
            choices: self.choices.iter().enumerate().map(|(index, choice)| choice.wire(index)).collect(),
            usage: (&self.report.usage).into(),
        })
    }
}

impl Choice {
    pub(super) fn of(choice: &AnsweredChoice) -> Self {
        Self {
            text: choice.text(),
            logprobs: choice.scores.clone(),
            finish: choice.finish.as_ref().map(|finish| finish.reason),
        }
    }

    fn wire(&self, index: usize) -> ChoiceWire<'_> {
        let logprobs = self.logprobs.as_deref().map(|scores| CompletionLogprobs::new(scores, 0));
        ChoiceWire { index, text: &self.text, logprobs, finish_reason: self.finish }
    }
}
