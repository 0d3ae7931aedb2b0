//! How the next token is drawn from a model's scores.

use crate::TokenId;

/// Every field has a neutral value that leaves the model's distribution alone; `Default` is all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; 1 leaves the distribution alone.
    pub temperature: f32,
    /// Keeps the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative scores of tokens already seen (prompt included); 1 leaves them alone.
    pub repetition_penalty: f32,
    /// Taken from the score of each token already produced, once.
    pub presence_penalty: f32,
    /// Taken from the score of each token already produced, once per occurrence.
    pub frequency_penalty: f32,
    /// Added to the scores of the tokens named.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// The same seed, request and model give the same tokens.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// Sampling as far as a request says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingWish {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Option<Vec<(TokenId, f32)>>,
    pub seed: Option<u64>,
}

impl SamplingWish {
    /// Returns the sampling that follows where a model's defaults fill what was not said.
    pub fn over(&self, defaults: &Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            logit_bias: self.logit_bias.clone().unwrap_or_else(|| defaults.logit_bias.clone()),
            seed: self.seed.or(defaults.seed),
        }
    }
}

impl Sampling {
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}
