//! How does a tile of queries read the keys and values of one kv head?
//!
//! The sums of a softmax go block by block through a chunk, chunk by chunk through a segment, and segments are merged in
//! order. Borders lie at fixed positions of the sequence, and what a row must not see adds an exact zero: so a row's result
//! does not depend on the tile it is computed in, nor on how many threads share its sequence.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lanes::{LANES, Lanes, Operation, exp2};
use crate::attention::{BLOCK_TOKENS, HeadLayout};
use crate::memory::Shared;

pub(crate) mod form;
mod panels;

use form::Scores;
pub(crate) use form::{Exact, Form, Pairs, Shorts};
use panels::{BLOCKS, Panels};

/// Tokens whose weights are computed at once: enough that a row's sums are seldom loaded and stored, and few enough that
/// their keys and values (32 KiB of 64 dimensions) stay in the nearest cache from one group of queries to the next.
const CHUNK_TOKENS: usize = BLOCKS * BLOCK_TOKENS;

/// Tokens whose sums start from nothing: the least that two threads share out. Their keys and values (128 KiB of 64
/// dimensions) take a core some microseconds; what is written to be merged is a hundredth of them.
pub(crate) const SEGMENT_TOKENS: usize = 4 * CHUNK_TOKENS;

/// Queries that pass through the registers together.
const GROUP: usize = 8;

/// What all tiles of one call have in common.
pub(crate) struct Reader<'a> {
    /// Where the layer's first block begins.
    pub layer: *const u8,
    pub layout: HeadLayout,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub heads: usize,
    pub queries: &'a [f32],
    pub query_stride: usize,
    pub scale: f32,
    pub window: Option<usize>,
    pub out: Shared<f32>,
    /// Where tiles of several parts leave their segments, and how many parts each is still waiting for.
    pub partial: Shared<f32>,
    pub waiting: &'a [AtomicUsize],
}

// SAFETY: `layer` is only read, and its cache is borrowed for as long as the call lasts.
unsafe impl Sync for Reader<'_> {}

/// Rows of one span and query heads of one kv head: each row times each head is a query.
#[derive(Clone)]
pub(crate) struct Tile<'a> {
    pub blocks: &'a [u32],
    pub first_row: usize,
    pub first_position: usize,
    pub rows: usize,
    pub kv_head: usize,
    pub first_head: usize,
    pub heads: usize,
    /// Segments that are read here.
    pub segments: Range<usize>,
    /// For one of several parts.
    pub part: Option<Part>,
}

/// Which of `Reader::waiting` counts a tile's parts, where its first segment lies in `Reader::partial`, and all its segments.
#[derive(Clone)]
pub(crate) struct Part {
    pub tile: usize,
    pub first: usize,
    pub segments: Range<usize>,
}

impl Tile<'_> {
    /// Keys and values are read once for so many queries; more would push each other out of the nearest caches.
    pub const QUERIES_MAX: usize = 64;

    pub fn queries(&self) -> usize {
        self.rows * self.heads
    }
    pub fn end_position(&self) -> usize {
        self.first_position + self.rows
    }
    /// Positions that any row reads.
    pub fn positions(&self, window: Option<usize>) -> Range<usize> {
        first_read(window, self.first_position)..self.end_position()
    }
    /// Values that one segment of a part leaves.
    pub fn partial_values(&self, width: usize) -> usize {
        self.queries() * (width + LANES + 1)
    }
}

/// The first position that a query at `position` reads.
#[inline(always)]
fn first_read(window: Option<usize>, position: usize) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// Some tiles, to be read one after another.
pub(crate) struct Reading<'a, F> {
    pub reader: &'a Reader<'a>,
    pub tiles: &'a [Tile<'a>],
    pub form: PhantomData<F>,
}

impl<F: Form> Operation for Reading<'_, F> {
    /// # Safety
    /// The tiles' blocks must exist, their queries be readable and their outputs be nobody else's.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        // Taken out and put back, not borrowed in a closure: a closure would be compiled without the path's instructions.
        let mut scratch = SCRATCH.take();
        for (i, tile) in self.tiles.iter().enumerate() {
            let next = self.tiles.get(i + 1);
            let one = One::<F> { reader: self.reader, tile, next, form: PhantomData };
            // SAFETY: as the caller promises, for the path that is already running.
            unsafe { V::enter(ReadOne(one, &mut scratch)) };
        }
        SCRATCH.set(scratch);
    }
}

