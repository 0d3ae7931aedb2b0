//! Numbers on slices: the operations a transformer needs, fast on this machine and right on every machine.
//!
//! `reference/` is the truth in plain scalar Rust. `cpu/` holds the fast twins, chosen at run time by what the processor
//! can do. Nothing here knows tensors by name, models, requests or text.

mod attention;
mod cpu;
mod elementwise;
mod experts;
mod isa;
mod matrix;
mod memory;
mod packing;
mod pool;
mod probe;
pub mod reference;
mod tiles;

pub use attention::{AttentionSpan, BLOCK_TOKENS, KvCache, KvPrecision};
pub use elementwise::{add, add_to_rows, rms_norm, rms_norm_heads, rope, silu_mul};
pub use experts::{ExpertBuffers, ExpertPart, Experts, ExpertsShape, Routes};
pub use isa::{Isa, describe};
pub use matrix::{FillInt4, INT4_GROUP, Int4Group, Matrix, Precision, matmul};
pub use memory::{Mapping, Storage, StorageError, give_back, let_start_go};
pub use pool::{Numerics, Pool, PoolOptions, available_threads};
pub use probe::{multiply_peak, read_bandwidth};
pub use tiles::{Crossing, tile_crossings, tile_peak, tile_rows_least};
