//! What would a smaller model say next?
//!
//! The draft model has an arena of its own and the target's block tables: block 7 of the one holds the same tokens as block 7
//! of the other. So there is one pool, one admission and one preemption, and a sequence needs one number more: how many of its
//! tokens the draft has computed. Catching up after a prompt, a prefix hit or a preemption is the target's own rule. Two
//! sequences that share a block write the same into it.

use std::time::Duration;

use model::{Batch, Forward, Span};

use crate::events;
use crate::sampler;
use crate::scheduler::PlannedSpan;
use crate::sequence::Sequence;
use crate::step::run_guarded;

use super::Source;

/// Rows by which the draft catches up in one step, over all sequences: a small model's share of a step stays small, and a long
/// prompt takes a few steps before its first guess.
const CATCH_UP_ROWS: usize = 512;
/// The share of the newest measurement in what a drafted token is thought to cost.
const NEWEST: f64 = 0.1;

pub(crate) struct Drafter {
    forward: Box<dyn Forward>,
    /// It failed once; nothing is lost by going on without it.
    is_broken: bool,
    /// Seconds of one drafted token, where one row is pending a sequence.
    token_seconds: Option<f64>,
    batch: Batch,
    logits: Vec<f32>,
}

impl Drafter {
    pub(crate) fn new(forward: Box<dyn Forward>) -> Self {
        Self { forward, is_broken: false, token_seconds: None, batch: Batch::default(), logits: Vec::new() }
    }

    /// Returns what a drafted token costs, once it was measured.
    pub(crate) fn token_seconds(&self) -> Option<f64> {
        self.token_seconds
    }

    /// Returns the longest sequence that can be drafted for.
    pub(crate) fn context_tokens(&self) -> usize {
        if self.is_broken { 0 } else { self.forward.shape().context_tokens }
    }

    /// Fills the proposals of the spans that are to have one from here, and cuts those that it cannot fill.
    pub(crate) fn guess(
        &mut self,
        running: &mut [Sequence],
        spans: &mut [PlannedSpan],
        clock: &dyn Fn() -> Duration,
    ) {
        let wants = |span: &PlannedSpan, running: &[Sequence]| match running[span.index].guesses.source {
            Source::Draft => span.guessed > running[span.index].guesses.proposal.len(),
            _ => false,
        };
        loop {
            let wanting: Vec<usize> = (0..spans.len()).filter(|&at| wants(&spans[at], running)).collect();
            if wanting.is_empty() || self.is_broken {
                break;
            }
            let start = clock();
            let drawn = self.lay_out(running, spans, &wanting);
            if drawn.is_empty() && self.batch.tokens.is_empty() {
                break;
            }
            let rows = self.batch.tokens.len();
            if !self.run() {
                break;
            }
            let width = self.forward.shape().vocabulary;
            for (at, scores) in drawn.iter().zip(self.logits.chunks_exact_mut(width)) {
                let span = &mut spans[*at];
                draw(&mut running[span.index], span, scores);
            }
            // Who has not caught up guesses in a later step.
            for at in wanting.iter().filter(|at| !drawn.contains(at)) {
                spans[*at].guessed = running[spans[*at].index].guesses.proposal.len();
            }
            if rows == drawn.len() {
                let took = (clock)().saturating_sub(start).as_secs_f64() / rows as f64;
                let before = *self.token_seconds.get_or_insert(took);
                self.token_seconds = Some(before + NEWEST * (took - before));
            }
        }
        for span in spans.iter_mut() {
            span.guessed = span.guessed.min(running[span.index].guesses.proposal.len());
        }
    }

    /// Lays out what the draft lacks of each sequence, and returns the spans whose last row is to be drawn from.
    fn lay_out(&mut self, running: &mut [Sequence], spans: &[PlannedSpan], wanting: &[usize]) -> Vec<usize> {
        let block_tokens = self.forward.shape().block_tokens;
        let batch = &mut self.batch;
        batch.tokens.clear();
        batch.spans.clear();
        batch.logit_rows.clear();
        let mut drawn = Vec::new();
        for &at in wanting {
            let sequence = &mut running[spans[at].index];
            let known = sequence.tokens().len() + sequence.guesses.proposal.len();
            let from = sequence.guesses.drafted;
            let to = known.min(from + CATCH_UP_ROWS.saturating_sub(batch.tokens.len()));
            if from == to {
                continue;
            }
            let first_row = batch.tokens.len();
            let (tokens, proposal) = (sequence.tokens(), &sequence.guesses.proposal);
            batch.tokens.extend(tokens.iter().chain(proposal).skip(from).take(to - from));
            batch.spans.push(Span {
                first_row: first_row as u32,
                rows: (to - from) as u32,
                first_position: from as u32,
                blocks: sequence.blocks()[..to.div_ceil(block_tokens)].to_vec(),
            });
            sequence.guesses.drafted = to;
            if to == known {
                batch.logit_rows.push(batch.tokens.len() as u32 - 1);
                drawn.push(at);
            }
        }
        drawn
    }

    fn run(&mut self) -> bool {
        let result = run_guarded(&mut *self.forward, &self.batch, &mut self.logits);
        if let Err(reason) = &result {
            events::DraftBroken { reason }.emit();
            self.is_broken = true;
        }
        result.is_ok()
    }
}

/// Draws the guess as the target will draw its token: by the same random number, so that like distributions mostly agree.
fn draw(sequence: &mut Sequence, span: &mut PlannedSpan, scores: &mut [f32]) {
    let draw = sequence.draw(sequence.guesses.proposal.len() as u32, None);
    match sampler::draw(scores, &draw) {
        Ok(out) => sequence.guesses.proposal.push(out.token),
        // The target may well have sound scores here: it decides, without a guess.
        Err(_) => span.guessed = sequence.guesses.proposal.len(),
    }
}
