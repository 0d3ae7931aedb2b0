//! The words that every room shares: what is asked, what is worked on, what is used and what it costs.
//!
//! Nothing here does anything: no I/O, no clock, no randomness. If two crates must agree on a noun, it lives here.
#![forbid(unsafe_code)]

mod answer;
mod ask;
mod id;
mod money;
mod port;
mod sampling;
mod tier;
mod usage;
mod work;

pub use answer::{
    Answer, AnswerEvent, AnsweredChoice, CHOICES_MAX, Delta, Finish, FinishReason, Scored, TokenScore,
    UsageReport,
};
pub use ask::{
    AnswerFormat, Ask, CacheMark, Chat, ChatMessage, EmbedAsk, Input, Media, MediaKind, MediaSource, Part,
    Prompt, PromptText, Reasoning, ReasoningWish, Role, Tool, ToolCall, ToolChoice,
};
pub use id::{Account, ModelName, Provider, Region, RequestId, Tenant, TokenId};
pub use money::{Money, Price, PriceParseError};
pub use port::{DiskStatus, EnginePort, EngineStatus, SubmitError};
pub use sampling::{Sampling, SamplingWish};
pub use tier::{ServiceTier, UnknownTier};
pub use usage::{Usage, UsageEnd, UsageSource};
pub use work::{
    EmptyPrompt, Priority, StepEvent, TokenLogprob, TokenOut, Tokens, Work, WorkEnd, WorkEvent, WorkKey,
    WorkUsage,
};
