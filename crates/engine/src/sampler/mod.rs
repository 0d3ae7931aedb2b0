//! Which token comes next, and how likely was it?
//!
//! scores → penalties → bias → temperature → top-k → top-p → min-p → draw. Log-probabilities are of the model's own
//! distribution, before all that. A draw depends on the sequence's seed and the token's place alone, so that batching and
//! preemption change nothing.

mod history;
mod random;
mod select;

use std::cell::RefCell;

use domain::{Sampling, TokenId, TokenLogprob, TokenOut};

pub(crate) use history::History;
pub(crate) use random::mix;
use random::uniform;
use select::{Scored, argmax, by_score, exp_sum, highest, last_of, nucleus_end, sum_of};

/// Below this, dividing by the temperature would overflow, and the likeliest token has all the probability anyway.
const TEMPERATURE_MIN: f32 = 1e-4;

/// Returns the next token. Changes the scores: they are of no use afterwards.
pub(crate) fn draw(scores: &mut [f32], draw: &Draw<'_>) -> Result<TokenOut, SamplingError> {
    thread_local! {
        /// Threads draw for different sequences at once.
        static SAMPLER: RefCell<Sampler> = RefCell::default();
    }
    SAMPLER.with_borrow_mut(|sampler| sampler.draw(scores, draw))
}

/// Scratch memory for one draw at a time: at most 12 bytes a token of the vocabulary.
#[derive(Debug, Default)]
struct Sampler {
    weights: Vec<f32>,
    kept: Vec<Scored>,
    /// Scores as the model gave them, where penalties or biases changed them.
    originals: Vec<(TokenId, f32)>,
}

/// What a draw depends on besides the scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw<'a> {
    pub(crate) sampling: &'a Sampling,
    pub(crate) history: &'a History,
    pub(crate) seed: u64,
    /// How many tokens the sequence has produced before.
    pub(crate) output_index: u32,
    /// How many alternatives to report; `None` reports nothing.
    pub(crate) logprobs: Option<u8>,
}

/// Why no token can be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SamplingError {
    #[error("the model gave a score that is not a number for this sequence")]
    NotFinite,
    #[error("logit_bias names token {token}, which is outside the vocabulary of {vocabulary}")]
    Bias { token: TokenId, vocabulary: usize },
}

impl Sampler {
    fn draw(&mut self, scores: &mut [f32], draw: &Draw<'_>) -> Result<TokenOut, SamplingError> {
        let raw = match draw.logprobs {
            Some(alternatives) => Some(Distribution::of(scores, alternatives)?),
            None => None,
        };
        self.adjust(scores, draw)?;
        let likeliest = argmax(scores).ok_or(SamplingError::NotFinite)?;
        let token = if draw.sampling.temperature < TEMPERATURE_MIN {
            likeliest.token
        } else {
            let point = uniform(draw.seed, draw.output_index);
            self.pick(scores, likeliest.score, draw.sampling, point)
        };
        let logprob = raw.map(|raw| {
            // The first change of a token has seen the model's own score.
            let changed = self.originals.iter().find(|(changed, _)| *changed == token);
            raw.logprob(changed.map_or(scores[token as usize], |(_, original)| *original))
        });
        Ok(TokenOut { token, logprob })
    }

    /// Applies penalties and biases, remembering what they changed.
    fn adjust(&mut self, scores: &mut [f32], draw: &Draw<'_>) -> Result<(), SamplingError> {
        self.originals.clear();
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = *draw.sampling;
        for seen in draw.history.seen() {
            let Some(score) = scores.get_mut(seen.token as usize) else { continue };
            self.originals.push((seen.token, *score));
            *score = if *score > 0.0 { *score / repetition_penalty } else { *score * repetition_penalty };
            if seen.produced > 0 {
                *score -= presence_penalty + frequency_penalty * seen.produced as f32;
            }
        }
        for &(token, bias) in &draw.sampling.logit_bias {
            let vocabulary = scores.len();
            let score = scores.get_mut(token as usize).ok_or(SamplingError::Bias { token, vocabulary })?;
            self.originals.push((token, *score));
            *score += bias;
        }
        Ok(())
    }

