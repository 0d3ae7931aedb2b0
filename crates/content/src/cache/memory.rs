//! Which answers does this server remember, within a stated number of bytes?
//!
//! As text, in one piece each: so an answer takes what it says and leaves no holes. Reading one again takes some microseconds
//! for each kilobyte.

use lru::LruCache;
use parking_lot::Mutex;

use crate::AskKey;

#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    /// In the order of their use; bounded by the bytes below.
    by_key: LruCache<AskKey, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    expires_ms: i64,
}

/// One answer may take this part of the memory; a larger one would drive out all others.
const PART_MAX: usize = 8;

impl Memory {
    pub fn new(bytes_max: usize) -> Self {
        let entries = Mutex::new(Entries { by_key: LruCache::unbounded(), bytes: 0 });
        Self { bytes_max, entries }
    }

    pub fn get(&self, key: &AskKey, now_ms: i64) -> Option<Box<[u8]>> {
        let mut entries = self.entries.lock();
        let Entry { value, expires_ms } = entries.by_key.get(key)?;
        if *expires_ms > now_ms {
            return Some(value.clone());
        }
        entries.remove(key);
        None
    }

    pub fn put(&self, key: AskKey, value: Box<[u8]>, expires_ms: i64) {
        let bytes = entry_bytes(&value);
        let mut entries = self.entries.lock();
        entries.remove(&key);
        if bytes > self.bytes_max / PART_MAX {
            return;
        }
        while entries.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = entries.by_key.pop_lru() else { break };
            entries.bytes -= entry_bytes(&oldest.value);
        }
        entries.bytes += bytes;
        entries.by_key.put(key, Entry { value, expires_ms });
    }

    /// Returns how many entries there are, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let entries = self.entries.lock();
        (entries.by_key.len(), entries.bytes)
    }
}

impl Entries {
    fn remove(&mut self, key: &AskKey) {
        if let Some(entry) = self.by_key.pop(key) {
            self.bytes -= entry_bytes(&entry.value);
        }
    }
}

/// What a piece of memory of its own costs beside its bytes: the allocator's header and rounding.
const PIECE: usize = 16;
/// The list's node (key, entry, two neighbours) with its piece; a place in the table (a pointer to the key, one to the node, a
/// byte of its hash), which is between 7/16 and 7/8 full, so 39 bytes at most.
const ENTRY: usize = size_of::<AskKey>() + size_of::<Entry>() + 16 + PIECE + 39;

/// Returns what keeping this value takes in all.
pub fn entry_bytes(value: &[u8]) -> usize {
    value.len() + PIECE + ENTRY
}
