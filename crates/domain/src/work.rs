//! What a gateway gives to an engine, and what comes back: token ids in, token ids out.

use std::ops::Deref;
use std::sync::Arc;

use crate::{RequestId, Sampling, Tenant, TokenId};

/// A prompt's tokens: at least one, so that there is a row to sample from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(Arc<[TokenId]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prompt has no tokens")]
pub struct EmptyPrompt;

impl Tokens {
    pub fn new(tokens: impl Into<Arc<[TokenId]>>) -> Result<Self, EmptyPrompt> {
        let tokens = tokens.into();
        if tokens.is_empty() { Err(EmptyPrompt) } else { Ok(Self(tokens)) }
    }
}
impl Deref for Tokens {
    type Target = [TokenId];
    fn deref(&self) -> &[TokenId] {
        &self.0
    }
}

/// One sequence's name inside an engine: a request with several choices has one key for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkKey {
    pub request: RequestId,
    pub choice: u32,
}

/// Which waiting work goes first; inside a class, tenants share fairly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    Batch,
    #[default]
    Standard,
    High,
}

/// One sequence to be continued.
#[derive(Clone, Debug)]
pub struct Work {
    pub key: WorkKey,
    pub tenant: Tenant,
    pub priority: Priority,
    pub prompt: Tokens,
    /// 0 computes the prompt (for its log-probabilities) and produces nothing.
    pub max_output_tokens: u32,
    pub sampling: Sampling,
    /// Tokens that end the answer; the one that did is not part of it.
    pub stop_tokens: Arc<[TokenId]>,
    /// How many alternatives to report for each token produced; `None` reports no log-probabilities at all.
    pub logprobs: Option<u8>,
    /// Report the prompt's own log-probabilities too (with `logprobs` alternatives).
    pub prompt_logprobs: bool,
}

/// One token and how likely it was, under the model's own distribution (before temperature, penalties and filters).
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    pub logprob: f32,
    /// The likeliest tokens at this place, best first.
    pub top: Vec<(TokenId, f32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TokenOut {
    pub token: TokenId,
    pub logprob: Option<TokenLogprob>,
}

/// How a sequence ended. Every work ends exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkEnd {
    /// It produced one of its stop tokens.
    Stop,
    /// It reached its output limit or the end of the context.
    Length,
    /// Somebody cancelled it.
    Cancelled,
    /// The engine could not go on with it; the text says why and names no secret.
    Failed(String),
}

/// Exact counts, made where the tokens are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkUsage {
    pub prompt_tokens: u32,
    /// Those of `prompt_tokens` whose keys and values came from the prefix cache.
    pub cached_tokens: u32,
    /// Tokens produced, stop token included: what the machine really did.
    pub output_tokens: u32,
    /// Its share of the machine's time, in microseconds: each step's time is divided among the rows that it computed.
    pub compute_us: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WorkEvent {
    /// The sequence left the queue; its prompt is being computed.
    Started { cached_tokens: u32 },
    /// The prompt's log-probabilities; the first token has none.
    PromptLogprobs(Vec<Option<TokenLogprob>>),
    /// Tokens of one step, in order.
    Produced(Vec<TokenOut>),
    /// The last event.
    Ended { end: WorkEnd, usage: WorkUsage },
}

/// One line of the single message that an engine sends after each step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepEvent {
    pub key: WorkKey,
    pub event: WorkEvent,
}
