//! Which answers does this server remember, within a stated number of bytes?
//!
//! As text, in the chunks of a slab: reading one again takes some microseconds for each kilobyte.

use lru::LruCache;
use parking_lot::Mutex;

use super::slab::{CHUNK, CHUNK_BYTES, Chain, Slab};
use crate::AskKey;

#[derive(Debug)]
pub struct Memory {
    chunks_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    /// In the order of their use. Each has a chunk of the slab at least, so there are never more than chunks.
    by_key: LruCache<AskKey, Entry>,
    slab: Slab,
}

#[derive(Debug)]
struct Entry {
    value: Chain,
    expires_ms: i64,
}

/// One answer may take this part of the memory; a larger one would drive out all others.
const PART_MAX: usize = 8;
/// The list's node (key, entry, two neighbours) with the allocator's header and rounding; a place in the table (a pointer to the
/// key, one to the node, a byte of its hash), which is between 7/16 and 7/8 full, so 39 bytes at most.
const ENTRY: usize = size_of::<AskKey>() + size_of::<Entry>() + 16 + 16 + 39;

impl Memory {
    /// Returns one that never takes more than this, however many answers of whatever sizes there are.
    pub fn new(bytes_max: usize) -> Self {
        let chunks_max = bytes_max / (CHUNK_BYTES + ENTRY);
        let entries = Entries { by_key: LruCache::unbounded(), slab: Slab::new(chunks_max) };
        Self { chunks_max, entries: Mutex::new(entries) }
    }

    pub fn get(&self, key: &AskKey, now_ms: i64) -> Option<Vec<u8>> {
        let Entries { by_key, slab } = &mut *self.entries.lock();
        let Entry { value, expires_ms } = by_key.get(key)?;
        if *expires_ms > now_ms {
            return Some(slab.read(value));
        }
        by_key.pop(key).into_iter().for_each(|entry| slab.take(entry.value));
        None
    }

    pub fn put(&self, key: AskKey, value: &[u8], expires_ms: i64) {
        let Entries { by_key, slab } = &mut *self.entries.lock();
        by_key.pop(&key).into_iter().for_each(|entry| slab.take(entry.value));
        let chunks = Slab::chunks_of(value.len());
        if chunks > self.chunks_max / PART_MAX {
            return;
        }
        while slab.room() < chunks {
            let (_, oldest) = by_key.pop_lru().expect("an empty slab has room for its part");
            slab.take(oldest.value);
        }
        by_key.put(key, Entry { value: slab.put(value), expires_ms });
    }

    /// Returns how many entries there are, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let Entries { by_key, slab } = &*self.entries.lock();
        (by_key.len(), slab.in_use() * CHUNK + by_key.len() * ENTRY)
    }
}
