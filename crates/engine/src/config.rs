//! What an operator may decide about an engine, with the default and its reason beside each.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use model::{ForwardError, Shape};

use crate::kv::DiskConfig;
use crate::speculate::Speculate;

/// How much memory keys and values may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvBudget {
    /// As many blocks as fit in so many bytes.
    Bytes(u64),
    /// Exactly so many blocks.
    Blocks(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// 1 GiB: about 9,000 tokens of a Qwen3-0.6B in bf16, reserved at start and never exceeded.
    pub kv: KvBudget,
    /// Sequences computed together. 64: on a CPU the weights' share of a step is spread thin long before that. The scores of
    /// one step take `max_running × vocabulary × 4` bytes (39 MB for 64 × 151,936).
    pub max_running: usize,
    /// Sequences that may wait for their first step; one more is refused. 1,024 is about a minute's work of a small
    /// machine: who comes later is better served by a refusal now than by an answer after its patience.
    pub max_waiting: usize,
    /// Rows of one forward pass, decode rows and prompt rows together. 512: matrix products are compute-bound well before
    /// it, and a longer step would only delay cancellations and newcomers. Raised to `max_running + chunk_tokens_min` if less.
    pub max_step_rows: usize,
    /// The longest that a prompt's chunk may hold back the next token of streams beside it: the time a whole step should
    /// take. 100 ms is ten tokens a second for each stream, faster than people read.
    pub step_target: Duration,
    /// Prompt rows by which a prompt advances even where streams alone exceed the target. 32: two AMX tiles, one block.
    pub chunk_tokens_min: usize,
    /// Most rows of one sequence in one step.
    pub chunk_tokens_max: usize,
    /// Whether computed prompts may be found again by their tenant.
    pub prefix_cache: bool,
    /// Where computed prompts go that memory has no room for. Nowhere by default: what was computed from prompts is written
    /// to a disk only where somebody asked for it, and disks wear.
    pub disk: Option<DiskConfig>,
    /// Who guesses tokens ahead. Looking back is free and stops itself where it does not pay.
    pub speculate: Speculate,
    /// What works without a seed of their own draw from. Random in every process by default.
    pub entropy: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            kv: KvBudget::Bytes(1 << 30),
            max_running: 64,
            max_waiting: 1024,
            max_step_rows: 512,
            step_target: Duration::from_millis(100),
            chunk_tokens_min: 32,
            chunk_tokens_max: 512,
            prefix_cache: true,
            disk: None,
            speculate: Speculate::default(),
            entropy: RandomState::new().hash_one("entropy"),
        }
    }
}

/// Why an engine does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error(
        "{budget_bytes} bytes of key-value cache hold no block: one takes {block_bytes} bytes; give the engine more memory"
    )]
    KvTooSmall { budget_bytes: u64, block_bytes: usize },
    #[error("the engine's setting {name} is {value}, and must be {expected}")]
    Setting { name: &'static str, value: usize, expected: String },
    #[error(
        "the draft model has {what} {draft} and the model it drafts for has {target}; they must be the same"
    )]
    DraftDiffers { what: &'static str, draft: usize, target: usize },
    #[error("speculation by a draft model is asked for, and there is none")]
    DraftMissing,
    #[error(transparent)]
    Forward(#[from] ForwardError),
    #[error("the engine's thread could not be started: {0}")]
    Thread(String),
}

impl EngineConfig {
    /// Returns the number of blocks to reserve, or what is wrong with these settings for such a model.
    pub(crate) fn blocks_for(&self, shape: &Shape) -> Result<usize, StartError> {
        self.check()?;
        // A block number is a `u32`, and the last value marks the end of a list.
        let blocks = match self.kv {
            KvBudget::Blocks(blocks) => blocks,
            KvBudget::Bytes(bytes) => (bytes / shape.block_bytes.max(1) as u64) as usize,
        }
        .min(u32::MAX as usize - 1);
        if blocks == 0 {
            let budget_bytes = if let KvBudget::Bytes(bytes) = self.kv { bytes } else { 0 };
            return Err(StartError::KvTooSmall { budget_bytes, block_bytes: shape.block_bytes });
        }
        Ok(blocks)
    }

    fn check(&self) -> Result<(), StartError> {
        let wrong = |name, value, expected: &str| {
            Err(StartError::Setting { name, value, expected: expected.to_owned() })
        };
        if self.max_running == 0 {
            return wrong("max_running", 0, "at least 1");
        }
        if self.max_waiting == 0 {
            return wrong("max_waiting", 0, "at least 1");
        }
        if self.chunk_tokens_min == 0 {
            return wrong("chunk_tokens_min", 0, "at least 1");
        }
        if self.chunk_tokens_max < self.chunk_tokens_min {
            return wrong("chunk_tokens_max", self.chunk_tokens_max, "at least chunk_tokens_min");
        }
        Ok(())
    }
}
