//! Which tokens has a sequence seen, and how often has it produced them?

use std::collections::HashMap;

use domain::{Sampling, TokenId};

/// Empty for the many sequences without penalties; at most as many entries as the sequence has tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    wanted: bool,
    produced: HashMap<TokenId, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) token: TokenId,
    /// 0 for a token of the prompt alone.
    pub(crate) produced: u32,
}

impl History {
    pub(crate) fn of(sampling: &Sampling, prompt: &[TokenId]) -> Self {
        let repetition = sampling.repetition_penalty != 1.0;
        let wanted = repetition || sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0;
        // Only repetition looks at the prompt.
        let prompt = if repetition { prompt } else { &[] };
        Self { wanted, produced: prompt.iter().map(|&token| (token, 0)).collect() }
    }

    pub(crate) fn note(&mut self, token: TokenId) {
        if self.wanted {
            *self.produced.entry(token).or_insert(0) += 1;
        }
    }

    pub(crate) fn seen(&self) -> impl Iterator<Item = Seen> {
        self.produced.iter().map(|(&token, &produced)| Seen { token, produced })
    }
}
