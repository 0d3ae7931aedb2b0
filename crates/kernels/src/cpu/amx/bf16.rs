//! How are many rows multiplied with bf16 tiles?
//!
//! A tile is sixteen lines of 64 bytes. Activations are rounded to bf16 and laid out as tiles of 16 rows × 32 inputs; a panel of
//! weights already is a row of tiles of 32 inputs × 16 outputs (int8 is widened to bf16 without loss, a pair of panels at a
//! time). Sums are f32. The stable compiler has no intrinsics for tiles, so the innermost loop is assembly.

// Loops over lanes count: an iterator between them and their index has kept compilers from vectorising.
#![allow(clippy::needless_range_loop)]

use std::arch::asm;
use std::cell::Cell;
use std::ops::Range;

use super::lanes::{LANES, Lanes, Operation, dispatch};
use crate::memory::Shared;
use crate::packing::bf16_bits;
use crate::{Isa, Matrix, Numerics, Pool, Precision};

/// Rows from which tiles beat vector registers: up to eight, both wait for memory, and registers do not round activations.
const ROWS_LEAST: usize = 9;

/// Rows, outputs, or pairs of inputs of one tile.
const TILE: usize = 16;
const TILE_BYTES: usize = 1024;
/// Inputs that one step of the inner loop takes.
const TILE_INPUTS: usize = 32;

pub(crate) fn suits(pool: &Pool, rows: usize, weight: &Matrix) -> bool {
    pool.isa() == Isa::Amx
        && pool.numerics() == Numerics::Fast
        && rows >= ROWS_LEAST
        && weight.precision().has_tiles()
        && weight.inputs() > 0
}

/// `out = bf16(x) · weightᵀ`. Lengths have been checked by the caller.
pub(crate) fn matmul(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    let inputs = weight.inputs();
    let (steps, row_tiles) = (inputs.div_ceil(TILE_INPUTS), rows.div_ceil(TILE));
    let mut scratch = pool.scratch(row_tiles * steps * TILE_BYTES);
    let activations = Shared::new(scratch.start_mut());
    pool.run_ranges(row_tiles, 1, &|tiles| {
        // SAFETY: a pool whose path is AMX has AVX-512; ranges of row tiles lie in the scratch and do not overlap.
        unsafe { dispatch(Isa::Avx512, LayOut { x, inputs, tiles, to: activations }) };
    });
    let out = Shared::new(out.as_mut_ptr());
    pool.run_ranges(weight.panels().div_ceil(2), 1, &|pairs| {
        let part = Part { activations: activations.get(), rows, steps, weight, pairs, out };
        // SAFETY: a pool whose path is AMX has AVX-512 and tiles; ranges of panels have outputs of their own.
        unsafe { dispatch(Isa::Avx512, part) };
    });
}

/// Rounds some rows to bf16 and lays them out as tiles: `[rows/16][inputs/32][16][32]`, zeros where there are none.
struct LayOut<'a> {
    x: &'a [f32],
    inputs: usize,
    tiles: Range<usize>,
    to: Shared<u8>,
}

impl Operation for LayOut<'_> {
    /// # Safety
    /// `to` must have room for all row tiles, and nobody else may touch those in `tiles`.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let tiles_across = self.inputs.div_ceil(TILE_INPUTS);
        for row in self.tiles.start * TILE..self.tiles.end * TILE {
            let values = self.x.get(row * self.inputs..(row + 1) * self.inputs).unwrap_or_default();
            let (whole, rest) = values.as_chunks::<TILE_INPUTS>();
            for step in 0..tiles_across {
                let at = (row / TILE * tiles_across + step) * TILE_BYTES + row % TILE * TILE_INPUTS * 2;
                // SAFETY: the line of this row and step lies in the tiles of our range; the scratch is aligned.
                let line = unsafe { &mut *self.to.get().add(at).cast::<[u16; TILE_INPUTS]>() };
                if let Some(values) = whole.get(step) {
                    for i in 0..TILE_INPUTS {
                        line[i] = bf16_bits(values[i]);
                    }
                } else {
                    line.fill(0);
                    line.iter_mut().zip(rest).for_each(|(half, value)| *half = bf16_bits(*value));
                }
            }
        }
    }
}

/// The outputs of some pairs of panels, for all rows.
struct Part<'a> {
    activations: *const u8,
    rows: usize,
    steps: usize,
    weight: &'a Matrix,
    pairs: Range<usize>,
    out: Shared<f32>,
}

/// Panels and activations that together stay in a second-level cache of one or two megabytes: a block of panels is read from
/// memory once, while activations, some at a time, meet all of it. Int8 takes more activations at a time, because its
/// panels are widened again for each.
const PANELS_BYTES: usize = 768 << 10;
const ACTIVATIONS_BYTES: usize = 256 << 10;

/// Sums of 2 × 2 tiles.
type Square = [[f32; 2 * TILE]; 2 * TILE];

