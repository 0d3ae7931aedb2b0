//! What does one slot of the file hold, and how is it known to be whole?
//!
//! ```text
//! file   | header of the file, padded to 4,096 | slot 0 | slot 1 | …
//! slot   | header, 128 bytes | the block's bytes | padded to 4,096 |
//! header | mark 8 | block bytes 8 | identity 32 | name 32 | age 8 | checksum 8 | zeros |
//! ```
//! The header of the file is one without a name. A slot that was torn by a crash, or rotted, has another checksum than it
//! says; one of another model has another identity.

use super::ChainHash;

pub(super) const HEADER_BYTES: usize = 128;
/// Files are written in pages; a slot shares none with its neighbours.
pub(super) const PAGE_BYTES: usize = 4096;
/// The last digit is the format's version.
const MARK: [u8; 8] = *b"BLKVSLT1";

/// What the blocks of one file have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Stands for everything that a block's bytes depend on besides its tokens: weights, precisions, code path.
    pub(super) identity: [u8; 32],
    pub(super) block_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: ChainHash,
    /// Grows from write to write, so that the order of use survives a restart.
    pub(super) age: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A header of this format. Whether the block behind it is whole, only its checksum tells.
    Ours(Header),
    /// A header of another model or precision.
    Foreign,
    Nothing,
}

impl Format {
    pub(super) fn slot_bytes(&self) -> usize {
        (HEADER_BYTES + self.block_bytes).next_multiple_of(PAGE_BYTES)
    }

    /// Returns how many slots fit in so many bytes. A slot's number is a `u32`, and the last value marks the end of a list.
    pub(super) fn slots_in(&self, bytes: u64) -> usize {
        let slots = bytes.saturating_sub(PAGE_BYTES as u64) / self.slot_bytes() as u64;
        slots.min(u64::from(u32::MAX) - 1) as usize
    }

    pub(super) fn file_bytes(&self, slots: usize) -> u64 {
        self.place_of(slots as u32)
    }

    pub(super) fn place_of(&self, slot: u32) -> u64 {
        PAGE_BYTES as u64 + u64::from(slot) * self.slot_bytes() as u64
    }

    /// Writes the header before a block that lies in `bytes` already, or before none.
    pub(super) fn seal(&self, header: Header, bytes: &mut [u8]) {
        let (head, block) = bytes.split_at_mut(HEADER_BYTES);
        head.fill(0);
        head[..8].copy_from_slice(&MARK);
        head[8..16].copy_from_slice(&(self.block_bytes as u64).to_le_bytes());
        head[16..48].copy_from_slice(&self.identity);
        head[48..80].copy_from_slice(header.name.bytes());
        head[80..88].copy_from_slice(&header.age.to_le_bytes());
        let checksum = checksum(head, block);
        head[88..96].copy_from_slice(&checksum.to_le_bytes());
    }

    pub(super) fn read(&self, head: &[u8]) -> Found {
        if head[..8] != MARK {
            return Found::Nothing;
        }
        if word(head, 8) != self.block_bytes as u64 || head[16..48] != self.identity {
            return Found::Foreign;
        }
        let name = head[48..80].try_into().expect("a name has 32 bytes");
        Found::Ours(Header { name: ChainHash::of_bytes(name), age: word(head, 80) })
    }

    /// Whether header and block are as they were sealed, under that name.
    pub(super) fn is_whole(&self, name: ChainHash, bytes: &[u8]) -> bool {
        let (head, block) = bytes.split_at(HEADER_BYTES);
        let said = word(head, 88);
        let mut blank = [0; HEADER_BYTES];
        blank.copy_from_slice(head);
        blank[88..96].fill(0);
        matches!(self.read(head), Found::Ours(header) if header.name == name)
            && checksum(&blank, block) == said
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a word has eight bytes"))
}

/// Four lanes of multiply and rotate, each step of which can be undone: a change within one word of eight bytes always shows,
/// any other but for one time in 2⁶⁴. It guards against accidents at the speed of memory; who can write the file can write
/// a checksum, too, whatever its kind.
fn checksum(head: &[u8], block: &[u8]) -> u64 {
    const PRIMES: [u64; 2] = [0x9E37_79B1_85EB_CA87, 0xC2B2_AE3D_27D4_EB4F];
    let mix =
        |lane: u64, word: u64| (lane ^ word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0]);
    let mut lanes = [1u64, 2, 3, 4];
    let mut length = 0u64;
    for part in [head, block] {
        let (quads, rest) = part.as_chunks::<32>();
        for quad in quads {
            for (lane, word) in lanes.iter_mut().zip(quad.as_chunks::<8>().0) {
                *lane = mix(*lane, u64::from_le_bytes(*word));
            }
        }
        for &byte in rest {
            lanes[0] = mix(lanes[0], u64::from(byte));
        }
        length += part.len() as u64;
    }
    lanes.into_iter().fold(length, mix)
}

#[cfg(test)]
mod tests {
    use domain::Tenant;

    use super::super::super::prompt_hashes;
    use super::*;

    const FORMAT: Format = Format { identity: [7; 32], block_bytes: 1000 };

    fn sealed() -> (ChainHash, Vec<u8>) {
        let name = prompt_hashes(&Tenant::from("t"), &[1], 1)[0];
        let mut bytes: Vec<u8> = (0..HEADER_BYTES + 1000).map(|i| i as u8).collect();
        FORMAT.seal(Header { name, age: 5 }, &mut bytes);
        (name, bytes)
    }

    #[test]
    fn a_sealed_slot_reads_as_it_was_written() {
        let (name, bytes) = sealed();
        assert_eq!(FORMAT.read(&bytes[..HEADER_BYTES]), Found::Ours(Header { name, age: 5 }));
        assert!(FORMAT.is_whole(name, &bytes));
        let other = prompt_hashes(&Tenant::from("t"), &[2], 1)[0];
        assert!(!FORMAT.is_whole(other, &bytes), "it is not the block of another name");
    }

    #[test]
    fn any_changed_byte_shows() {
        let (name, bytes) = sealed();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(!FORMAT.is_whole(name, &changed), "byte {at}");
        }
    }

    #[test]
    fn a_torn_slot_shows_wherever_it_was_torn() {
        let (name, new) = sealed();
        let mut old = vec![9; new.len()];
        FORMAT.seal(Header { name, age: 4 }, &mut old);
        for at in 1..new.len() {
            let torn = [&new[..at], &old[at..]].concat();
            // Where both begin alike, nothing of the new one was written yet.
            assert!(torn == old || !FORMAT.is_whole(name, &torn), "torn at {at}");
        }
    }

    #[test]
    fn slots_of_other_models_and_empty_ones_are_told_apart() {
        let (_, bytes) = sealed();
        let other = Format { identity: [8; 32], ..FORMAT };
        let longer = Format { block_bytes: 1001, ..FORMAT };
        assert_eq!(other.read(&bytes[..HEADER_BYTES]), Found::Foreign);
        assert_eq!(longer.read(&bytes[..HEADER_BYTES]), Found::Foreign);
        assert_eq!(FORMAT.read(&[0; HEADER_BYTES]), Found::Nothing);
    }

    #[test]
    fn the_file_never_exceeds_its_bytes() {
        for bytes in [0, 4095, 4096, 8191, 8192, 8193, 1 << 20] {
            let slots = FORMAT.slots_in(bytes);
            assert!(slots == 0 || FORMAT.file_bytes(slots) <= bytes, "{bytes} bytes");
            assert!(FORMAT.file_bytes(slots + 1) > bytes, "{bytes} bytes");
        }
    }
}
