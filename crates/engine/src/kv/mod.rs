//! Where do a sequence's keys and values live, and who may find them again?

mod pool;
mod prefix;

pub(crate) use pool::Blocks;
pub(crate) use prefix::extend_hashes;
pub(crate) use prefix::{ChainHash, prompt_hashes};
