//! How do many queries of a prompt read the keys and values of one kv head, on tiles?
//!
//! Keys and values already lie as tiles of bf16. Up to 32 queries, as two tiles of rows, meet 128 tokens at a time: scores go
//! from tiles to memory, become weights in vector registers, go back as tiles of bf16, and meet the values. Queries and weights
//! are rounded to bf16, so a row's bits differ from those that registers give it.

// Loops over lanes count: an iterator between them and their index has kept compilers from vectorising.
#![allow(clippy::needless_range_loop)]

use std::arch::asm;
use std::cell::Cell;
use std::ops::Range;

use super::square::{Bf16, Dot, Job};
use super::{LINE_BYTES, Line, TILE, TILE_BYTES, Tiles};
use crate::attention::BLOCK_TOKENS;
use crate::cpu::attention::Reader;
use crate::cpu::lanes::{LANES, Lanes, Operation, dispatch, exp};
use crate::packing::bf16_bits;
use crate::{AttentionSpan, Isa, KvPrecision, Numerics, Pool};

/// Rows of a span from which tiles take it: a chunk of a prompt. Shorter spans are sequences that grow, whose rows should not
/// depend on how many of them are tried at once; and they wait for memory rather than for arithmetic.
const ROWS_LEAST: usize = TILE;

/// Queries that share one reading of keys and values: the rows of two tiles.
const QUERIES: usize = 2 * TILE;

/// Blocks of tokens between two visits to the sums: enough that these are seldom loaded and stored, and few enough that all
/// (128 KiB of keys and values for 128 dimensions, 16 KiB of sums) stay in a second-level cache.
const BLOCKS: usize = 4;
const CHUNK_TOKENS: usize = BLOCKS * BLOCK_TOKENS;

/// Dimensions or tokens of one tile.
const TILE_INPUTS: usize = LINE_BYTES / 2;
const _: () = assert!(BLOCK_TOKENS == TILE_INPUTS && BLOCK_TOKENS == 2 * TILE);

/// Whether tiles take a span.
pub(crate) fn suits(pool: &Pool, precision: KvPrecision, span: &AttentionSpan<'_>) -> bool {
    precision == KvPrecision::Bf16
        && pool.isa() == Isa::Amx
        && pool.numerics() == Numerics::Fast
        && span.rows >= ROWS_LEAST
}

/// Rows of one span and query heads of one kv head: each row times each head is a query.
struct Block<'a> {
    blocks: &'a [u32],
    first_row: usize,
    first_position: usize,
    rows: usize,
    kv_head: usize,
    first_head: usize,
    heads: usize,
}

impl Reader<'_> {
    /// Attention of the rows of these spans.
    ///
    /// # Safety
    /// The pool's path must be AMX; blocks, queries and outputs of all spans must exist, and spans share no rows.
    pub(crate) unsafe fn attend_on_tiles(&self, pool: &Pool, spans: &[AttentionSpan<'_>]) {
        let blocks = blocks(self.heads / self.kv_heads, self.kv_heads, spans);
        pool.run(blocks.len(), &|i| {
            // SAFETY: as the caller promises: a path of AMX has AVX-512 and tiles; no two blocks share rows and heads.
            unsafe { dispatch(Isa::Avx512, Reading { reader: self, block: &blocks[i] }) };
        });
    }
}

/// Cuts the spans into blocks. Those that read the same follow each other, so that they find it in a cache; later rows read
/// more, so they come first, and no thread is left with a long block at the end.
fn blocks<'a>(group: usize, kv_heads: usize, spans: &[AttentionSpan<'a>]) -> Vec<Block<'a>> {
    let heads_at_once = group.min(QUERIES);
    let rows_at_once = QUERIES / heads_at_once;
    let mut blocks = Vec::new();
    for span in spans {
        for kv_head in 0..kv_heads {
            for head in (0..group).step_by(heads_at_once) {
                for start in (0..span.rows).step_by(rows_at_once).rev() {
                    blocks.push(Block {
                        blocks: span.blocks,
                        first_row: span.first_row + start,
                        first_position: span.first_position + start,
                        rows: rows_at_once.min(span.rows - start),
                        kv_head,
                        first_head: kv_head * group + head,
                        heads: heads_at_once.min(group - head),
                    });
                }
            }
        }
    }
    blocks
}

/// One block, to be read.
struct Reading<'a> {
    reader: &'a Reader<'a>,
    block: &'a Block<'a>,
}