    /// Draws at `point` of the distribution that the filters leave.
    fn pick(&mut self, scores: &[f32], highest_score: f32, sampling: &Sampling, point: f64) -> TokenId {
        let total = exp_sum(scores, highest_score, 1.0 / sampling.temperature, &mut self.weights);
        let top_k = match sampling.top_k as usize {
            0 => scores.len(),
            top_k => top_k.min(scores.len()),
        };
        let filtered = top_k < scores.len() || sampling.top_p < 1.0 || sampling.min_p > 0.0;
        if !filtered {
            return pick_weighted(self.weights.iter().copied(), point * total) as TokenId;
        }
        highest(&self.weights, top_k, self.least_weight(top_k, sampling, total), &mut self.kept);
        let mut worst = if sampling.top_p < 1.0 {
            let before = if top_k == scores.len() { total } else { sum_of(&self.kept) };
            nucleus_end(&mut self.kept, f64::from(sampling.top_p) * before)
        } else {
            last_of(&self.kept)
        };
        // The likeliest token has weight 1 and always stays.
        let least = Scored { token: TokenId::MAX, score: sampling.min_p.min(1.0) };
        if by_score(&worst, &least).is_gt() {
            worst = least;
        }
        // Walked in the order of the vocabulary, so that nothing need be sorted and the same point is the same token.
        let stays = |(token, &weight): (usize, &f32)| {
            let scored = Scored { token: token as TokenId, score: weight };
            if by_score(&scored, &worst).is_gt() { 0.0 } else { weight }
        };
        let total = self.weights.iter().enumerate().map(stays).map(f64::from).sum::<f64>();
        pick_weighted(self.weights.iter().enumerate().map(stays), point * total) as TokenId
    }

    /// Returns a weight below which no token can survive the filters, so that most are dropped in one pass.
    fn least_weight(&self, top_k: usize, sampling: &Sampling, total: f64) -> f32 {
        if sampling.top_p >= 1.0 {
            return sampling.min_p.min(1.0);
        }
        if top_k < self.weights.len() {
            // Top-p is then a share of what top-k leaves, which is not known yet.
            return 0.0;
        }
        // Tokens of less than (1 - p) / n each cannot add up to 1 - p: the others reach p without them.
        let share = (1.0 - f64::from(sampling.top_p)) * total / self.weights.len() as f64;
        (share as f32).min(1.0)
    }
}

/// Returns the place where the running sum first exceeds `point`.
fn pick_weighted(weights: impl Iterator<Item = f32>, point: f64) -> usize {
    let (mut sum, mut last) = (0.0f64, 0);
    for (place, weight) in weights.enumerate() {
        if weight > 0.0 {
            sum += f64::from(weight);
            last = place;
            if sum > point {
                return place;
            }
        }
    }
    // Rounding can leave the sum just under the total: the last token with any probability.
    last
}

/// The model's own distribution over one row.
#[derive(Debug)]
struct Distribution {
    /// `ln Σ exp(score)`.
    log_total: f64,
    top: Vec<(TokenId, f32)>,
}

impl Distribution {
    fn of(scores: &[f32], alternatives: u8) -> Result<Self, SamplingError> {
        let likeliest = argmax(scores).ok_or(SamplingError::NotFinite)?;
        let total: f64 = scores.iter().map(|&score| f64::from(score - likeliest.score).exp()).sum();
        let log_total = f64::from(likeliest.score) + total.ln();
        let mut kept = Vec::new();
        highest(scores, alternatives.into(), f32::NEG_INFINITY, &mut kept);
        kept.sort_unstable_by(by_score);
        let logprob = |score: f32| (f64::from(score) - log_total) as f32;
        let top = kept.iter().map(|kept| (kept.token, logprob(kept.score))).collect();
        Ok(Self { log_total, top })
    }

    fn logprob(self, score: f32) -> TokenLogprob {
        TokenLogprob { logprob: (f64::from(score) - self.log_total) as f32, top: self.top }
    }
}

/// Returns how likely a token that is known already was: a prompt's.
pub(crate) fn logprob_of(
    scores: &[f32],
    token: TokenId,
    alternatives: u8,
) -> Result<TokenLogprob, SamplingError> {
    let score = *scores.get(token as usize).ok_or(SamplingError::NotFinite)?;
    Ok(Distribution::of(scores, alternatives)?.logprob(score))
}

#[cfg(test)]
mod tests;