thread_local! {
    /// At most a few hundred kilobytes: see `State::new`.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

struct ReadOne<'a, F>(One<'a, F>, &'a mut Vec<f32>);

impl<F: Form> Operation for ReadOne<'_, F> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self(one, scratch) = self;
        let mut state = State::new::<F>(scratch, one.tile.queries(), one.reader.layout.width);
        // SAFETY: as `Reading` promises.
        unsafe { one.read::<V>(&mut state) };
    }
}

/// The softmax of each query over some tokens: `sums` is Σ 2^(t − largest) · value and `total` is Σ 2^(t − largest), where `t` is
/// a score in units of ln 2.
#[derive(Clone, Copy)]
struct Softmax {
    sums: *mut f32,
    /// Sixteen parts for each query, added up in the end.
    total: *mut f32,
    largest: *mut f32,
}

impl Softmax {
    fn values(queries: usize, width: usize) -> usize {
        queries * (width + LANES + 1)
    }

    /// # Safety
    /// There must be room for `values`.
    #[inline(always)]
    unsafe fn at(start: *mut f32, queries: usize, width: usize) -> Self {
        // SAFETY: as the caller promises.
        unsafe {
            let total = start.add(queries * width);
            Self { sums: start, total, largest: total.add(queries * LANES) }
        }
    }

    /// # Safety
    /// As for `at`.
    #[inline(always)]
    unsafe fn clear(&self, queries: usize, width: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            self.sums.write_bytes(0, queries * width);
            self.total.write_bytes(0, queries * LANES);
            for i in 0..queries {
                self.largest.add(i).write(NOTHING_YET);
            }
        }
    }

    /// Adds what another one has seen.
    ///
    /// # Safety
    /// As for `at`, for both.
    #[inline(always)]
    unsafe fn merge<V: Lanes, F: Form>(&self, other: &Softmax, queries: usize, width: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            for i in 0..queries {
                let (mine, theirs) = (*self.largest.add(i), *other.largest.add(i));
                let largest = if mine < theirs { theirs } else { mine };
                let carry = exp2(V::splat(mine - largest), F::TERMS);
                let share = exp2(V::splat(theirs - largest), F::TERMS);
                let add = |mine: *mut f32, theirs: *const f32| {
                    V::load(theirs).mul_add(share, V::load(mine).mul(carry)).store(mine);
                };
                add(self.total.add(i * LANES), other.total.add(i * LANES));
                for j in 0..width / LANES {
                    add(self.sums.add(i * width + j * LANES), other.sums.add(i * width + j * LANES));
                }
                *self.largest.add(i) = largest;
            }
        }
    }
}

/// Where "largest so far" starts, and the score of what must not be seen: finite, so that a query that sees nothing changes
/// nothing (2^0 = 1 times what was there, plus weights of 2^-9e29 = 0). Scores this low would be noise in any case.
const NOTHING_YET: f32 = -1e29;
const HIDDEN: f32 = -1e30;

/// What a tile works on, in one thread's scratch.
struct State {
    width: usize,
    queries: usize,
    /// Operands of the queries, so many words each, and what a score is to be multiplied by.
    operands: *mut u32,
    operand_words: usize,
    factors: *mut f32,
    segment: Softmax,
    whole: Softmax,
    /// Of a group of queries: scores of a chunk, then their weights; the weights as operands; by how much the chunk shrinks what
    /// was there; what its sums are to be multiplied by.
    scores: *mut f32,
    weights: *mut u32,
    carry: *mut f32,
    weight_factors: *mut f32,
    /// The last, partly written line of each panel of values, or a padded query.
    spare: *mut f32,
}

