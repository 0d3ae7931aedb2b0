//! How a gateway reaches an engine without knowing what it is.

use crate::{Work, WorkKey};

/// The near side of an engine: cheap calls that never wait. Events come back through the outbox that the engine was
/// started with, one message a step.
pub trait EnginePort: Send + Sync {
    /// Queues the work, or says at once why not. After `Ok`, exactly one `WorkEvent::Ended` follows.
    fn submit(&self, work: Work) -> Result<(), SubmitError>;
    /// Ends the work within one step. Cancelling what has already ended is nothing.
    fn cancel(&self, key: &WorkKey);
    fn status(&self) -> EngineStatus;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("the queue is full: {waiting} requests wait, {limit} may")]
    QueueFull { waiting: usize, limit: usize },
    #[error(
        "the prompt has {prompt_tokens} tokens and the answer may have {max_output_tokens}; the context holds {context_tokens}"
    )]
    ContextOverflow { prompt_tokens: usize, max_output_tokens: usize, context_tokens: usize },
    #[error("the engine is stopping")]
    Stopping,
    #[error("the engine has died: {0}")]
    Dead(String),
}

/// What an engine says of itself: counters only grow, gauges are of the last step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineStatus {
    pub waiting: u64,
    pub running: u64,
    pub blocks_total: u64,
    /// Blocks held by running sequences.
    pub blocks_in_use: u64,
    /// Blocks that nobody holds but whose content can still be found.
    pub blocks_cached: u64,
    pub block_tokens: u64,
    pub kv_bytes: u64,
    pub prompt_tokens: u64,
    pub output_tokens: u64,
    /// Prompt tokens looked up in, and found in, the prefix cache.
    pub prefix_queries: u64,
    pub prefix_hits: u64,
    pub preemptions: u64,
    /// Tokens that were guessed and computed ahead, and those of them that were right.
    pub speculated_tokens: u64,
    pub accepted_tokens: u64,
    pub steps: u64,
    pub failures: u64,
    /// Seconds that the last step took, and that the scheduler had predicted.
    pub step_seconds: f64,
    pub step_predicted_seconds: f64,
    /// Rows in the last step.
    pub batch_rows: u64,
    /// Times that an idle integrity check ran; it panics in tests and fails the engine otherwise if a block is lost.
    pub integrity_checks: u64,
    pub disk: DiskStatus,
    /// Why the engine will never take another step; nothing while it lives.
    pub dead: Option<String>,
}

/// What an engine says of the tier of key-value blocks below its memory; all zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// The file's size, and the part of it that holds blocks.
    pub bytes_max: u64,
    pub bytes_used: u64,
    /// Blocks written, and blocks brought back.
    pub spilled: u64,
    pub restored: u64,
    /// Prompt tokens that were found because they came back.
    pub hit_tokens: u64,
    /// Blocks reused in memory before they were written.
    pub lost: u64,
    /// Blocks that would have taken longer to read than to compute.
    pub not_worth: u64,
    /// Blocks whose checksum was wrong; they were computed again.
    pub damaged: u64,
    /// Times that the disk failed, and times that it was given up as too slow.
    pub errors: u64,
    pub late: u64,
    /// Whether the tier is left alone, because the disk failed or was late.
    pub resting: bool,
}
