//! Which blocks are in use, which can be found, and which is reused next?
//!
//! ```text
//!            allocate                      seal (full, computed)
//!   empty ───────────▶ held (1‥n holders) ───────────▶ held and findable
//!     ▲                    │ release (last)                 │ release (last)      ▲ hold
//!     │                    ▼                                ▼                     │
//!     └────────────  free list, front                 free list, back ────────────┘
//!                    reused first                     reused last: least recently used first
//! ```

use std::collections::HashMap;

use model::BlockId;

use super::ChainHash;

/// The blocks of one engine. Memory: 64 bytes a block here, and an index entry (44 bytes) for each that can be found; both
/// are bounded by the number of blocks, fixed at start.
#[derive(Debug)]
pub struct Blocks {
    blocks: Vec<Block>,
    /// Every findable block under its name. Never more entries than blocks.
    named: HashMap<ChainHash, BlockId>,
    /// Blocks that nobody holds, in the order of reuse.
    front: Link,
    back: Link,
    free: usize,
    /// How many of the free ones can still be found.
    cached: usize,
    /// How many were reused while they could be found here and nowhere else.
    lost: u64,
    /// Whether free blocks may have come to be that are here and nowhere else, since all were looked at.
    may_be_unsaved: bool,
}

/// Whether a findable block is also in the tier below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Below {
    #[default]
    Not,
    /// It is, or is on its way there.
    There,
    /// It is, and this is its copy, which nobody has used yet.
    CameBack,
}

/// The list lives inside the blocks: taking one out of its middle, when it is found again, costs nothing.
#[derive(Clone, Debug, Default)]
struct Block {
    holders: u32,
    name: Option<ChainHash>,
    below: Below,
    before: Link,
    after: Link,
}

type Link = Option<BlockId>;

/// A block was lost or counted twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key-value blocks do not add up: {0}")]
pub struct IntegrityError(pub String);

impl Blocks {
    pub fn new(total: usize) -> Self {
        let mut blocks = Self {
            blocks: vec![Block::default(); total],
            named: HashMap::new(),
            front: None,
            back: None,
            free: 0,
            cached: 0,
            lost: 0,
            may_be_unsaved: false,
        };
        for index in 0..total {
            blocks.push_back(BlockId(index as u32));
        }
        blocks
    }

    pub fn total(&self) -> usize {
        self.blocks.len()
    }
    /// Returns how many blocks can be allocated: those that nobody holds, findable or not.
    pub fn available(&self) -> usize {
        self.free
    }
    /// Returns how many blocks nobody holds whose content can still be found.
    pub fn cached(&self) -> usize {
        self.cached
    }
    /// Returns how many blocks can be found, held or not.
    pub(super) fn findable(&self) -> usize {
        self.named.len()
    }
    pub fn in_use(&self) -> usize {
        self.total() - self.free
    }
    /// Returns the block of that name, held or not.
    pub fn find(&self, name: &ChainHash) -> Option<BlockId> {
        self.named.get(name).copied()
    }
    pub fn is_free(&self, id: BlockId) -> bool {
        self.block(id).holders == 0
    }

    /// Takes the block that is least worth keeping. Its old content can no longer be found.
    pub fn allocate(&mut self) -> Option<BlockId> {
        self.take().map(|(id, _)| id)
    }

    /// The same, and says by which name its old content was found.
    pub(super) fn take(&mut self) -> Option<(BlockId, Option<ChainHash>)> {
        let id = self.front?;
        self.unlink(id);
        let Block { name, below, .. } = *self.block(id);
        self.lost += u64::from(name.is_some() && below == Below::Not);
        self.forget(id);
        self.block_mut(id).holders = 1;
        // Blocks behind it have moved up.
        self.may_be_unsaved = true;
        Some((id, name))
    }

    /// Adds a holder to a block that was found.
    pub fn hold(&mut self, id: BlockId) {
        if self.is_free(id) {
            self.unlink(id);
        }
        self.block_mut(id).holders += 1;
    }