impl State {
    fn new<F: Form>(scratch: &mut Vec<f32>, queries: usize, width: usize) -> Self {
        let operand_words = width / F::INPUTS * F::WORDS;
        let weight_words = CHUNK_TOKENS / F::INPUTS * F::WORDS;
        let softmax = Softmax::values(queries, width);
        let sizes = [
            queries * operand_words,
            queries,
            softmax,
            softmax,
            GROUP * CHUNK_TOKENS,
            GROUP * weight_words,
            GROUP,
            GROUP,
            width.max(LANES),
        ]
        .map(|size| size.next_multiple_of(LANES));
        let size: usize = sizes.iter().sum();
        if scratch.len() < size {
            scratch.resize(size, 0.0);
        }
        let mut next = scratch.as_mut_ptr();
        let mut take = sizes.iter().map(|size| {
            let taken = next;
            // SAFETY: the scratch holds the sum of all sizes.
            next = unsafe { next.add(*size) };
            taken
        });
        let mut take = || take.next().expect("a size for each part");
        let (operands, factors, segment, whole) = (take(), take(), take(), take());
        // SAFETY: each has room for the values of a softmax.
        let (segment, whole) =
            unsafe { (Softmax::at(segment, queries, width), Softmax::at(whole, queries, width)) };
        Self {
            width,
            queries,
            operands: operands.cast(),
            operand_words,
            factors,
            segment,
            whole,
            scores: take(),
            weights: take().cast(),
            carry: take(),
            weight_factors: take(),
            spare: take(),
        }
    }
}

/// One tile, to be read.
struct One<'a, F> {
    reader: &'a Reader<'a>,
    tile: &'a Tile<'a>,
    next: Option<&'a Tile<'a>>,
    form: PhantomData<F>,
}

/// A group of queries in a chunk.
struct Group {
    first: usize,
    queries: usize,
    /// Blocks that any of them sees, and the first token behind those.
    blocks: Range<usize>,
    end: usize,
}

