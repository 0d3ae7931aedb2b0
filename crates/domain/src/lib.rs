//! The words that every room shares: what is asked, what is worked on, what is used and what it costs.
//!
//! Nothing here does anything: no I/O, no clock, no randomness. If two crates must agree on a noun, it lives here.
#![forbid(unsafe_code)]

mod ask;
mod id;
mod money;
mod port;
mod sampling;
mod usage;
mod work;

pub use ask::{Ask, ChatMessage, Input, Prompt, PromptText, Role, ToolCall};
pub use id::{Account, ModelName, RequestId, Tenant, TokenId};
pub use money::{Money, Price, PriceParseError};
pub use port::{EnginePort, EngineStatus, SubmitError};
pub use sampling::Sampling;
pub use usage::{Usage, UsageEnd, UsageSource};
pub use work::{
    EmptyPrompt, Priority, StepEvent, TokenLogprob, TokenOut, Tokens, Work, WorkEnd, WorkEvent, WorkKey,
    WorkUsage,
};
