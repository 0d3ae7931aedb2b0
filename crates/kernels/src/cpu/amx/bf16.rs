//! How are many rows multiplied with bf16 tiles?
//!
//! Activations are rounded to bf16 and laid out as tiles of 16 rows × 32 inputs; a panel of bf16 weights already is a column of
//! tiles of 32 inputs × 16 outputs. Int4 becomes one, a pair of panels at a time: what a step is worth is folded in, so the pair
//! meets its rows as if it were bf16, and many rows share the cost. Sums are f32.

// Loops over lanes count: an iterator between them and their index has kept compilers from vectorising.
#![allow(clippy::needless_range_loop)]

use std::cell::Cell;
use std::ops::Range;

use super::square::{AHEAD_LINES, Bf16, Dot, Job};
use super::{
    ACTIVATIONS_BYTES, LINE_BYTES, Line, Part, TILE, TILE_BYTES, Tiles, Walk, panel_start, panels_of,
};
use crate::cpu::lanes::{LANES, Lanes, Operation, dispatch};
use crate::matrix::INT4_GROUP;
use crate::memory::Shared;
use crate::packing::bf16_bits;
use crate::{Isa, Matrix, Pool, Precision};

/// Inputs of one tile.
const TILE_INPUTS: usize = 32;

/// `out = bf16(x) · bf16(weight)ᵀ`. Lengths have been checked by the caller.
pub(super) fn matmul(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    let inputs = weight.inputs();
    let steps = weight.precision().padded_inputs(inputs) / TILE_INPUTS;
    let row_tiles = rows.div_ceil(TILE);
    let mut scratch = pool.scratch(row_tiles * steps * TILE_BYTES);
    let activations = Shared::new(scratch.start_mut());
    pool.run_ranges(row_tiles, 1, &|tiles| {
        // SAFETY: a pool whose path is AMX has AVX-512; ranges of row tiles lie in the scratch and do not overlap.
        unsafe { dispatch(Isa::Avx512, LayOut { x, inputs, steps, tiles, to: activations }) };
    });
    let out = Shared::new(out.as_mut_ptr());
    pool.run_ranges(weight.panels().div_ceil(2), 1, &|pairs| {
        let part = Part { activations: activations.get(), rows, steps, weight, pairs, out };
        // SAFETY: a pool whose path is AMX has AVX-512 and tiles; ranges of panels have outputs of their own.
        unsafe { dispatch(Isa::Avx512, Products(part)) };
    });
}

/// Rounds some rows to bf16 and lays them out as tiles: `[rows/16][steps][16][32]`, zeros where there are none.
struct LayOut<'a> {
    x: &'a [f32],
    inputs: usize,
    /// Tiles across the inputs.
    steps: usize,
    tiles: Range<usize>,
    to: Shared<u8>,
}

impl Operation for LayOut<'_> {
    /// # Safety
    /// `to` must have room for all row tiles, and nobody else may touch those in `tiles`.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        for row in self.tiles.start * TILE..self.tiles.end * TILE {
            let values = self.x.get(row * self.inputs..(row + 1) * self.inputs).unwrap_or_default();
            let (whole, rest) = values.as_chunks::<TILE_INPUTS>();
            for step in 0..self.steps {
                let at = (row / TILE * self.steps + step) * TILE_BYTES + row % TILE * TILE_INPUTS * 2;
                // SAFETY: the line of this row and step lies in the tiles of our range; the scratch is aligned.
                let line = unsafe { &mut *self.to.get().add(at).cast::<[u16; TILE_INPUTS]>() };
                if let Some(values) = whole.get(step) {
                    for i in 0..TILE_INPUTS {
                        line[i] = bf16_bits(values[i]);
                    }
                } else {
                    line.fill(0);
                    let rest = if step == whole.len() { rest } else { &[] };
                    line.iter_mut().zip(rest).for_each(|(half, value)| *half = bf16_bits(*value));
                }
            }
        }
    }
}

struct Products<'a>(Part<'a>);

impl Operation for Products<'_> {
    /// # Safety
    /// The process must have permission to use tiles; `activations` must hold all rows; `out` must have room for
    /// `rows × outputs`, and nobody else may touch the outputs of these panels.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        /// Int4 takes more activations at a time, because its panels are unpacked again for each.
        const ACTIVATIONS_OF_INT4_BYTES: usize = 4 * ACTIVATIONS_BYTES;
        let Self(part) = self;
        let row_tile_bytes = part.steps * TILE_BYTES;
        let mut walk = Walk::new(
            part.pairs.clone(),
            part.rows.div_ceil(TILE),
            2 * part.weight.panel_bytes(),
            row_tile_bytes,
        );
        if part.weight.precision() == Precision::Int4 {
            walk.tiles_at_once = (ACTIVATIONS_OF_INT4_BYTES / row_tile_bytes).next_multiple_of(2).max(2);
        }
        let mut unpacked = UNPACKED.take();
        // SAFETY: as the caller promises; the configuration is released before this thread does anything else.
        unsafe {
            let _tiles = Tiles::configure();
            for (pair, tiles) in walk.steps() {
                part.pair::<V>(pair, tiles, &mut unpacked);
            }
        }
        UNPACKED.set(unpacked);
    }
}