impl Operation for Reading<'_> {
    /// # Safety
    /// As for `Reader::attend_on_tiles`; nobody else may touch the outputs of this block.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        // Taken out and put back, not borrowed in a closure: a closure would be compiled without the path's instructions.
        let mut scratch = SCRATCH.take();
        let mut state = State::new(&mut scratch, self.reader.head_dim);
        // SAFETY: as the caller promises; the configuration is released before this thread does anything else.
        unsafe {
            let _tiles = Tiles::configure();
            self.lay_out_queries(&mut state);
            let end = self.block.first_position + self.block.rows;
            let all =
                self.first_read_by(self.block.first_position) / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS);
            for first in all.clone().step_by(BLOCKS) {
                let blocks = first..all.end.min(first + BLOCKS);
                self.score(&mut state, blocks.clone());
                self.weigh::<V>(&mut state, blocks.clone());
                self.add_values(&mut state, blocks, end);
            }
            self.finish::<V>(&state);
        }
        SCRATCH.set(scratch);
    }
}

thread_local! {
    /// A few hundred kilobytes for heads of a few hundred dimensions: see `State::new`.
    static SCRATCH: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Where "largest so far" starts: finite, so that a chunk in which a row sees nothing changes nothing (e^0 = 1 times what was
/// there, plus weights of e^-∞ = 0).
const NOTHING_YET: f32 = f32::MIN;

/// What a block works on. The softmax of each query so far: `sums` is Σ e^(score − largest) · value and `total` is
/// Σ e^(score − largest).
struct State<'s> {
    /// Tiles across the dimensions of queries and keys, which are padded with zeros.
    steps: usize,
    /// `[2][steps][16][32]` bf16.
    queries: &'s mut [u16],
    /// `[32][128]`.
    scores: &'s mut [f32],
    /// `[2][4][16][32]` bf16.
    weights: &'s mut [u16],
    /// `[32][32 · steps]`.
    sums: &'s mut [f32],
    /// A block's keys or values, where they cannot be read as they lie.
    copies: &'s mut [u16],
    largest: [f32; QUERIES],
    total: [f32; QUERIES],
}

impl<'s> State<'s> {
    fn new(scratch: &'s mut Vec<Line>, head_dim: usize) -> Self {
        let steps = head_dim.div_ceil(TILE_INPUTS);
        let query_halves = QUERIES * steps * TILE_INPUTS;
        // Of each part in lines of 64 bytes.
        let query_lines = query_halves * 2 / LINE_BYTES;
        let score_lines = QUERIES * CHUNK_TOKENS * 4 / LINE_BYTES;
        let weight_lines = QUERIES * CHUNK_TOKENS * 2 / LINE_BYTES;
        let sum_lines = QUERIES * steps * TILE_INPUTS * 4 / LINE_BYTES;
        // The keys of a block are as many as the queries; so are its values.
        let copy_lines = query_lines;
        let lines = query_lines + score_lines + weight_lines + sum_lines + copy_lines;
        if scratch.len() < lines {
            scratch.resize(lines, Line([0; LANES]));
        }
        let (queries, rest) = scratch.split_at_mut(query_lines);
        let (scores, rest) = rest.split_at_mut(score_lines);
        let (weights, rest) = rest.split_at_mut(weight_lines);
        let (sums, rest) = rest.split_at_mut(sum_lines);
        let copies = &mut rest[..copy_lines];
        let (queries, weights, copies) = (words(queries), words(weights), words(copies));
        let (scores, sums) = (words(scores), words(sums));
        queries.fill(0);
        sums.fill(0);
        Self {
            steps,
            queries: bytemuck::cast_slice_mut(queries),
            scores: bytemuck::cast_slice_mut(scores),
            weights: bytemuck::cast_slice_mut(weights),
            sums: bytemuck::cast_slice_mut(sums),
            copies: bytemuck::cast_slice_mut(copies),
            largest: [NOTHING_YET; QUERIES],
            total: [0.0; QUERIES],
        }
    }
}

fn words(lines: &mut [Line]) -> &mut [u32] {
    // SAFETY: a line is sixteen words, without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LANES) }
}

impl Reading<'_> {
    /// The first position that a query at `position` reads.
    #[inline(always)]
    fn first_read_by(&self, position: usize) -> usize {
        self.reader.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    fn queries(&self) -> usize {
        self.block.rows * self.block.heads
    }
    /// The row and the head of a query.
    fn row_and_head(&self, query: usize) -> (usize, usize) {
        let block = self.block;
        (block.first_row + query / block.heads, block.first_head + query % block.heads)
    }

    /// Where a block's keys of this head begin.
    #[inline(always)]
    unsafe fn keys(&self, block: usize) -> *const u8 {
        let head = self.block.blocks[block] as usize * self.reader.kv_heads + self.block.kv_head;
        // SAFETY: the block exists in the cache, as the caller promises.
        unsafe { self.reader.layer.add(head * self.reader.layout.bytes) }
    }
    /// Bytes of a head's keys, and of its values, in one block: dimensions are padded to 16 there.
    fn half_bytes(&self) -> usize {
        BLOCK_TOKENS * self.reader.head_dim.next_multiple_of(LANES) * 2
    }

    /// Rounds the queries to bf16, as tiles, with zeros for dimensions and queries that do not exist.
    #[inline(always)]
    fn lay_out_queries(&self, state: &mut State<'_>) {
        let reader = self.reader;
        for query in 0..self.queries() {
            let (row, head) = self.row_and_head(query);
            let from = row * reader.query_stride + head * reader.head_dim;
            let values = &reader.queries[from..from + reader.head_dim];
            for (step, values) in values.chunks(TILE_INPUTS).enumerate() {
                let line = (query / TILE * state.steps + step) * TILE + query % TILE;
                let line = &mut state.queries[line * TILE_INPUTS..][..TILE_INPUTS];
                for (half, value) in line.iter_mut().zip(values) {
                    *half = bf16_bits(*value);
                }
            }
        }
    }

    /// `scores = queries · keysᵀ` for the tokens of some blocks. Tokens that nobody has written yet have scores too, without
    /// meaning; `weigh` does not look at them.
    #[inline(always)]
    unsafe fn score(&self, state: &mut State<'_>, blocks: Range<usize>) {
        let last = blocks.end - 1;
        for (i, block) in blocks.enumerate() {
            // SAFETY: the keys of a block are two panels of `steps` tiles, here or in their copy; scores have room for
            // 32 rows of 32 tokens in each block, of which the lower 16 are left alone where there are no such queries.
            unsafe {
                let keys = self.keys(block);
                let panels = if self.half_bytes() == state.steps * 2 * TILE_BYTES {
                    [keys, keys.add(state.steps * TILE_BYTES)]
                } else {
                    self.padded_keys(state, keys)
                };
                let upper = state.queries.as_ptr().cast::<u8>();
                let job = Job {
                    upper,
                    lower: (self.queries() > TILE).then(|| upper.add(state.steps * TILE_BYTES)),
                    panels,
                    steps: state.steps,
                    ahead: self.keys(last.min(block + 1)),
                };
                Bf16::multiply(job, state.scores.as_mut_ptr().add(i * BLOCK_TOKENS), CHUNK_TOKENS);
            }
        }
    }

    /// Copies keys whose dimensions end in the middle of a tile: what follows them is no zero, and may be no number.
    unsafe fn padded_keys(&self, state: &mut State<'_>, keys: *const u8) -> [*const u8; 2] {
        let (from_bytes, to_bytes) = (self.half_bytes() / 2, state.steps * TILE_BYTES);
        state.copies[..to_bytes].fill(0);
        let to = state.copies.as_mut_ptr().cast::<u8>();
        // SAFETY: two panels of keys, each no longer than its copy.
        unsafe {
            std::ptr::copy_nonoverlapping(keys, to, from_bytes);
            std::ptr::copy_nonoverlapping(keys.add(from_bytes), to.add(to_bytes), from_bytes);
            [to, to.add(to_bytes)]
        }
    }

    /// Turns scores into weights: `e^(score · scale − largest)`, zero where the query must not look; and shrinks earlier sums.
    #[inline(always)]
    unsafe fn weigh<V: Lanes>(&self, state: &mut State<'_>, blocks: Range<usize>) {
        let start = blocks.start * BLOCK_TOKENS;
        let tokens = blocks.len() * BLOCK_TOKENS;
        for query in 0..self.queries() {
            let position = self.block.first_position + query / self.block.heads;
            // Tokens `from..to` of this chunk are seen.
            let from = self.first_read_by(position).saturating_sub(start).min(tokens);
            let to = (position + 1).saturating_sub(start).min(tokens);
            let scores = state.scores[query * CHUNK_TOKENS..][..CHUNK_TOKENS].as_mut_ptr();
            // SAFETY: each query has 128 scores, of which `tokens` are used; the caller answers for the instructions.
            unsafe {
                let scale = V::splat(self.reader.scale);
                let mut highest = V::splat(NOTHING_YET);
                for i in (0..tokens).step_by(LANES) {
                    let mut score = V::load(scores.add(i)).mul(scale);
                    if i < from || i + LANES > to {
                        score = seen(score, i, from, to);
                    }
                    score.store(scores.add(i));
                    // A NaN stays out of here; its own weight will be NaN.
                    highest = V::select_less(highest, score, score, highest);
                }
                let before = state.largest[query];
                let largest = highest.largest().max(before);
                state.largest[query] = largest;
                let mut total = V::splat(0.0);
                for i in (0..tokens).step_by(LANES) {
                    let weight = exp(V::load(scores.add(i)).sub(V::splat(largest)));
                    total = total.add(weight);
                    weight.store(scores.add(i));
                }
                let carry =
                    if largest > before { exp(V::splat(before - largest)).to_array()[0] } else { 1.0 };
                state.total[query] = state.total[query] * carry + total.sum();
                if carry != 1.0 {
                    let width = state.steps * TILE_INPUTS;
                    state.sums[query * width..][..width].iter_mut().for_each(|sum| *sum *= carry);
                }
            }
            for block in 0..blocks.len() {
                let line = ((query / TILE * BLOCKS + block) * TILE + query % TILE) * BLOCK_TOKENS;
                let weights = &state.scores[query * CHUNK_TOKENS + block * BLOCK_TOKENS..][..BLOCK_TOKENS];
                let line = &mut state.weights[line..][..BLOCK_TOKENS];
                for token in 0..BLOCK_TOKENS {
                    line[token] = bf16_bits(weights[token]);
                }
            }
        }
    }

    /// `sums += weights · values`. Values of tokens behind `end` are zeros in a copy: they were written by whoever had the
    /// block before, and zero times an infinity is not zero.
    #[inline(always)]
    unsafe fn add_values(&self, state: &mut State<'_>, blocks: Range<usize>, end: usize) {
        let mut values = [std::ptr::null::<u8>(); BLOCKS];
        for (place, block) in values.iter_mut().zip(blocks.clone()) {
            // SAFETY: the values of a block follow its keys.
            *place = unsafe { self.keys(block).add(self.half_bytes()) };
        }
        let tokens = end - (blocks.end - 1) * BLOCK_TOKENS;
        if tokens < BLOCK_TOKENS {
            let last = &mut values[blocks.len() - 1];
            // SAFETY: these are the values of one block.
            *last = unsafe { self.cleared_values(state, *last, tokens) };
        }
        let panels = self.reader.head_dim.div_ceil(LANES);
        let width = state.steps * TILE_INPUTS;
        for panel in (0..panels).step_by(2) {
            let to = state.sums[panel * LANES..].as_mut_ptr();
            let weights = state.weights.as_ptr().cast::<u8>();
            // A last panel without a partner stands beside itself; what comes of that lies behind all dimensions.
            let right = if panel + 1 < panels { TILE_BYTES } else { 0 };
            // SAFETY: each block has `panels` tiles of values; sums are rows of `width`, a multiple of two tiles.
            unsafe {
                let offsets = [panel * TILE_BYTES, panel * TILE_BYTES + right];
                if self.queries() > TILE {
                    add_two(weights, &values[..blocks.len()], offsets, to, width);
                } else {
                    add_one(weights, &values[..blocks.len()], offsets, to, width);
                }
            }
        }
    }

    /// Copies the values of a block's first `tokens` tokens, with zeros behind them.
    unsafe fn cleared_values(&self, state: &mut State<'_>, values: *const u8, tokens: usize) -> *const u8 {
        let halves = self.half_bytes() / 2;
        let copies = &mut state.copies[..halves];
        // SAFETY: a head has so many halves of values in a block; a block of the cache is aligned for them.
        copies.copy_from_slice(unsafe { std::slice::from_raw_parts(values.cast::<u16>(), halves) });
        // Each panel is sixteen lines of two tokens.
        for (i, half) in copies.iter_mut().enumerate() {
            let token = i / (2 * LANES) % TILE * 2 + i % 2;
            if token >= tokens {
                *half = 0;
            }
        }
        copies.as_ptr().cast()
    }

    /// Divides by the totals.
    #[inline(always)]
    unsafe fn finish<V: Lanes>(&self, state: &State<'_>) {
        let (reader, width) = (self.reader, state.steps * TILE_INPUTS);
        for query in 0..self.queries() {
            let (row, head) = self.row_and_head(query);
            let at = (row * reader.heads + head) * reader.head_dim;
            // SAFETY: this row and head of `out` exist and are this block's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(reader.out.get().add(at), reader.head_dim) };
            let share = 1.0 / state.total[query];
            out.iter_mut().zip(&state.sums[query * width..]).for_each(|(out, sum)| *out = sum * share);
        }
    }
}

/// Scores of tokens in `from..to`, the first of these sixteen being `first`; minus infinity for the others.
#[inline(always)]
unsafe fn seen<V: Lanes>(scores: V, first: usize, from: usize, to: usize) -> V {
    const LANE: [f32; LANES] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
    // SAFETY: an array of sixteen; the caller answers for the instructions. Small whole numbers are exact as f32.
    unsafe {
        let (lane, hidden) = (V::load(LANE.as_ptr()), V::splat(f32::NEG_INFINITY));
        let late = V::select_less(lane, V::splat(to as f32 - first as f32), scores, hidden);
        V::select_less(lane, V::splat(from as f32 - first as f32), hidden, late)
    }
}

/// Adds the products of two tiles of weights with two panels of values, block by block, to four tiles of sums.
///
/// # Safety
/// Tiles must be configured in this thread. `weights` is `[2][4][16][32]` bf16, and each of at least one block of `values` has a
/// tile at both `offsets`; `to` has 32 rows of 32 sums, `width` apart.
#[inline(always)]
unsafe fn add_two(weights: *const u8, values: &[*const u8], offsets: [usize; 2], to: *mut f32, width: usize) {
    debug_assert!(!values.is_empty());
    // SAFETY: as the caller promises; all tile registers are named as overwritten.
    unsafe {
        asm!(
            "tileloadd tmm0, [{to} + {stride}]",
            "tileloadd tmm1, [{to} + {stride} + 64]",
            "tileloadd tmm2, [{to_lower} + {stride}]",
            "tileloadd tmm3, [{to_lower} + {stride} + 64]",
            "2:",
            "mov {left}, [{values}]",
            "mov {right}, {left}",
            "add {left}, {left_at}",
            "add {right}, {right_at}",
            "tileloadd tmm4, [{weights} + {line}]",
            "tileloadd tmm6, [{left} + {line}]",
            "tileloadd tmm7, [{right} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{weights} + {line} + {lower}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {weights}, 1024",
            "add {values}, 8",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            "tilestored [{to_lower} + {stride}], tmm2",
            "tilestored [{to_lower} + {stride} + 64], tmm3",
            lower = const BLOCKS * TILE_BYTES,
            weights = inout(reg) weights => _,
            values = inout(reg) values.as_ptr() => _,
            steps = inout(reg) values.len() => _,
            left = out(reg) _,
            right = out(reg) _,
            left_at = in(reg) offsets[0],
            right_at = in(reg) offsets[1],
            line = in(reg) LINE_BYTES,
            to = in(reg) to,
            to_lower = in(reg) to.add(TILE * width),
            stride = in(reg) width * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The same for one tile of weights and two tiles of sums.
///
/// # Safety
/// As for `add_two`, with 16 rows of sums.
#[inline(always)]
unsafe fn add_one(weights: *const u8, values: &[*const u8], offsets: [usize; 2], to: *mut f32, width: usize) {
    debug_assert!(!values.is_empty());
    // SAFETY: as the caller promises; all tile registers in use are named as overwritten.
    unsafe {
        asm!(
            "tileloadd tmm0, [{to} + {stride}]",
            "tileloadd tmm1, [{to} + {stride} + 64]",
            "2:",
            "mov {left}, [{values}]",
            "mov {right}, {left}",
            "add {left}, {left_at}",
            "add {right}, {right_at}",
            "tileloadd tmm4, [{weights} + {line}]",
            "tileloadd tmm6, [{left} + {line}]",
            "tileloadd tmm7, [{right} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {weights}, 1024",
            "add {values}, 8",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            weights = inout(reg) weights => _,
            values = inout(reg) values.as_ptr() => _,
            steps = inout(reg) values.len() => _,
            left = out(reg) _,
            right = out(reg) _,
            left_at = in(reg) offsets[0],
            right_at = in(reg) offsets[1],
            line = in(reg) LINE_BYTES,
            to = in(reg) to,
            stride = in(reg) width * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
