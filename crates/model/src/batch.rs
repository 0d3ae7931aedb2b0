//! What one forward pass is given, and what it gives back.

use domain::TokenId;

/// The number of a block in the key-value arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct BlockId(pub u32);

/// Rows of several sequences laid end to end: decode rows, prefill chunks and speculative rows alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// One token a row.
    pub tokens: Vec<TokenId>,
    pub spans: Vec<Span>,
    /// Rows whose scores are wanted, ascending.
    pub logit_rows: Vec<u32>,
}

/// Consecutive rows of one sequence.
///
/// ```text
/// positions   0 ........ first_position ........ first_position + rows
///             |  computed before (in blocks)  |  these rows            |
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub first_row: u32,
    pub rows: u32,
    pub first_position: u32,
    /// Blocks of positions 0, 32, 64, … up to the last row's.
    pub blocks: Vec<BlockId>,
}

impl Batch {
    /// Asserts what every caller promises: spans tile the rows in order, name a block of the arena for each position, and
    /// wanted rows ascend.
    pub(crate) fn check(&self, blocks: usize) {
        let mut next = 0;
        for span in &self.spans {
            assert_eq!(span.first_row as usize, next, "a span begins where the one before it ends");
            next += span.rows as usize;
            let positions = span.first_position as usize + span.rows as usize;
            assert!(
                span.blocks.len() >= positions.div_ceil(kernels::BLOCK_TOKENS),
                "{} blocks for {positions} positions",
                span.blocks.len()
            );
            let outside = span.blocks.iter().find(|block| block.0 as usize >= blocks);
            assert!(outside.is_none(), "block {outside:?} of an arena of {blocks}");
        }
        assert_eq!(self.tokens.len(), next, "each row belongs to a span");
        assert!(self.logit_rows.is_sorted_by(|a, b| a < b), "wanted rows ascend");
        assert!(
            self.logit_rows.last().is_none_or(|row| (*row as usize) < next),
            "wanted rows are in the batch"
        );
    }
}

/// What a scheduler must know of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub vocabulary: usize,
    /// The longest sequence the model was made for.
    pub context_tokens: usize,
    /// Tokens in a block, and bytes that one takes over all layers.
    pub block_tokens: usize,
    pub block_bytes: usize,
}

/// One forward pass. The key-value arena belongs to the implementation; which block holds what is the caller's business.
pub trait Forward: Send {
    fn shape(&self) -> &Shape;
    /// Sizes the arena. Called once, before the first `run`.
    fn reserve(&mut self, blocks: usize) -> Result<(), ForwardError>;
    /// Computes all rows, writes their keys and values into the blocks, and fills `logits` with
    /// `[logit_rows.len()][vocabulary]` scores. Rows do not influence each other except through their own sequence.
    fn run(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<(), ForwardError>;
    /// Runs `task(0) … task(tasks - 1)`, each once, on the threads that compute, and returns when all have ended.
    fn share(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
    /// Copies what a block holds, over all layers, to `Shape::block_bytes` bytes: for tiers below memory.
    fn save_block(&self, block: BlockId, to: &mut [u8]);
    /// Puts back what `save_block` gave, into the same block or another one of a model loaded the same way.
    fn restore_block(&mut self, block: BlockId, from: &[u8]);
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    #[error("the key-value cache of {bytes} bytes could not be reserved: {cause}")]
    Reserve { bytes: usize, cause: String },
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token { token: TokenId, vocabulary: usize },
    #[error("the device failed: {0}")]
    Device(String),
}