    /// Takes a holder away from each block of a sequence. Tails come free first, so that what many share goes last; blocks
    /// that cannot be found go to the front of the list, for they are worth nothing.
    pub fn release(&mut self, sequence: impl DoubleEndedIterator<Item = BlockId>) {
        self.may_be_unsaved = true;
        for id in sequence.rev() {
            let block = self.block_mut(id);
            assert!(block.holders > 0, "block {} is released more often than it was held", id.0);
            block.holders -= 1;
            if block.holders > 0 {
                continue;
            }
            if self.block(id).name.is_some() { self.push_back(id) } else { self.push_front(id) }
        }
    }

    /// Makes a full, computed block findable. Where an equal one already is, that one stays the one to be found.
    pub fn seal(&mut self, id: BlockId, name: ChainHash) {
        let block = self.block(id);
        assert!(block.holders > 0, "block {} is sealed but held by nobody", id.0);
        if block.name.is_none() && !self.named.contains_key(&name) {
            self.named.insert(name, id);
            self.block_mut(id).name = Some(name);
        }
    }

    /// Makes a block's content unfindable; whoever holds it keeps it.
    pub fn forget(&mut self, id: BlockId) {
        if let Some(name) = self.block_mut(id).name.take() {
            self.named.remove(&name);
            self.block_mut(id).below = Below::Not;
            self.cached -= usize::from(self.is_linked(id));
        }
    }

    /// Moves blocks that were found to the back of the list, heads last of all, as if they had just been used.
    pub(super) fn touch(&mut self, found: &[BlockId]) {
        found.iter().for_each(|&id| self.hold(id));
        self.release(found.iter().copied());
    }

    // === what the tier below needs to know ===

    /// Returns how many blocks were reused that could be found nowhere else.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the first of the next `limit` blocks to be reused whose content is here and nowhere else.
    pub(super) fn first_unsaved(&mut self, limit: usize) -> Option<(BlockId, ChainHash)> {
        // Most steps change nothing, and the list may be long.
        if !self.may_be_unsaved {
            return None;
        }
        let next = std::iter::successors(self.front, |id| self.block(*id).after);
        let first = next.take(limit).find_map(|id| {
            let block = self.block(id);
            block.name.filter(|_| block.below == Below::Not).map(|name| (id, name))
        });
        self.may_be_unsaved = first.is_some();
        first
    }

    /// Takes note of what the tier below has of a findable block.
    pub(super) fn mark(&mut self, id: BlockId, below: Below) {
        self.block_mut(id).below = below;
        self.may_be_unsaved = true;
    }

    /// Whether a found block came back from below and is used for the first time since.
    pub(crate) fn is_first_use(&mut self, id: BlockId) -> bool {
        let first = self.block(id).below == Below::CameBack;
        if first {
            self.mark(id, Below::There);
        }
        first
    }

    // === proof ===

