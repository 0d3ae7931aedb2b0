//! What did each sequence get, and was every promise kept on the way?

use std::collections::HashMap;
use std::time::Duration;

use domain::{StepEvent, TokenId, TokenLogprob, WorkEnd, WorkEvent, WorkKey, WorkUsage};

/// Everything that one sequence got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub cached_tokens: Option<u32>,
    pub tokens: Vec<TokenId>,
    /// When each token came.
    pub times: Vec<Duration>,
    pub logprobs: Vec<TokenLogprob>,
    pub prompt_logprobs: Option<Vec<Option<TokenLogprob>>>,
    pub end: Option<(WorkEnd, WorkUsage)>,
}

impl Answer {
    pub fn ended(&self) -> &WorkEnd {
        &self.end.as_ref().expect("the work has ended").0
    }
    pub fn usage(&self) -> WorkUsage {
        self.end.as_ref().expect("the work has ended").1
    }
    /// Returns what was used, without the time that it took.
    pub fn counts(&self) -> WorkUsage {
        WorkUsage { compute_us: 0, ..self.usage() }
    }
    /// Returns what was said. When, and how much of the machine it took, is the company's doing.
    pub fn said(&self) -> Answer {
        let end = self.end.clone().map(|(end, mut usage)| {
            usage.cached_tokens = 0;
            usage.compute_us = 0;
            (end, usage)
        });
        Answer { end, times: Vec::new(), cached_tokens: None, ..self.clone() }
    }
    /// Returns the longest time between two tokens after that moment.
    pub fn longest_gap_after(&self, moment: Duration) -> Duration {
        let gaps = self.times.windows(2).filter(|pair| pair[1] > moment).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

/// Collects events and panics where their order breaks a promise.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    answers: HashMap<WorkKey, Answer>,
}

impl Watch {
    pub fn note(&mut self, events: Vec<StepEvent>, now: Duration) {
        for StepEvent { key, event } in events {
            let answer = self.answers.entry(key.clone()).or_default();
            assert_eq!(answer.end, None, "{key:?} got {event:?} after its end");
            match event {
                WorkEvent::Started { cached_tokens } => {
                    let before = answer.cached_tokens.replace(cached_tokens);
                    assert_eq!(before, None, "{key:?} started twice");
                }
                WorkEvent::PromptLogprobs(logprobs) => {
                    assert!(answer.tokens.is_empty(), "{key:?} got its prompt's log-probabilities late");
                    let before = answer.prompt_logprobs.replace(logprobs);
                    assert_eq!(before, None, "{key:?} got its prompt's log-probabilities twice");
                }
                WorkEvent::Produced(tokens) => {
                    assert!(answer.cached_tokens.is_some(), "{key:?} produced before it started");
                    for out in tokens {
                        answer.tokens.push(out.token);
                        answer.times.push(now);
                        answer.logprobs.extend(out.logprob);
                    }
                }
                WorkEvent::Ended { end, usage } => answer.end = Some((end, usage)),
            }
        }
    }

    pub fn heard_of(&self, key: &WorkKey) -> Option<&Answer> {
        self.answers.get(key)
    }
    pub fn answer(&self, key: &WorkKey) -> &Answer {
        self.heard_of(key).unwrap_or_else(|| panic!("{key:?} was never heard of"))
    }

    pub fn has_ended(&self, key: &WorkKey) -> bool {
        self.answers.get(key).is_some_and(|answer| answer.end.is_some())
    }
}
