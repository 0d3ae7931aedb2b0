//! A model on a device: weights from disk, the layers of each family, and one forward pass over a ragged batch.
//!
//! Knows token ids and tensors. Does not know requests, text, HTTP or money.

mod batch;
mod config;
mod families;
mod forward;
mod layers;
mod load;
pub mod quantize;
pub mod weights;

pub use batch::{Batch, BlockId, Forward, ForwardError, Shape, Span};
pub use config::{ConfigError, ExpertsConfig, ModelConfig, Names, Rope, RopeScaling};
pub use forward::Model;
/// How weights are kept, and how their products are computed.
pub use kernels::{Isa, KvPrecision, Numerics, Precision};
pub use load::{BlockFormats, LoadError, LoadOptions, LoadProgress, LoadReport};
