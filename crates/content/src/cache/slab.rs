//! Where do values of every size lie without leaving holes of the wrong size?
//!
//! ```text
//!   chunk:  next (4 bytes) │ 1,020 bytes of a value          a value is a chain of chunks; the last may be part empty
//! ```
//!
//! Memory is taken in blocks, up to a maximum, and kept: what one value leaves, any other can take. Taken from the allocator
//! piece by piece, a full cache was seen to take 1.8 times its bytes after the sizes of values had changed.

#[derive(Debug)]
pub struct Slab {
    blocks: Vec<Box<[u8]>>,
    chunks: u32,
    chunks_max: u32,
    free: Vec<u32>,
}

/// A value in the slab. Only [`Slab::take`] ends it.
#[derive(Debug)]
pub struct Chain {
    first: u32,
    bytes: usize,
}

/// Answers of a few hundred words fill some of these; smaller ones would be mostly pointers.
pub const CHUNK: usize = 1_024;
const INSIDE: usize = CHUNK - size_of::<u32>();
/// What a chunk takes: itself, and its place in the list of free ones.
pub const CHUNK_BYTES: usize = CHUNK + size_of::<u32>();
const BLOCK: u32 = 64;
const END: u32 = u32::MAX;

impl Slab {
    pub fn new(chunks_max: usize) -> Self {
        let chunks_max = u32::try_from(chunks_max).unwrap_or(END).min(END - 1);
        Self { blocks: Vec::new(), chunks: 0, chunks_max, free: Vec::new() }
    }

    /// Returns how many chunks a value takes; even nothing takes one.
    pub fn chunks_of(bytes: usize) -> usize {
        bytes.div_ceil(INSIDE).max(1)
    }

    /// Returns how many chunks are free or may still be taken.
    pub fn room(&self) -> usize {
        self.free.len() + (self.chunks_max - self.chunks) as usize
    }

    pub fn in_use(&self) -> usize {
        self.chunks as usize - self.free.len()
    }

    /// Keeps a value, for which there must be room.
    pub fn put(&mut self, value: &[u8]) -> Chain {
        assert!(Self::chunks_of(value.len()) <= self.room(), "whoever puts makes room first");
        let (mut first, bytes) = (END, value.len());
        // From its end, so that each chunk knows its next.
        let starts = (0..Self::chunks_of(bytes)).rev().map(|number| number * INSIDE);
        for start in starts {
            let piece = &value[start..bytes.min(start + INSIDE)];
            let chunk = self.chunk();
            let place = self.place(chunk);
            place[..size_of::<u32>()].copy_from_slice(&first.to_le_bytes());
            place[size_of::<u32>()..][..piece.len()].copy_from_slice(piece);
            first = chunk;
        }
        Chain { first, bytes }
    }

    pub fn read(&self, chain: &Chain) -> Vec<u8> {
        let mut value = Vec::with_capacity(chain.bytes);
        let mut chunk = chain.first;
        while chunk != END {
            let (next, inside) = self.seen(chunk);
            value.extend_from_slice(&inside[..INSIDE.min(chain.bytes - value.len())]);
            chunk = next;
        }
        value
    }

    /// Gives a value's chunks to others.
    pub fn take(&mut self, chain: Chain) {
        let mut chunk = chain.first;
        while chunk != END {
            self.free.push(chunk);
            (chunk, _) = self.seen(chunk);
        }
    }

    fn chunk(&mut self) -> u32 {
        if self.free.is_empty() {
            let more = BLOCK.min(self.chunks_max - self.chunks);
            self.blocks.push(vec![0; more as usize * CHUNK].into_boxed_slice());
            self.free.reserve_exact(more as usize);
            self.free.extend((self.chunks..self.chunks + more).rev());
            self.chunks += more;
        }
        self.free.pop().expect("there was room")
    }

    fn place(&mut self, chunk: u32) -> &mut [u8] {
        let start = (chunk % BLOCK) as usize * CHUNK;
        &mut self.blocks[(chunk / BLOCK) as usize][start..start + CHUNK]
    }

    fn seen(&self, chunk: u32) -> (u32, &[u8]) {
        let start = (chunk % BLOCK) as usize * CHUNK;
        let (next, inside) =
            self.blocks[(chunk / BLOCK) as usize][start..start + CHUNK].split_at(size_of::<u32>());
        (u32::from_le_bytes(next.try_into().expect("it is four bytes")), inside)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Values come and go in any order and size: each is read as it was put, and no chunk is lost or had twice.
        #[test]
        fn values_come_back_and_chunks_are_conserved(
            steps in prop::collection::vec((any::<bool>(), 0usize..5_000, any::<prop::sample::Index>()), 1..80),
        ) {
            let mut slab = Slab::new(100);
            let mut kept: Vec<(Vec<u8>, Chain)> = Vec::new();
            for (number, (is_put, bytes, which)) in steps.into_iter().enumerate() {
                if is_put && Slab::chunks_of(bytes) <= slab.room() {
                    let value: Vec<u8> = (0..bytes).map(|place| (place * 31 + number) as u8).collect();
                    let chain = slab.put(&value);
                    kept.push((value, chain));
                } else if !kept.is_empty() {
                    let (_, chain) = kept.swap_remove(which.index(kept.len()));
                    slab.take(chain);
                }
                let used: usize = kept.iter().map(|(value, _)| Slab::chunks_of(value.len())).sum();
                prop_assert_eq!(slab.in_use(), used);
                prop_assert_eq!(slab.room(), 100 - used);
                prop_assert!(slab.blocks.iter().map(|block| block.len()).sum::<usize>() <= 100 * CHUNK);
                for (value, chain) in &kept {
                    prop_assert_eq!(&slab.read(chain), value);
                }
            }
        }
    }
}
