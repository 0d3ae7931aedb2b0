//! Which works are still owed an end?

use std::collections::HashMap;

use domain::{StepEvent, Work, WorkEnd, WorkEvent, WorkKey, WorkUsage};

/// Kept outside the engine's core, so that it survives the core's panic. As large as what waits and runs, which is bounded.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    owed: HashMap<WorkKey, Owed>,
}

#[derive(Debug, Default)]
struct Owed {
    /// More than one only if a caller reused a living key.
    works: u32,
    usage: WorkUsage,
}

impl Promises {
    pub(crate) fn owe(&mut self, work: &Work) {
        self.owed.entry(work.key.clone()).or_default().works += 1;
    }

    /// Takes note of what is about to be sent.
    pub(crate) fn note(&mut self, events: &[StepEvent]) {
        for StepEvent { key, event } in events {
            let Some(owed) = self.owed.get_mut(key) else {
                panic!("{key:?} was told {event:?} after its end");
            };
            match event {
                WorkEvent::Started { cached_tokens } => {
                    owed.usage.prompt_tokens = *cached_tokens;
                    owed.usage.cached_tokens = *cached_tokens;
                }
                WorkEvent::PromptLogprobs(_) => {}
                WorkEvent::Produced(tokens) => owed.usage.output_tokens += tokens.len() as u32,
                WorkEvent::Ended { .. } => {
                    owed.works -= 1;
                    if owed.works == 0 {
                        self.owed.remove(key);
                    }
                }
            }
        }
    }

    /// Returns an end for every work that has none yet.
    pub(crate) fn break_all(&mut self, reason: &str) -> Vec<StepEvent> {
        let mut ends = Vec::with_capacity(self.owed.len());
        for (key, owed) in self.owed.drain() {
            for _ in 0..owed.works {
                let end = WorkEnd::Failed(reason.to_owned());
                let event = WorkEvent::Ended { end, usage: owed.usage };
                ends.push(StepEvent { key: key.clone(), event });
            }
        }
        ends
    }
}