    /// Returns what does not add up, given the blocks of every sequence: free + cached + in use = total, each block held
    /// exactly as often as sequences hold it, and each name pointing at the block that bears it.
    pub fn check_integrity<'a>(
        &self,
        holders: impl Iterator<Item = &'a [BlockId]>,
    ) -> Result<(), IntegrityError> {
        let wrong = |what: String| Err(IntegrityError(what));
        let mut held = vec![0u32; self.total()];
        for id in holders.flatten() {
            held[id.0 as usize] += 1;
        }
        for (index, block) in self.blocks.iter().enumerate() {
            if block.holders != held[index] {
                return wrong(format!(
                    "block {index} counts {} holders and has {}",
                    block.holders, held[index]
                ));
            }
            if block.name.is_some_and(|name| self.find(&name) != Some(BlockId(index as u32))) {
                return wrong(format!("block {index} is not found under its name"));
            }
        }
        let names = self.blocks.iter().filter(|block| block.name.is_some()).count();
        if names != self.named.len() {
            return wrong(format!("{names} blocks have a name and the index has {}", self.named.len()));
        }
        self.check_list()
    }

    fn check_list(&self) -> Result<(), IntegrityError> {
        let wrong = |what: String| Err(IntegrityError(what));
        let (mut free, mut cached, mut before, mut at) = (0, 0, None, self.front);
        while let Some(id) = at {
            let block = self.block(id);
            if block.holders > 0 || block.before != before {
                return wrong(format!("block {} is wrongly linked into the free list", id.0));
            }
            free += 1;
            cached += usize::from(block.name.is_some());
            if free > self.total() {
                return wrong("the free list is a circle".to_owned());
            }
            before = at;
            at = block.after;
        }
        let in_use = self.blocks.iter().filter(|block| block.holders > 0).count();
        if before != self.back || free != self.free || cached != self.cached || free + in_use != self.total()
        {
            return wrong(format!(
                "{} free (counted {free}), {} of them cached (counted {cached}), {in_use} in use, {} in all",
                self.free,
                self.cached,
                self.total()
            ));
        }
        Ok(())
    }

    fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }
    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[id.0 as usize]
    }

    fn is_linked(&self, id: BlockId) -> bool {
        self.block(id).before.is_some() || self.front == Some(id)
    }

    fn push_back(&mut self, id: BlockId) {
        let before = self.back.replace(id);
        match before {
            Some(last) => self.block_mut(last).after = Some(id),
            None => self.front = Some(id),
        }
        self.block_mut(id).before = before;
        self.count_free(id);
    }

    fn push_front(&mut self, id: BlockId) {
        let after = self.front.replace(id);
        match after {
            Some(first) => self.block_mut(first).before = Some(id),
            None => self.back = Some(id),
        }
        self.block_mut(id).after = after;
        self.count_free(id);
    }

    fn count_free(&mut self, id: BlockId) {
        self.free += 1;
        self.cached += usize::from(self.block(id).name.is_some());
    }

    fn unlink(&mut self, id: BlockId) {
        let block = self.block_mut(id);
        let (before, after) = (block.before.take(), block.after.take());
        let named = block.name.is_some();
        match before {
            Some(before) => self.block_mut(before).after = after,
            None => self.front = after,
        }
        match after {
            Some(after) => self.block_mut(after).before = before,
            None => self.back = before,
        }
        self.free -= 1;
        self.cached -= usize::from(named);
    }
}

#[cfg(test)]
mod tests {
    use domain::Tenant;
    use proptest::prelude::*;

    use super::super::prompt_hashes;
    use super::*;

    fn name(number: u32) -> ChainHash {
        prompt_hashes(&Tenant::from("t"), &[number], 1)[0]
    }

    fn take(blocks: &mut Blocks, count: usize) -> Vec<BlockId> {
        (0..count).map(|_| blocks.allocate().expect("a free block")).collect()
    }

    #[test]
    fn sealed_blocks_stay_findable_until_they_are_reused() {
        let mut blocks = Blocks::new(2);
        let first = blocks.allocate().unwrap();
        blocks.seal(first, name(1));
        blocks.release([first].into_iter());
        assert_eq!((blocks.find(&name(1)), blocks.cached(), blocks.available()), (Some(first), 1, 2));
        // The other block was never used: it goes first.
        let other = blocks.allocate().unwrap();
        assert_ne!(other, first);
        assert_eq!(blocks.find(&name(1)), Some(first));
        assert_eq!(blocks.allocate(), Some(first));
        assert_eq!((blocks.find(&name(1)), blocks.cached(), blocks.allocate()), (None, 0, None));
    }

    #[test]
    fn tails_are_reused_before_the_heads_they_follow() {
        let mut blocks = Blocks::new(3);
        let held = take(&mut blocks, 3);
        held.iter().zip(0..).for_each(|(&id, number)| blocks.seal(id, name(number)));
        blocks.release(held.iter().copied());
        assert_eq!(take(&mut blocks, 3), [held[2], held[1], held[0]]);
    }

