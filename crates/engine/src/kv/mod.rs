//! Where do a sequence's keys and values live, and who may find them again?

mod disk;
mod pool;
mod prefix;

pub use disk::{BlockFile, DiskConfig, DiskPlace};
pub(crate) use disk::{DiskTier, DiskWait, Prefix};
pub(crate) use pool::Blocks;
pub(crate) use prefix::extend_hashes;
pub(crate) use prefix::{ChainHash, prompt_hashes};
