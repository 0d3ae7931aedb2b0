//! Which parts of OpenAI's HTTP surface are spoken here, as its public SDKs read and write them.

pub mod chat;
pub mod completion;
pub mod error;
pub mod models;
pub mod stream;
pub mod tokenize;

mod generation;
mod labels;
mod logprobs;
mod messages;
mod tools;
mod usage;

pub use error::{ErrorBody, ErrorType};
pub use labels::Labels;
pub use logprobs::{Scored, TokenScore};
pub use stream::{Accumulator, Broken, DONE, Fold};

use domain::ModelName;

/// What every object of one answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Such as `chatcmpl-…` or `cmpl-…`; the caller draws it.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: ModelName,
    pub system_fingerprint: Option<String>,
}

/// Why an answer ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The answer asks for tools (chat only).
    ToolCalls,
    /// Withheld by a filter; read from other servers, never written by this one.
    ContentFilter,
    /// A limit of the caller's has no room for more. Our own word: a client must not take the cut for an answer's end.
    BudgetExhausted,
}
