//! How does a tile of queries read the keys and values of one kv head?

use std::cell::Cell;
use std::marker::PhantomData;

use super::lanes::{LANES, Lanes, Operation, exp};
use super::product::{Bf16, Product};
use crate::attention::{BLOCK_TOKENS, head_halves};
use crate::memory::Shared;

/// What all tiles of one call have in common.
pub(crate) struct Reader<'a> {
    pub halves: *const u16,
    /// Where the layer's first block begins, in halves.
    pub layer_start: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub heads: usize,
    pub queries: &'a [f32],
    pub query_stride: usize,
    pub scale: f32,
    pub window: Option<usize>,
    pub out: Shared<f32>,
}

// SAFETY: `halves` is only read, and its cache is borrowed for as long as the call lasts.
unsafe impl Sync for Reader<'_> {}

/// Rows of one span and query heads of one kv head: each row times each head is a query.
pub(crate) struct Tile<'a> {
    pub blocks: &'a [u32],
    pub first_row: usize,
    pub first_position: usize,
    pub rows: usize,
    pub kv_head: usize,
    pub first_head: usize,
    pub heads: usize,
}

impl Tile<'_> {
    /// Keys and values are read once for so many queries; more would push each other out of the nearest caches.
    pub const QUERIES_MAX: usize = 32;
}

/// One tile, to be read.
pub(crate) struct Reading<'a> {
    reader: &'a Reader<'a>,
    tile: &'a Tile<'a>,
}

impl<'a> Reader<'a> {
    pub fn read(&'a self, tile: &'a Tile<'a>) -> Reading<'a> {
        Reading { reader: self, tile }
    }
}

impl Operation for Reading<'_> {
    /// # Safety
    /// The tile's blocks must exist, its queries be readable and its outputs be nobody else's.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        // Taken out and put back, not borrowed in a closure: a closure would be compiled without the path's instructions.
        let mut scratch = SCRATCH.take();
        let mut state = State::new(&mut scratch, self.tile.rows * self.tile.heads, self.reader.head_dim);
        // SAFETY: as the caller promises.
        unsafe {
            self.gather(&mut state);
            let positions = self.first_read()..self.tile.first_position + self.tile.rows;
            for block in positions.start / BLOCK_TOKENS..positions.end.div_ceil(BLOCK_TOKENS) {
                self.score::<V>(&mut state, block);
                self.weigh::<V>(&mut state, block);
                self.add_values::<V>(&mut state, block, positions.end);
            }
            self.finish::<V>(&state);
        }
        SCRATCH.set(scratch);
    }
}

thread_local! {
    /// At most a few hundred kilobytes: see `State::new`.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The softmax of each query so far: `sums` is Σ e^(score − largest) · value and `total` is Σ e^(score − largest).
struct State<'s> {
    width: usize,
    queries: &'s mut [f32],
    sums: &'s mut [f32],
    /// Scores of a block, then their weights.
    weights: &'s mut [f32],
    largest: &'s mut [f32],
    /// Sixteen parts for each query, added up in the end.
    total: &'s mut [f32],
    /// By how much the last block shrank what was there before.
    carry: &'s mut [f32],
    /// A copy of a last, partly written block of values.
    values: &'s mut [f32],
}

/// Where "largest so far" starts: finite, so that a block in which a row sees nothing changes nothing (e^0 = 1 times what was
/// there, plus weights of e^-∞ = 0).
const NOTHING_YET: f32 = f32::MIN;

impl<'s> State<'s> {
    fn new(scratch: &'s mut Vec<f32>, queries: usize, head_dim: usize) -> Self {
        let width = head_dim.next_multiple_of(LANES);
        let values = head_halves(head_dim) / 2 / 2;
        let size = queries * (2 * width + BLOCK_TOKENS + LANES + 2) + values;
        if scratch.len() < size {
            scratch.resize(size, 0.0);
        }
        let (in_queries, rest) = scratch.split_at_mut(queries * width);
        let (sums, rest) = rest.split_at_mut(queries * width);
        let (weights, rest) = rest.split_at_mut(queries * BLOCK_TOKENS);
        let (largest, rest) = rest.split_at_mut(queries);
        let (total, rest) = rest.split_at_mut(queries * LANES);
        let (carry, rest) = rest.split_at_mut(queries);
        let values = &mut rest[..values];
        in_queries.fill(0.0);
        sums.fill(0.0);
        largest.fill(NOTHING_YET);
        total.fill(0.0);
        Self { width, queries: in_queries, sums, weights, largest, total, carry, values }
    }
}

