//! Tokens in, tokens out: many sequences share one model, one batch at a time.
//!
//! Knows token ids, requests and key-value blocks. Does not know text, HTTP, money, or what a tensor is.
//!
//! ```text
//! submit, cancel ──inbox──▶ EngineCore::step = admit → plan → forward → draw → advance ──outbox──▶ events
//!                                     │ Scheduler (pure)  │ Blocks (pool, prefix)  │ CostModel │ Sampler
//! ```

#![forbid(unsafe_code)]

mod config;
mod cost;
mod engine;
mod events;
mod kv;
mod promises;
mod queue;
mod sampler;
mod scheduler;
mod sequence;
mod speculate;
mod step;

pub use config::{EngineConfig, KvBudget, StartError};
pub use engine::{Engine, EngineHandle, Outbox};
pub use kv::{BlockFile, DiskConfig, DiskPlace};
pub use speculate::Speculate;
pub use step::{Clock, EngineCore};
