//! Which tokens may come next, and is it worth computing them ahead?
//!
//! ```text
//!   tokens    |#### prompt ####|## answer ##|            known
//!   proposal                                |g1 g2 g3|   guessed: rows that may be taken back
//! ```
//! A guess is a row beside the known one, in the same batch as everybody's rows. Each row's token is drawn exactly as it would
//! have been without guesses, by the same random number; while it equals the guess, the next row is already computed. What is
//! said therefore never depends on what was guessed: a wrong guess costs a row, and only `computed` says which rows count.

mod draft;
mod gain;
mod ngram;

use domain::TokenId;

pub(crate) use draft::Drafter;
pub(crate) use gain::{Gain, Pace, Rate};
pub(crate) use ngram::Ngrams;

/// Who guesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculate {
    Off,
    /// What followed the last time that the sequence ended in the same tokens. Costs nothing but the rows.
    #[default]
    Ngram,
    /// The same, and a second, smaller model where that knows nothing.
    Draft,
}

/// Most guesses of one sequence in one step: beyond it, even a copy that is right nine times of ten gains little from one more.
pub(crate) const GUESSES_MAX: usize = 12;

/// Where a guess came from. Each source has a rate of its own, for they differ widely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The last few tokens were seen before.
    Short,
    /// A long end was seen before: most likely a copy.
    Long,
    Draft,
}

impl Source {
    pub(crate) const COUNT: usize = 3;
}

/// What one sequence guesses, and how often it was right.
#[derive(Debug)]
pub(crate) struct Guesses {
    ngrams: Ngrams,
    /// The guesses of the step under way.
    pub(crate) proposal: Vec<TokenId>,
    pub(crate) source: Source,
    /// Set from the engine's own experience when first used.
    pub(crate) rates: [Option<Rate>; Source::COUNT],
    /// Tokens whose keys and values the draft model has in this sequence's blocks.
    pub(crate) drafted: usize,
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            ngrams: Ngrams::default(),
            proposal: Vec::new(),
            source: Source::Short,
            rates: [None; Source::COUNT],
            drafted: 0,
        }
    }
}

impl Guesses {
    /// Fills the proposal with what followed the same end before, and returns how much of the end was the same.
    pub(crate) fn look_back(&mut self, tokens: &[TokenId], most: usize) -> bool {
        self.ngrams.learn(tokens);
        match self.ngrams.propose(tokens, most, &mut self.proposal) {
            0 => false,
            length => {
                self.source = if length > ngram::SHORT { Source::Long } else { Source::Short };
                true
            }
        }
    }

    /// Begins anew behind what is computed: what the draft computed of guesses that were taken back is not true any more.
    pub(crate) fn begin(&mut self, computed: usize) {
        self.proposal.clear();
        self.drafted = self.drafted.min(computed);
    }

    /// Its blocks are gone, and with them what the draft model knew.
    pub(crate) fn forget(&mut self) {
        self.proposal.clear();
        self.drafted = 0;
    }
}