impl<F: Form> One<'_, F> {
    #[inline(always)]
    unsafe fn read<V: Lanes>(&self, state: &mut State) {
        let (tile, width) = (self.tile, state.width);
        // SAFETY: as the caller of `Reading` promises; the scratch is this thread's.
        unsafe {
            self.gather::<V>(state);
            let several = tile.segments.len() > 1 && tile.part.is_none();
            if several {
                state.whole.clear(state.queries, width);
            }
            for segment in tile.segments.clone() {
                self.read_segment::<V>(state, segment);
                if let Some(part) = &tile.part {
                    self.leave(state, part, segment);
                } else if several {
                    state.whole.merge::<V, F>(&state.segment, state.queries, width);
                }
            }
            match &tile.part {
                None => self.finish::<V>(if several { state.whole } else { state.segment }, width),
                // The last part to be ready sees what the others left.
                Some(part) if self.reader.waiting[part.tile].fetch_sub(1, Ordering::AcqRel) == 1 => {
                    state.whole.clear(state.queries, width);
                    for segment in part.segments.clone() {
                        let left = self.left(part, segment, width);
                        state.whole.merge::<V, F>(&left, state.queries, width);
                    }
                    self.finish::<V>(state.whole, width);
                }
                Some(_) => {}
            }
        }
    }

    /// Where a segment of a part is left.
    #[inline(always)]
    unsafe fn left(&self, part: &Part, segment: usize, width: usize) -> Softmax {
        let at = part.first + (segment - part.segments.start) * self.tile.partial_values(width);
        // SAFETY: the caller of `Reading` made room for each segment of each tile in parts.
        unsafe { Softmax::at(self.reader.partial.get().add(at), self.tile.queries(), width) }
    }

    #[inline(always)]
    unsafe fn leave(&self, state: &State, part: &Part, segment: usize) {
        // SAFETY: both have this many values, and nobody else writes this segment.
        unsafe {
            let values = Softmax::values(state.queries, state.width);
            let to = self.left(part, segment, state.width).sums;
            std::ptr::copy_nonoverlapping(state.segment.sums, to, values);
        }
    }

    /// Where a block's keys of this head begin; the values follow.
    #[inline(always)]
    unsafe fn keys(&self, tile: &Tile<'_>, block: usize) -> *const u8 {
        let number = tile.blocks[block] as usize;
        let at = (number * self.reader.kv_heads + tile.kv_head) * self.reader.layout.bytes;
        // SAFETY: the block exists in the cache, as the caller promises.
        unsafe { self.reader.layer.add(at) }
    }

    /// Turns the queries into operands: row by row, head by head.
    #[inline(always)]
    unsafe fn gather<V: Lanes>(&self, state: &State) {
        let (reader, tile) = (self.reader, self.tile);
        for i in 0..state.queries {
            let (row, head) = (tile.first_row + i / tile.heads, tile.first_head + i % tile.heads);
            let from = row * reader.query_stride + head * reader.head_dim;
            let mut query = &reader.queries[from..from + reader.head_dim];
            // SAFETY: each query has its operands and its factor, and `spare` holds a query.
            unsafe {
                if reader.head_dim < state.width {
                    let padded = std::slice::from_raw_parts_mut(state.spare, state.width);
                    padded[..query.len()].copy_from_slice(query);
                    padded[query.len()..].fill(0.0);
                    query = padded;
                }
                let factor = F::query::<V>(query, state.operands.add(i * state.operand_words));
                *state.factors.add(i) = factor * reader.scale * std::f32::consts::LOG2_E;
            }
        }
    }

    #[inline(always)]
    unsafe fn read_segment<V: Lanes>(&self, state: &State, segment: usize) {
        let positions = self.tile.positions(self.reader.window);
        let start = positions.start.max(segment * SEGMENT_TOKENS);
        let end = positions.end.min((segment + 1) * SEGMENT_TOKENS);
        // SAFETY: as the caller promises.
        unsafe {
            state.segment.clear(state.queries, state.width);
            for chunk in start / CHUNK_TOKENS..end.div_ceil(CHUNK_TOKENS) {
                for first in (0..state.queries).step_by(GROUP) {
                    let queries = GROUP.min(state.queries - first);
                    if let Some(group) = self.group(first, queries, chunk) {
                        self.score::<V>(state, &group);
                        self.weigh::<V>(state, &group);
                        self.add_values::<V>(state, &group);
                    }
                }
            }
        }
    }

    /// What some queries see of a chunk, if anything.
    #[inline(always)]
    fn group(&self, first: usize, queries: usize, chunk: usize) -> Option<Group> {
        let position = |query: usize| self.tile.first_position + query / self.tile.heads;
        let start = first_read(self.reader.window, position(first)).max(chunk * CHUNK_TOKENS);
        let end = (position(first + queries - 1) + 1).min((chunk + 1) * CHUNK_TOKENS);
        let blocks = start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS);
        (start < end).then_some(Group { first, queries, blocks, end })
    }

    /// `scores = queries · keysᵀ` for the tokens of a group's blocks. The values come near meanwhile.
    #[inline(always)]
    unsafe fn score<V: Lanes>(&self, state: &State, group: &Group) {
        let layout = &self.reader.layout;
        let lines = state.width / F::INPUTS;
        for (i, block) in group.blocks.clone().enumerate() {
            // SAFETY: the keys of a block are two panels of `width` inputs; a group has scores for a chunk.
            unsafe {
                let keys = self.keys(self.tile, block);
                let scales = if F::SCALED { keys.add(layout.key_scales).cast() } else { std::ptr::null() };
                let panels = Panels::<F> {
                    operands: state.operands.add(group.first * state.operand_words),
                    operand_stride: state.operand_words,
                    rows: group.queries,
                    blocks: [keys; BLOCKS],
                    ahead: [keys.add(layout.values); BLOCKS],
                    panel_bytes: lines * 64,
                    panels: BLOCK_TOKENS / LANES,
                    block_lines: lines,
                    lines,
                    tail: std::ptr::null(),
                    out: state.scores.add(i * BLOCK_TOKENS),
                    out_stride: CHUNK_TOKENS,
                    carry: std::ptr::null(),
                    factors: std::ptr::null(),
                    scales,
                    form: PhantomData,
                };
                panels.run::<V>();
            }
        }
    }

    /// Turns scores into weights: `2^(t − largest)`, zero where the query must not look.
    #[inline(always)]
    unsafe fn weigh<V: Lanes>(&self, state: &State, group: &Group) {
        // `group` sees some block, and no more than a chunk's: said for whoever unrolls what follows.
        let blocks = group.blocks.len().clamp(1, BLOCKS);
        let tokens = blocks * BLOCK_TOKENS;
        let start = group.blocks.start * BLOCK_TOKENS;
        // SAFETY: each query of the group has scores of a chunk and its words of weights; each has sixteen totals.
        unsafe {
            let mut scales = [std::ptr::null(); BLOCKS];
            if F::SCALED {
                for (scales, block) in scales.iter_mut().zip(group.blocks.clone()) {
                    *scales = self.keys(self.tile, block).add(self.reader.layout.value_scales).cast();
                }
            }
            for i in 0..group.queries {
                let query = group.first + i;
                let position = self.tile.first_position + query / self.tile.heads;
                // Tokens `from..to` behind `start` are seen.
                let from = first_read(self.reader.window, position).saturating_sub(start).min(tokens);
                let to = (position + 1).saturating_sub(start).min(tokens);
                let scores = state.scores.add(i * CHUNK_TOKENS);
                let mut factor = V::splat(*state.factors.add(query));
                if from > 0 || to < tokens {
                    for j in 0..2 * blocks {
                        let at = scores.add(j * LANES);
                        seen(V::load(at).mul(factor), j * LANES, from, to).store(at);
                    }
                    factor = V::splat(1.0);
                }
                let mut highest = V::load(scores);
                for j in 1..2 * blocks {
                    highest = highest.max(V::load(scores.add(j * LANES)));
                }
                let (carry, largest) = raise::<V, F>(state.segment.largest.add(query), highest.mul(factor));
                *state.carry.add(i) = carry;
                let total = state.segment.total.add(query * LANES);
                let words = state.weights.add(i * (CHUNK_TOKENS / F::INPUTS * F::WORDS));
                let before = V::load(total).mul(V::splat(carry));
                let scores = Scores { scores, blocks, factor, largest, scales: &scales };
                let (after, factor) = F::weights::<V>(scores, words, before);
                after.store(total);
                *state.weight_factors.add(i) = factor;
            }
        }
    }

    /// `sums = carry · sums + weights · values`, reading only tokens that the group's last row may see: what lies behind
    /// them was written by whoever had the block before, and zero times an infinity is not zero.
    #[inline(always)]
    unsafe fn add_values<V: Lanes>(&self, state: &State, group: &Group) {
        let layout = &self.reader.layout;
        let tokens = group.end - group.blocks.start * BLOCK_TOKENS;
        // SAFETY: the values follow the keys; they are `width / 16` panels of 32 inputs.
        unsafe {
            let mut blocks = [std::ptr::null(); BLOCKS];
            let mut ahead = blocks;
            for (i, block) in group.blocks.clone().enumerate() {
                blocks[i] = self.keys(self.tile, block).add(layout.values);
                ahead[i] = self.read_later(block).unwrap_or(blocks[i]);
            }
            let (mut lines, mut tail) = (tokens.div_ceil(F::INPUTS), std::ptr::null());
            if F::CLEARS && !tokens.is_multiple_of(F::INPUTS) {
                lines -= 1;
                let last = blocks[group.blocks.len() - 1];
                tail = self.cleared(state, last, tokens % BLOCK_TOKENS / F::INPUTS);
            }
            let panels = Panels::<F> {
                operands: state.weights,
                operand_stride: CHUNK_TOKENS / F::INPUTS * F::WORDS,
                rows: group.queries,
                blocks,
                ahead,
                panel_bytes: BLOCK_TOKENS / F::INPUTS * 64,
                panels: state.width / LANES,
                block_lines: BLOCK_TOKENS / F::INPUTS,
                lines,
                tail,
                out: state.segment.sums.add(group.first * state.width),
                out_stride: state.width,
                carry: state.carry,
                factors: if F::SCALED { state.weight_factors } else { std::ptr::null() },
                scales: std::ptr::null(),
                form: PhantomData,
            };
            panels.run::<V>();
        }
    }

    /// Keys that are read when these values are done with: a chunk later, or by the next tile.
    #[inline(always)]
    unsafe fn read_later(&self, block: usize) -> Option<*const u8> {
        let last = (self.tile.end_position() - 1) / BLOCK_TOKENS;
        // SAFETY: the blocks exist, as the caller promises.
        unsafe {
            if block + BLOCKS <= last {
                return Some(self.keys(self.tile, block + BLOCKS));
            }
            let next = self.next?;
            let first = next.positions(self.reader.window).start.max(next.segments.start * SEGMENT_TOKENS);
            let block = first / CHUNK_TOKENS * BLOCKS + block % BLOCKS;
            let end = (next.end_position() - 1) / BLOCK_TOKENS;
            (block <= end).then(|| self.keys(next, block))
        }
    }

    /// Copies one line of each panel of values, with zeros in place of the second token of each pair.
    #[inline(always)]
    unsafe fn cleared(&self, state: &State, values: *const u8, line: usize) -> *const u8 {
        // SAFETY: `spare` holds sixteen words for each panel, and each panel has this line.
        unsafe {
            for panel in 0..state.width / LANES {
                let from = values.add(panel * (BLOCK_TOKENS * LANES * 2) + line * 64).cast::<u32>();
                let to = state.spare.add(panel * LANES).cast::<u32>();
                for i in 0..LANES {
                    to.add(i).write(from.add(i).read() & 0xffff);
                }
            }
        }
        state.spare.cast()
    }

    /// Divides by the totals. Adding zero makes -0 into 0: whether a sum that vanished kept its sign depends on the tile.
    #[inline(always)]
    unsafe fn finish<V: Lanes>(&self, softmax: Softmax, width: usize) {
        let (reader, tile) = (self.reader, self.tile);
        for i in 0..tile.queries() {
            let (row, head) = (tile.first_row + i / tile.heads, tile.first_head + i % tile.heads);
            let at = (row * reader.heads + head) * reader.head_dim;
            // SAFETY: this row and head of `out` exist and are this tile's alone; each query has 16 totals.
            unsafe {
                let out = std::slice::from_raw_parts_mut(reader.out.get().add(at), reader.head_dim);
                let sums = std::slice::from_raw_parts(softmax.sums.add(i * width), reader.head_dim);
                let share = 1.0 / V::load(softmax.total.add(i * LANES)).sum();
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * share + 0.0);
            }
        }
    }
}

