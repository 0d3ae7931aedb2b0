//! Which units have seen the beginning of this prompt lately?
//!
//! A prompt is cut into blocks; each block's hash covers everything before it. What is kept is only (hash, unit, when), in
//! memory that is counted out beforehand: whatever prompts come, the index never grows, and the oldest use goes first.

use std::hash::{DefaultHasher, Hasher};
use std::mem::size_of;
use std::time::Duration;

use crate::UnitId;
use crate::breaker::micros;

/// About 256 tokens of English: below a provider's own least cacheable prefix, and fine enough to tell two tools' prompts apart.
pub const BLOCK_BYTES: usize = 1024;
/// Blocks of one prompt that are hashed: the first 2 MiB. What comes after counts as cold.
const BLOCKS_MAX: usize = 2048;

/// The beginning of one prompt, as a chain of hashes: at most 16 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    hashes: Vec<u64>,
    bytes: u64,
}

impl Prefix {
    pub fn blocks(&self) -> usize {
        self.hashes.len()
    }
    /// Returns how many of the prompt's tokens so many blocks hold, as bytes and tokens spread evenly.
    pub fn tokens_in(&self, blocks: usize, input_tokens: u64) -> u64 {
        if self.bytes == 0 {
            return 0;
        }
        let tokens = u128::from(input_tokens) * (blocks * BLOCK_BYTES) as u128 / u128::from(self.bytes);
        u64::try_from(tokens).unwrap_or(u64::MAX).min(input_tokens)
    }
}

/// Hashes a prompt as it is written into it, in the order in which a provider sees it: tools, system, messages.
#[derive(Clone, Debug)]
pub struct PrefixHasher {
    chain: DefaultHasher,
    filled: usize,
    prefix: Prefix,
}

impl PrefixHasher {
    /// The `secret` is drawn once for the process: without it nobody can write prompts that collide. The `scope` keeps apart
    /// what providers keep apart: the organisation, say.
    pub fn new(secret: u64, scope: &str) -> Self {
        let mut chain = DefaultHasher::new();
        chain.write_u64(secret);
        chain.write(scope.as_bytes());
        chain.write_u8(0xff);
        Self { chain, filled: 0, prefix: Prefix::default() }
    }

    pub fn write(&mut self, mut bytes: &[u8]) {
        self.prefix.bytes += bytes.len() as u64;
        while !bytes.is_empty() && self.prefix.hashes.len() < BLOCKS_MAX {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
            self.chain.write(now);
            self.filled += now.len();
            if self.filled == BLOCK_BYTES {
                self.prefix.hashes.push(self.chain.finish());
                self.filled = 0;
            }
            bytes = later;
        }
    }

    /// Returns the whole blocks; what is left over is part of no prefix.
    pub fn finish(self) -> Prefix {
        self.prefix
    }
}

/// Where prefixes are warm. Its size is exact and bounded: [`WarmIndex::bytes`].
#[derive(Clone, Debug)]
pub struct WarmIndex {
    /// Open addressing with linear probing, at most half full: a node's number plus one, or `EMPTY`.
    table: Box<[u32]>,
    /// Filled up to `nodes_max`, then reused from the oldest on.
    nodes: Vec<Node>,
    nodes_max: usize,
    newest: u32,
    oldest: u32,
}

/// A block that is warm at a unit; also a link of the list in order of use.
#[derive(Clone, Copy, Debug)]
struct Node {
    key: u64,
    expires_us: u64,
    newer: u32,
    older: u32,
}

/// In the list: no node.
const NONE: u32 = u32::MAX;
/// In the table: no node.
const EMPTY: u32 = 0;
/// Of an index that is new: 64 KiB with its nodes.
const PLACES_AT_FIRST: usize = 4096;

impl WarmIndex {
    /// What providers keep a prefix for, unless they are paid for more.
    pub const LIFETIME: Duration = Duration::from_secs(300);

    /// Holds as many blocks as fit into so many bytes, and at least one. What it holds is what it occupies: its table begins
    /// small and doubles, up to the bound.
    pub fn with_bytes(bytes: usize) -> Self {
        // A power of two of places, of which nodes may fill half: the largest table that leaves room for its nodes.
        let per_place = size_of::<u32>() + size_of::<Node>() / 2;
        let mut places = 2;
        while places * 2 * per_place <= bytes && places < 1 << 31 {
            places *= 2;
        }
        let nodes_max = places / 2;
        let places = places.min(PLACES_AT_FIRST);
        Self {
            table: vec![EMPTY; places].into_boxed_slice(),
            nodes: Vec::with_capacity(places / 2),
            nodes_max,
            newest: NONE,
            oldest: NONE,
        }
    }

    /// Returns what it occupies now.
    pub fn bytes(&self) -> usize {
        self.table.len() * size_of::<u32>() + self.nodes.capacity() * size_of::<Node>()
    }
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns how many of the prompt's tokens are warm at the unit.
    pub fn warm_tokens(&self, unit: &UnitId, prefix: &Prefix, input_tokens: u64, now: Duration) -> u64 {
        let now_us = micros(now);
        let salt = salt(unit);
        let is_warm = |&&hash: &&u64| {
            self.find(key(salt, hash)).is_some_and(|(_, node)| self.nodes[node as usize].expires_us > now_us)
        };
        let blocks = prefix.hashes.iter().take_while(is_warm).count();
        prefix.tokens_in(blocks, input_tokens)
    }