impl Operation for Part<'_> {
    /// # Safety
    /// The process must have permission to use tiles; `activations` must hold all rows; `out` must have room for
    /// `rows × outputs`, and nobody else may touch the outputs of these panels.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let pair_bytes = 2 * self.weight.panel_bytes();
        let pairs_at_once = (PANELS_BYTES / pair_bytes).max(1);
        let activations_bytes =
            if self.weight.scales().is_some() { 4 * ACTIVATIONS_BYTES } else { ACTIVATIONS_BYTES };
        let tiles_at_once = (activations_bytes / (self.steps * TILE_BYTES)).next_multiple_of(2).max(2);
        let row_tiles = self.rows.div_ceil(TILE);
        let mut widened = WIDENED.take();
        // SAFETY: as the caller promises; the configuration is released before this thread does anything else.
        unsafe {
            configure_tiles();
            for first_pair in self.pairs.clone().step_by(pairs_at_once) {
                for first_tile in (0..row_tiles).step_by(tiles_at_once) {
                    let tiles = first_tile..row_tiles.min(first_tile + tiles_at_once);
                    for pair in first_pair..self.pairs.end.min(first_pair + pairs_at_once) {
                        self.pair::<V>(pair, tiles.clone(), &mut widened);
                    }
                }
            }
            release_tiles();
        }
        WIDENED.set(widened);
    }
}

/// Lines of a tile, aligned so that each is one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u32; LANES]);

thread_local! {
    /// Two panels of int8 as bf16.
    static WIDENED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// What one call of the assembly works on.
#[derive(Clone, Copy)]
struct Job {
    upper: *const u8,
    /// The tile row below, if there is one.
    lower: Option<*const u8>,
    panels: [*const u8; 2],
    steps: usize,
    /// What will be wanted next, to be brought near meanwhile.
    ahead: *const u8,
}

impl Part<'_> {
    /// Two panels (or the last one, twice) times some tiles of rows.
    #[inline(always)]
    unsafe fn pair<V: Lanes>(&self, pair: usize, row_tiles: Range<usize>, widened: &mut Vec<Line>) {
        let (first, last) = (2 * pair, (2 * pair + 1).min(self.weight.panels() - 1));
        // SAFETY: both panels exist, and row tiles lie in the activations.
        unsafe {
            let panels = match self.weight.precision() {
                Precision::Int8 => self.widen::<V>([first, last], widened),
                _ => [self.panel(first), self.panel(last)],
            };
            let mut ahead = 0..2 * self.weight.panel_bytes();
            for tile in row_tiles.clone().step_by(2) {
                let upper = self.activations.add(tile * self.steps * TILE_BYTES);
                let lower = (tile + 1 < row_tiles.end).then(|| upper.add(self.steps * TILE_BYTES));
                // Each call brings a part of the next pair of panels; when all is there, something that is near anyway.
                let next = self.panel(first).wrapping_add(ahead.end + ahead.start);
                let job = Job {
                    upper,
                    lower,
                    panels,
                    steps: self.steps,
                    ahead: if ahead.is_empty() { upper } else { next },
                };
                ahead.start += self.steps * AHEAD_LINES * 64;
                self.square(job, tile * TILE, first * LANES);
            }
        }
    }

    unsafe fn panel(&self, panel: usize) -> *const u8 {
        // SAFETY: the caller names a panel of this matrix.
        unsafe { self.weight.start().add(panel * self.weight.panel_bytes()) }
    }

    /// Multiplies one or two tiles of rows with two panels, and writes what exists of the result.
    #[inline(always)]
    unsafe fn square(&self, job: Job, row: usize, output: usize) {
        let outputs = self.weight.outputs();
        let (rows, columns) = ((self.rows - row).min(2 * TILE), (outputs - output).min(2 * TILE));
        // SAFETY: the tiles hold `steps` tiles each, as do the panels, and the result goes to a square of our own, or to
        // `out` where all of it exists there.
        unsafe {
            let to = self.out.get().add(row * outputs + output);
            if rows == 2 * TILE && columns == 2 * TILE && self.weight.scales().is_none() {
                return multiply(job, to, outputs);
            }
            let mut square: Square = [[0.0; 2 * TILE]; 2 * TILE];
            multiply(job, square.as_mut_ptr().cast(), 2 * TILE);
            for (i, sums) in square[..rows].iter_mut().enumerate() {
                if let Some(scales) = self.weight.scales() {
                    sums[..columns].iter_mut().zip(&scales[output..]).for_each(|(sum, scale)| *sum *= scale);
                }
                std::ptr::copy_nonoverlapping(sums.as_ptr(), to.add(i * outputs), columns);
            }
        }
    }

    /// Whole numbers up to 256 are exact in bf16, so int8 loses nothing; scales come after the sum.
    #[inline(always)]
    unsafe fn widen<V: Lanes>(&self, panels: [usize; 2], widened: &mut Vec<Line>) -> [*const u8; 2] {
        let lines = self.weight.panel_bytes() / 64;
        widened.resize(4 * lines, Line([0; LANES]));
        for (panel, to) in panels.into_iter().zip(widened.chunks_exact_mut(2 * lines)) {
            for line in 0..lines {
                // SAFETY: a panel has twice as many lines of bf16 as of int8.
                unsafe {
                    let [a, b, c, d] = V::widen_i8(self.panel(panel).add(line * 64));
                    V::store_upper_pairs(a, b, to[2 * line].0.as_mut_ptr());
                    V::store_upper_pairs(c, d, to[2 * line + 1].0.as_mut_ptr());
                }
            }
        }
        [widened.as_ptr().cast(), widened[2 * lines..].as_ptr().cast()]
    }
}