thread_local! {
    /// Two panels of int4 as bf16.
    static UNPACKED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

impl Part<'_> {
    /// Two panels times some tiles of rows.
    #[inline(always)]
    unsafe fn pair<V: Lanes>(&self, pair: usize, row_tiles: Range<usize>, unpacked: &mut Vec<Line>) {
        let numbers = panels_of(pair, self.weight);
        // SAFETY: both panels exist, and row tiles lie in the activations.
        unsafe {
            let panels = match self.weight.precision() {
                Precision::Int4 => self.unpack::<V>(numbers, unpacked),
                _ => numbers.map(|panel| panel_start(self.weight, panel)),
            };
            let mut ahead = 0..2 * self.weight.panel_bytes();
            for tile in row_tiles.clone().step_by(2) {
                let upper = self.activations.add(tile * self.steps * TILE_BYTES);
                let lower = (tile + 1 < row_tiles.end).then(|| upper.add(self.steps * TILE_BYTES));
                // Each call brings a part of the next pair of panels; when all is there, something that is near anyway.
                let next = panel_start(self.weight, numbers[0]).wrapping_add(ahead.end + ahead.start);
                let job = Job {
                    upper,
                    lower,
                    panels,
                    steps: self.steps,
                    ahead: if ahead.is_empty() { upper } else { next },
                };
                ahead.start += self.steps * AHEAD_LINES * LINE_BYTES;
                self.square(job, tile * TILE, numbers[0] * LANES);
            }
        }
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
            if rows == 2 * TILE && columns == 2 * TILE {
                return Bf16::multiply(job, to, outputs);
            }
            let mut square = [[0.0_f32; 2 * TILE]; 2 * TILE];
            Bf16::multiply(job, square.as_mut_ptr().cast(), 2 * TILE);
            for (i, sums) in square[..rows].iter().enumerate() {
                std::ptr::copy_nonoverlapping(sums.as_ptr(), to.add(i * outputs), columns);
            }
        }
    }

    /// Turns steps of int4 into `minimum + scale · step`, rounded to bf16: about a dozen instructions for eight inputs of sixteen
    /// outputs, which take a tile four cycles for every sixteen rows.
    #[inline(always)]
    unsafe fn unpack<V: Lanes>(&self, panels: [usize; 2], unpacked: &mut Vec<Line>) -> [*const u8; 2] {
        /// Inputs in one line of int4, and lines of bf16 that they become.
        const LINE_INPUTS: usize = 8;
        const LINES: usize = LINE_INPUTS / 2;
        let lines = self.weight.panel_bytes() / LINE_BYTES;
        let groups = self.weight.inputs().div_ceil(INT4_GROUP);
        let scales = self.weight.int4_scales().expect("int4 has scales");
        unpacked.resize(2 * LINES * lines, Line([0; LANES]));
        const GROUP_LINES: usize = INT4_GROUP / LINE_INPUTS;
        for (panel, to) in panels.into_iter().zip(unpacked.chunks_exact_mut(LINES * lines)) {
            for (group, to) in to.chunks_exact_mut(LINES * GROUP_LINES).enumerate() {
                let halves = &scales[panel * groups + group];
                let (mut scale, mut minimum) = ([0.0; LANES], [0.0; LANES]);
                for lane in 0..LANES {
                    scale[lane] = half_to_float(halves[lane]);
                    minimum[lane] = half_to_float(halves[LANES + lane]);
                }
                for (line, to) in to.chunks_exact_mut(LINES).enumerate() {
                    let at = (group * GROUP_LINES + line) * LINE_BYTES;
                    // SAFETY: the panel has so many lines of sixteen words each.
                    let words =
                        unsafe { panel_start(self.weight, panel).add(at).cast::<[u32; LANES]>().read() };
                    for pair in 0..LINES {
                        // Inputs 0 to 3 are the low halves of the four bytes of a word, 4 to 7 the high ones.
                        let shift = 16 * (pair % 2) + 4 * (pair / 2);
                        for lane in 0..LANES {
                            let value = |step: u32| {
                                u32::from(bf16_bits(scale[lane].mul_add((step & 15) as f32, minimum[lane])))
                            };
                            let (first, second) = (words[lane] >> shift, words[lane] >> (shift + 8));
                            to[pair].0[lane] = value(first) | value(second) << 16;
                        }
                    }
                }
            }
        }
        [unpacked.as_ptr().cast(), unpacked[LINES * lines..].as_ptr().cast()]
    }
}

/// What an f16 is worth, without a branch so that it vectorises: shifted to where an f32 has its bits, it lacks 2^112.
#[inline(always)]
fn half_to_float(bits: u16) -> f32 {
    const TWO_TO_112: u32 = (127 + 112) << 23;
    const INFINITY: u16 = 0x7c00;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(TWO_TO_112)).to_bits();
    let endless = magnitude | 0x7f80_0000;
    let value = if bits & 0x7fff >= INFINITY { endless } else { scaled };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_worth_what_it_is() {
        for bits in 0..=u16::MAX {
            let (value, truth) = (half_to_float(bits), half::f16::from_bits(bits).to_f32());
            assert!(value.to_bits() == truth.to_bits() || (value.is_nan() && truth.is_nan()), "{bits:#x}");
        }
    }
}