    #[test]
    fn a_shared_block_comes_free_with_its_last_holder() {
        let mut blocks = Blocks::new(1);
        let block = blocks.allocate().unwrap();
        blocks.hold(block);
        blocks.release([block].into_iter());
        assert_eq!(blocks.available(), 0);
        blocks.release([block].into_iter());
        assert_eq!(blocks.available(), 1);
    }

    #[test]
    fn a_forgotten_block_is_not_found_by_anyone() {
        let mut blocks = Blocks::new(2);
        let held = take(&mut blocks, 2);
        blocks.seal(held[0], name(1));
        blocks.seal(held[1], name(2));
        blocks.forget(held[0]);
        blocks.release(held.iter().copied());
        blocks.forget(held[1]);
        assert_eq!((blocks.find(&name(1)), blocks.find(&name(2)), blocks.cached()), (None, None, 0));
        assert_eq!(blocks.check_integrity(std::iter::empty()), Ok(()));
    }

    #[test]
    fn the_check_sees_a_lost_block_and_a_stray_holder() {
        let mut blocks = Blocks::new(4);
        let held = take(&mut blocks, 2);
        assert_eq!(blocks.check_integrity([&held[..]].into_iter()), Ok(()));
        assert!(blocks.check_integrity(std::iter::empty()).is_err(), "two blocks are lost");
        assert!(blocks.check_integrity([&held[..], &held[..1]].into_iter()).is_err(), "one is held twice");
        blocks.free -= 1;
        assert!(blocks.check_integrity([&held[..]].into_iter()).is_err(), "the count is off");
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Allocate(usize),
        Share(usize),
        Seal(usize, u32),
        Forget(usize),
        Release(usize),
        Find(u32),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            (1usize..4).prop_map(Deed::Allocate),
            any::<usize>().prop_map(Deed::Share),
            (any::<usize>(), 0u32..12).prop_map(|(at, name)| Deed::Seal(at, name)),
            any::<usize>().prop_map(Deed::Forget),
            any::<usize>().prop_map(Deed::Release),
            (0u32..12).prop_map(Deed::Find),
        ];
        proptest::collection::vec(deed, 0..80)
    }

    proptest! {
        #[test]
        fn whatever_happens_the_blocks_add_up(total in 1usize..9, deeds in deeds()) {
            let mut blocks = Blocks::new(total);
            let mut sequences: Vec<Vec<BlockId>> = Vec::new();
            for deed in deeds {
                match deed {
                    Deed::Allocate(count) if count <= blocks.available() => {
                        sequences.push(take(&mut blocks, count));
                    }
                    Deed::Share(at) if !sequences.is_empty() => {
                        let shared = sequences[at % sequences.len()].clone();
                        shared.iter().for_each(|&id| blocks.hold(id));
                        sequences.push(shared);
                    }
                    Deed::Seal(at, number) if !sequences.is_empty() => {
                        let sequence = &sequences[at % sequences.len()];
                        blocks.seal(sequence[at % sequence.len()], name(number));
                    }
                    Deed::Forget(at) => blocks.forget(BlockId((at % total) as u32)),
                    Deed::Release(at) if !sequences.is_empty() => {
                        let gone = sequences.swap_remove(at % sequences.len());
                        blocks.release(gone.into_iter());
                    }
                    Deed::Find(number) => {
                        if let Some(id) = blocks.find(&name(number)) {
                            blocks.hold(id);
                            sequences.push(vec![id]);
                        }
                    }
                    _ => {}
                }
                let holders = sequences.iter().map(|sequence| &sequence[..]);
                prop_assert_eq!(blocks.check_integrity(holders), Ok(()));
            }
            sequences.into_iter().for_each(|sequence| blocks.release(sequence.into_iter()));
            prop_assert_eq!(blocks.available(), total);
        }
    }
}
