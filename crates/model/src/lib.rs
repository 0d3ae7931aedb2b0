//! A model on a device: weights from disk, the layers of each family, and one forward pass over a ragged batch.
//!
//! Knows token ids and tensors. Does not know requests, text, HTTP or money.

mod batch;

pub use batch::{Batch, BlockId, Forward, ForwardError, Shape, Span};
