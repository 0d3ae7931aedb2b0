//! How long will an answer get, judged by the answers before it?
//!
//! The hold of a request is its prompt, exactly, and a guess of its answer: not the worst case, which would fill a budget with
//! what is never used, and not nothing. The guess is the length that nine of ten answers stayed below, of the same account and
//! model where enough are known, else of the model, else a constant. It need not be right: a running answer's hold grows.

use std::collections::HashMap;

use domain::{Account, ModelName};
use parking_lot::Mutex;

use crate::needs::BYTES_PER_TOKEN;

/// Accounts' histograms that are kept, 100 bytes each and their names; past this they are learned anew.
const KNOWN_MAX: usize = 10_000;
/// Fewer answers than this say little.
const ANSWERS_MIN: u32 = 20;
/// Past this many answers all counts are halved, so that the latest thousand count most.
const ANSWERS_MAX: u32 = 1_000;
/// Bucket `i` holds lengths below 2^i: up to half a billion tokens.
const BUCKETS: usize = 30;

/// Prompts shorter than this say little of how many bytes a token has.
const LEARNED_BYTES_MIN: u64 = 256;
/// How far one prompt moves what is believed.
const LEARNED_SHARE: f64 = 0.1;

#[derive(Default)]
pub struct Estimates(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// As many as there are models.
    bytes_per_token: HashMap<ModelName, f64>,
    of_accounts: HashMap<(Account, ModelName), Histogram>,
    /// As many as there are models.
    of_models: HashMap<ModelName, Histogram>,
}

#[derive(Clone, Copy, Default)]
struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Estimates {
    /// Returns how many tokens to hold for one answer, if enough answers are known to say.
    pub fn output_tokens(&self, account: &Account, model: &ModelName) -> Option<u32> {
        let known = self.0.lock();
        let of_account = known.of_accounts.get(&(account.clone(), model.clone()));
        let of_model = || known.of_models.get(model).and_then(Histogram::nine_of_ten);
        of_account.and_then(Histogram::nine_of_ten).or_else(of_model)
    }

    /// Returns how many bytes of prompt make a token for this model, as far as its upstream has said.
    pub fn bytes_per_token(&self, model: &ModelName) -> f64 {
        self.0.lock().bytes_per_token.get(model).copied().unwrap_or(BYTES_PER_TOKEN)
    }

    /// Learns from what an upstream counted. Short prompts are mostly frame, and say little.
    pub fn learn_input(&self, model: &ModelName, bytes: u64, tokens: u64) {
        if bytes < LEARNED_BYTES_MIN || tokens == 0 {
            return;
        }
        let seen = (bytes as f64 / tokens as f64).clamp(1.0, 8.0);
        let mut known = self.0.lock();
        let ratio = known.bytes_per_token.entry(model.clone()).or_insert(BYTES_PER_TOKEN);
        *ratio += LEARNED_SHARE * (seen - *ratio);
    }

    /// Learns from an answer that ended by itself. One that was cut says nothing of how long it would have been.
    pub fn learn(&self, account: &Account, model: &ModelName, output_tokens: u64) {
        let mut known = self.0.lock();
        if known.of_accounts.len() >= KNOWN_MAX {
            known.of_accounts.clear();
        }
        known.of_accounts.entry((account.clone(), model.clone())).or_default().add(output_tokens);
        known.of_models.entry(model.clone()).or_default().add(output_tokens);
    }
}

impl Histogram {
    fn add(&mut self, tokens: u64) {
        let bucket = (u64::BITS - tokens.leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
        if self.total > ANSWERS_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    fn nine_of_ten(&self) -> Option<u32> {
        if self.total < ANSWERS_MIN {
            return None;
        }
        let mut below = 0;
        let is_enough = |count: &u32| {
            below += count;
            u64::from(below) * 10 >= u64::from(self.total) * 9
        };
        let bucket = self.counts.iter().position(is_enough).unwrap_or(BUCKETS - 1);
        Some(1 << bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(answers: impl IntoIterator<Item = u64>) -> Estimates {
        let estimates = Estimates::default();
        for tokens in answers {
            estimates.learn(&"acme".into(), &"parrot".into(), tokens);
        }
        estimates
    }

    #[test]
    fn a_few_answers_say_nothing_and_many_say_what_nine_of_ten_stayed_below() {
        let of =
            |estimates: &Estimates, account: &str| estimates.output_tokens(&account.into(), &"parrot".into());
        assert_eq!(of(&learned([5; 19]), "acme"), None);
        let estimates = learned([[5; 18].as_slice(), &[900; 2]].concat());
        assert_eq!(of(&estimates, "acme"), Some(8));
        assert_eq!(of(&estimates, "unknown"), Some(8), "the model's answers stand in for an account's");
        assert_eq!(estimates.output_tokens(&"acme".into(), &"other".into()), None);
        let estimates = learned([[5; 17].as_slice(), &[900; 3]].concat());
        assert_eq!(of(&estimates, "acme"), Some(1_024));
    }

    #[test]
    fn habits_that_change_are_learned_anew() {
        let estimates = learned([[2_000; 900].as_slice(), &[3; 2_500]].concat());
        assert_eq!(estimates.output_tokens(&"acme".into(), &"parrot".into()), Some(4));
    }
}