/// Lines that one step of the inner loop brings near from `Job::ahead`.
const AHEAD_LINES: usize = 16;

#[inline(always)]
unsafe fn multiply(job: Job, to: *mut f32, stride: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match job.lower {
            Some(lower) => multiply_two(job, lower, to, stride),
            None => multiply_one(job, to, stride),
        }
    }
}

/// Brings sixteen lines near, and goes on by as many.
macro_rules! look_ahead {
    () => {
        "prefetcht1 [{ahead}]
        prefetcht1 [{ahead} + 64]
        prefetcht1 [{ahead} + 128]
        prefetcht1 [{ahead} + 192]
        prefetcht1 [{ahead} + 256]
        prefetcht1 [{ahead} + 320]
        prefetcht1 [{ahead} + 384]
        prefetcht1 [{ahead} + 448]
        prefetcht1 [{ahead} + 512]
        prefetcht1 [{ahead} + 576]
        prefetcht1 [{ahead} + 640]
        prefetcht1 [{ahead} + 704]
        prefetcht1 [{ahead} + 768]
        prefetcht1 [{ahead} + 832]
        prefetcht1 [{ahead} + 896]
        prefetcht1 [{ahead} + 960]
        add {ahead}, 1024"
    };
}

/// Two tiles of rows times two panels, over all inputs: four tiles of sums, `stride` values from row to row.
///
/// # Safety
/// Tiles must be configured in this thread. Each of the four sources must hold `steps ≥ 1` tiles in a row; `to` must have
/// room for 32 rows of 32 values.
#[inline(always)]
unsafe fn multiply_two(job: Job, lower: *const u8, to: *mut f32, stride: usize) {
    let Job { upper, panels: [left, right], steps, ahead, .. } = job;
    debug_assert!(steps > 0);
    // SAFETY: as the caller promises; all tile registers are named as overwritten.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{upper} + {line}]",
            "tileloadd tmm6, [{left} + {line}]",
            "tileloadd tmm7, [{right} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {line}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 1024",
            "add {lower}, 1024",
            "add {left}, 1024",
            "add {right}, 1024",
            look_ahead!(),
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            "tilestored [{to_lower} + {stride}], tmm2",
            "tilestored [{to_lower} + {stride} + 64], tmm3",
            upper = inout(reg) upper => _,
            lower = inout(reg) lower => _,
            left = inout(reg) left => _,
            right = inout(reg) right => _,
            ahead = inout(reg) ahead => _,
            steps = inout(reg) steps => _,
            line = in(reg) 64_usize,
            to = in(reg) to,
            to_lower = in(reg) to.add(TILE * stride),
            stride = in(reg) stride * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One tile of rows times two panels, over all inputs: two tiles of sums, `stride` values from row to row.
///
/// # Safety
/// As for `multiply_two`, with 16 rows of 32 values.
#[inline(always)]
unsafe fn multiply_one(job: Job, to: *mut f32, stride: usize) {
    let Job { upper: tile, panels: [left, right], steps, ahead, .. } = job;
    debug_assert!(steps > 0);
    // SAFETY: as the caller promises; all tile registers in use are named as overwritten.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{tile} + {line}]",
            "tileloadd tmm6, [{left} + {line}]",
            "tileloadd tmm7, [{right} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {tile}, 1024",
            "add {left}, 1024",
            "add {right}, 1024",
            look_ahead!(),
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            tile = inout(reg) tile => _,
            left = inout(reg) left => _,
            right = inout(reg) right => _,
            ahead = inout(reg) ahead => _,
            steps = inout(reg) steps => _,
            line = in(reg) 64_usize,
            to = in(reg) to,
            stride = in(reg) stride * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// All eight tiles: sixteen lines of 64 bytes.
unsafe fn configure_tiles() {
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        line_bytes: [u16; 16],
        lines: [u8; 16],
    }
    const ALL: Configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        line_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        lines: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    // SAFETY: the caller has permission to use tiles; the configuration is 64 bytes and valid for palette 1.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &ALL, options(nostack, readonly)) };
}

/// Gives the tiles back, so that switching threads need not save their eight kilobytes.
unsafe fn release_tiles() {
    // SAFETY: the caller has permission to use tiles, and keeps nothing in them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}