/// Sixteen numbers in lanes.
const NUMBERS: [f32; LANES] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// Scores of tokens in `from..to`, the first lane being token `first`; `HIDDEN` for the others. Small whole numbers are exact
/// as f32.
#[inline(always)]
unsafe fn seen<V: Lanes>(scores: V, first: usize, from: usize, to: usize) -> V {
    // SAFETY: an array of sixteen; the caller answers for the instructions.
    unsafe {
        let tokens = V::load(NUMBERS.as_ptr()).add(V::splat(first as f32));
        let hidden = V::splat(HIDDEN);
        let late = V::select_less(tokens, V::splat(to as f32), scores, hidden);
        V::select_less(tokens, V::splat(from as f32), hidden, late)
    }
}

/// Raises the largest score so far to that of a chunk. Returns by how much earlier sums shrink, and the new largest in all
/// lanes. Most chunks raise nothing, and then there is nothing to compute.
#[inline(always)]
unsafe fn raise<V: Lanes, F: Form>(largest: *mut f32, scores: V) -> (f32, V) {
    // SAFETY: the caller answers for the pointer and the instructions.
    unsafe {
        let before = V::splat(*largest);
        if !V::any_less(before, scores) {
            return (1.0, before);
        }
        let highest = scores.largest();
        // A NaN among the scores stays out of here; its own weight will be NaN.
        let after = if highest > *largest { highest } else { *largest };
        let carry = exp2(V::splat(*largest - after), F::TERMS).to_array()[0];
        *largest = after;
        (carry, V::splat(after))
    }
}