impl Reading<'_> {
    /// The first position that a query at `position` reads.
    #[inline(always)]
    fn first_read_by(&self, position: usize) -> usize {
        self.reader.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
    fn first_read(&self) -> usize {
        self.first_read_by(self.tile.first_position)
    }

    /// Where a block's keys of this head begin; the values follow.
    #[inline(always)]
    unsafe fn keys(&self, block: usize) -> *const u16 {
        let (reader, tile) = (self.reader, self.tile);
        let number = tile.blocks[block] as usize;
        let at =
            reader.layer_start + (number * reader.kv_heads + tile.kv_head) * head_halves(reader.head_dim);
        // SAFETY: the block exists in the cache, as the caller promises.
        unsafe { reader.halves.add(at) }
    }

    /// How many bytes behind this block the tile's next one lies (before it, if negative): while one block is used, the
    /// next one comes near. The last one stands for itself.
    #[inline(always)]
    unsafe fn ahead(&self, block: usize) -> isize {
        let last = (self.tile.first_position + self.tile.rows - 1) / BLOCK_TOKENS;
        // SAFETY: both blocks exist.
        let (here, next) = unsafe { (self.keys(block), self.keys(last.min(block + 1))) };
        next.addr().wrapping_sub(here.addr()) as isize
    }

    /// Copies the queries together, padded with zeros to whole lanes: row by row, head by head.
    fn gather(&self, state: &mut State<'_>) {
        let (reader, tile) = (self.reader, self.tile);
        for (i, query) in state.queries.chunks_exact_mut(state.width).enumerate() {
            let (row, head) = (tile.first_row + i / tile.heads, tile.first_head + i % tile.heads);
            let from = row * reader.query_stride + head * reader.head_dim;
            query[..reader.head_dim].copy_from_slice(&reader.queries[from..from + reader.head_dim]);
        }
    }

    /// `scores = queries · keysᵀ` for the 32 tokens of a block.
    #[inline(always)]
    unsafe fn score<V: Lanes>(&self, state: &mut State<'_>, block: usize) {
        // SAFETY: the keys of a block are two panels of `width` inputs; the state has 32 scores for each query.
        unsafe {
            let product = Product::<Bf16> {
                x: state.queries.as_ptr(),
                x_stride: state.width,
                rows: state.largest.len(),
                inputs: state.width,
                weights: self.keys(block).cast(),
                panel_bytes: state.width * LANES * size_of::<u16>(),
                panels: BLOCK_TOKENS / LANES,
                ahead: self.ahead(block),
                out: state.weights.as_mut_ptr(),
                out_stride: BLOCK_TOKENS,
                carry: std::ptr::null(),
                scales: std::ptr::null(),
                form: PhantomData,
            };
            product.run::<V>();
        }
    }

    /// Turns scores into weights: `e^(score · scale − largest)`, zero where the query must not look.
    #[inline(always)]
    unsafe fn weigh<V: Lanes>(&self, state: &mut State<'_>, block: usize) {
        let start = block * BLOCK_TOKENS;
        for i in 0..state.largest.len() {
            let position = self.tile.first_position + i / self.tile.heads;
            // Tokens `from..to` of this block are seen.
            let from = self.first_read_by(position).saturating_sub(start).min(BLOCK_TOKENS);
            let to = (position + 1).saturating_sub(start).min(BLOCK_TOKENS);
            // SAFETY: each query has 32 weights and 16 totals; the caller answers for the instructions.
            unsafe {
                let weights = state.weights.as_mut_ptr().add(i * BLOCK_TOKENS);
                let scale = V::splat(self.reader.scale);
                let mut low = V::load(weights).mul(scale);
                let mut high = V::load(weights.add(LANES)).mul(scale);
                if from > 0 || to < BLOCK_TOKENS {
                    low = seen(low, &TOKENS[0], from, to);
                    high = seen(high, &TOKENS[1], from, to);
                }
                let (carry, largest) = raise::<V>(&mut state.largest[i], low.max(high));
                state.carry[i] = carry;
                let (low, high) = (exp(low.sub(largest)), exp(high.sub(largest)));
                low.store(weights);
                high.store(weights.add(LANES));
                let total = state.total.as_mut_ptr().add(i * LANES);
                V::load(total).mul_add(V::splat(carry), low.add(high)).store(total);
            }
        }
    }

    /// `sums = carry · sums + weights · values`, reading only tokens that the tile's last row may see: what lies behind
    /// them was written by whoever had the block before, and zero times an infinity is not zero.
    #[inline(always)]
    unsafe fn add_values<V: Lanes>(&self, state: &mut State<'_>, block: usize, end: usize) {
        let tokens = (end - block * BLOCK_TOKENS).min(BLOCK_TOKENS);
        // SAFETY: the values follow the keys; they are `width / 16` panels of 32 inputs.
        unsafe {
            let mut values = self.keys(block).add(head_halves(self.reader.head_dim) / 2);
            if !tokens.is_multiple_of(4) {
                values = self.cleared(state, values, tokens);
            }
            let product = Product::<Bf16> {
                x: state.weights.as_ptr(),
                x_stride: BLOCK_TOKENS,
                rows: state.largest.len(),
                inputs: tokens,
                weights: values.cast(),
                panel_bytes: BLOCK_TOKENS * LANES * size_of::<u16>(),
                panels: state.width / LANES,
                ahead: self.ahead(block),
                out: state.sums.as_mut_ptr(),
                out_stride: state.width,
                carry: state.carry.as_ptr(),
                scales: std::ptr::null(),
                form: PhantomData,
            };
            product.run::<V>();
        }
    }

    /// Copies the values of a block's first `tokens` tokens, with zeros behind them: a product reads four at a time.
    unsafe fn cleared(&self, state: &mut State<'_>, values: *const u16, tokens: usize) -> *const u16 {
        const PANEL: usize = BLOCK_TOKENS * LANES;
        let copy: &mut [u16] = bytemuck::cast_slice_mut(state.values);
        // SAFETY: a head's values have as many halves as their copy.
        let values = unsafe { std::slice::from_raw_parts(values, copy.len()) };
        for (copy, panel) in copy.chunks_exact_mut(PANEL).zip(values.chunks_exact(PANEL)) {
            for (pair, (copy, line)) in
                copy.chunks_exact_mut(2 * LANES).zip(panel.chunks_exact(2 * LANES)).enumerate()
            {
                match tokens.saturating_sub(2 * pair) {
                    0 => copy.fill(0),
                    1 => copy
                        .iter_mut()
                        .zip(line)
                        .enumerate()
                        .for_each(|(i, (c, l))| *c = if i % 2 == 0 { *l } else { 0 }),
                    _ => copy.copy_from_slice(line),
                }
            }
        }
        copy.as_ptr()
    }

    /// Divides by the totals. Adding zero makes -0 into 0: whether a sum that vanished kept its sign depends on the tile.
    #[inline(always)]
    unsafe fn finish<V: Lanes>(&self, state: &State<'_>) {
        let (reader, tile) = (self.reader, self.tile);
        for (i, sums) in state.sums.chunks_exact(state.width).enumerate() {
            let (row, head) = (tile.first_row + i / tile.heads, tile.first_head + i % tile.heads);
            let at = (row * reader.heads + head) * reader.head_dim;
            // SAFETY: this row and head of `out` exist and are this tile's alone; each query has 16 totals.
            let (out, total) = unsafe {
                let out = std::slice::from_raw_parts_mut(reader.out.get().add(at), reader.head_dim);
                (out, V::load(state.total.as_ptr().add(i * LANES)).sum())
            };
            let share = 1.0 / total;
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * share + 0.0);
        }
    }
}