    /// Notes that the unit has seen the prompt, and keeps its prefix for so long.
    pub fn saw(&mut self, unit: &UnitId, prefix: &Prefix, lifetime: Duration, now: Duration) {
        let expires_us = micros(now) + micros(lifetime);
        let salt = salt(unit);
        // From the last block to the first: the beginning of a prompt, which others share, is then the last to be evicted.
        // Of a prompt that is longer than the index only the beginning is worth keeping.
        let kept = prefix.hashes.len().min(self.nodes_max);
        for &hash in prefix.hashes[..kept].iter().rev() {
            self.touch(key(salt, hash), expires_us);
        }
    }

    fn touch(&mut self, key: u64, expires_us: u64) {
        let node = match self.find(key) {
            Some((_, node)) => {
                self.unlink(node);
                node
            }
            None => self.take_node(key),
        };
        let entry = &mut self.nodes[node as usize];
        // A prefix that was paid to live longer is not shortened by a use that was not.
        entry.expires_us = entry.expires_us.max(expires_us);
        self.link_newest(node);
    }

    /// Returns an unlinked node that the table leads to: a new one, or the oldest.
    fn take_node(&mut self, key: u64) -> u32 {
        let fresh = Node { key, expires_us: 0, newer: NONE, older: NONE };
        let node = if self.nodes.len() < self.nodes_max {
            if self.nodes.len() == self.table.len() / 2 {
                self.grow();
            }
            self.nodes.push(fresh);
            (self.nodes.len() - 1) as u32
        } else {
            let oldest = self.oldest;
            self.unlink(oldest);
            self.remove_from_table(self.nodes[oldest as usize].key);
            self.nodes[oldest as usize] = fresh;
            oldest
        };
        self.put_in_table(node);
        node
    }

    /// Doubles the table, and makes room for as many nodes as it may lead to.
    fn grow(&mut self) {
        let places = self.table.len() * 2;
        self.table = Box::default();
        self.table = vec![EMPTY; places].into_boxed_slice();
        self.nodes.reserve_exact(places / 2 - self.nodes.len());
        for node in 0..self.nodes.len() {
            self.put_in_table(node as u32);
        }
    }

    fn put_in_table(&mut self, node: u32) {
        let mut place = self.home(self.nodes[node as usize].key);
        while self.table[place] != EMPTY {
            place = self.next(place);
        }
        self.table[place] = node + 1;
    }

    fn find(&self, key: u64) -> Option<(usize, u32)> {
        let mut place = self.home(key);
        loop {
            match self.table[place].checked_sub(1) {
                None => return None,
                Some(node) if self.nodes[node as usize].key == key => return Some((place, node)),
                Some(_) => place = self.next(place),
            }
        }
    }

    /// Closes the gap that a removal leaves, so that no search ends early: what probed past the gap moves into it.
    fn remove_from_table(&mut self, key: u64) {
        let Some((mut gap, _)) = self.find(key) else { return };
        let mask = self.table.len() - 1;
        let mut place = gap;
        loop {
            place = self.next(place);
            let Some(node) = self.table[place].checked_sub(1) else { break };
            let home = self.home(self.nodes[node as usize].key);
            let from_home_to_place = place.wrapping_sub(home) & mask;
            let from_gap_to_place = place.wrapping_sub(gap) & mask;
            if from_home_to_place >= from_gap_to_place {
                self.table[gap] = node + 1;
                gap = place;
            }
        }
        self.table[gap] = EMPTY;
    }

    fn link_newest(&mut self, node: u32) {
        let second = self.newest;
        let entry = &mut self.nodes[node as usize];
        (entry.newer, entry.older) = (NONE, second);
        match second {
            NONE => self.oldest = node,
            second => self.nodes[second as usize].newer = node,
        }
        self.newest = node;
    }

    fn unlink(&mut self, node: u32) {
        let Node { newer, older, .. } = self.nodes[node as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[older as usize].newer = newer,
        }
    }

    fn home(&self, key: u64) -> usize {
        key as usize & (self.table.len() - 1)
    }
    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.table.len() - 1)
    }

    /// Panics if a node is lost, in the list or in the table.
    pub fn check_integrity(&self) {
        let (mut walked, mut node, mut newer) = (0, self.newest, NONE);
        while node != NONE {
            let entry = &self.nodes[node as usize];
            assert_eq!(entry.newer, newer, "the list reads the same both ways");
            assert_eq!(
                self.find(entry.key).map(|(_, found)| found),
                Some(node),
                "the table leads to each node"
            );
            (walked, newer, node) = (walked + 1, node, entry.older);
        }
        assert_eq!(newer, self.oldest, "the list ends with the oldest");
        assert_eq!(walked, self.nodes.len(), "each node is in the list");
        let listed = self.table.iter().filter(|&&node| node != EMPTY).count();
        assert_eq!(listed, self.nodes.len(), "the table holds each node once");
    }
}

fn salt(unit: &UnitId) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(unit.as_str().as_bytes());
    hasher.finish()
}

/// Mixes the two so that every bit of both matters to the place in the table.
fn key(salt: u64, hash: u64) -> u64 {
    let mixed = (hash ^ salt.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}