/// The tokens of a block, as numbers in lanes.
const TOKENS: [[f32; LANES]; 2] = [
    [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.],
    [16., 17., 18., 19., 20., 21., 22., 23., 24., 25., 26., 27., 28., 29., 30., 31.],
];

/// Scores of tokens in `from..to`; minus infinity for the others. Small whole numbers are exact as f32.
#[inline(always)]
unsafe fn seen<V: Lanes>(scores: V, tokens: &[f32; LANES], from: usize, to: usize) -> V {
    // SAFETY: an array of sixteen; the caller answers for the instructions.
    unsafe {
        let (tokens, hidden) = (V::load(tokens.as_ptr()), V::splat(f32::NEG_INFINITY));
        let late = V::select_less(tokens, V::splat(to as f32), scores, hidden);
        V::select_less(tokens, V::splat(from as f32), hidden, late)
    }
}

/// Raises the largest score so far to that of a block. Returns by how much earlier sums shrink, and the new largest in all
/// lanes. Most blocks raise nothing, and then there is nothing to compute.
#[inline(always)]
unsafe fn raise<V: Lanes>(largest: &mut f32, scores: V) -> (f32, V) {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let before = V::splat(*largest);
        if !V::any_less(before, scores) {
            return (1.0, before);
        }
        let highest = scores.largest();
        // A NaN among the scores stays out of here; its own weight will be NaN.
        let after = if highest > *largest { highest } else { *largest };
        let carry = exp(V::splat(*largest - after)).to_array()[0];
        *largest = after;
        (carry, V::splat(after))
    }
}
