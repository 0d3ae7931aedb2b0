//! How are many rows multiplied with int8 tiles?
//!
//! Activations are rounded to int8, a scale for each row and group of inputs, as for registers; a panel of weights already is a
//! column of tiles of 64 inputs × 16 outputs. The whole-number sums of a group stay in tiles; then they become floats, times what
//! a step of that group is worth. Whole numbers have no rounding and the floats are added in the same order as on registers, so
//! both give the same bits.

// Loops over lanes count: an iterator between them and their index has kept compilers from vectorising.
#![allow(clippy::needless_range_loop)]

use std::cell::Cell;
use std::ops::Range;

use super::square::{AHEAD_LINES, Dot, Int8, Job};
use super::{LINE_BYTES, Line, Part, TILE, TILE_BYTES, Tiles, Walk, panel_start, panels_of};
use crate::cpu::lanes::{LANES, Lanes, Operation, dispatch};
use crate::cpu::quantize::Scaling;
use crate::cpu::words::INT8_GROUP;
use crate::memory::Shared;
use crate::{Isa, Matrix, Pool};

/// Inputs of one tile.
const TILE_INPUTS: usize = LINE_BYTES;
/// Tiles across one group of inputs. So many products of a step each keep the tiles busy for four times as long as it takes to
/// turn their sums into floats.
const GROUP_STEPS: usize = INT8_GROUP / TILE_INPUTS;
const _: () = assert!(INT8_GROUP.is_multiple_of(TILE_INPUTS));

/// `out = int8(x) · weightᵀ`. Lengths have been checked by the caller.
pub(super) fn matmul(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    let inputs = weight.inputs();
    let (steps, row_tiles) = (inputs.div_ceil(TILE_INPUTS), rows.div_ceil(TILE));
    let groups = steps.div_ceil(GROUP_STEPS);
    let tiles_bytes = row_tiles * steps * TILE_BYTES;
    let mut scratch = pool.scratch(tiles_bytes + row_tiles * groups * size_of::<Scales>());
    let activations = Shared::new(scratch.start_mut());
    // SAFETY: the scratch holds the tiles, and then the scales.
    let scales = Shared::new(unsafe { scratch.start_mut().add(tiles_bytes).cast::<Scales>() });
    pool.run_ranges(row_tiles, 1, &|tiles| {
        // SAFETY: a pool whose path is AMX has AVX-512; ranges of row tiles lie in the scratch and do not overlap.
        unsafe { dispatch(Isa::Avx512, LayOut { x, inputs, steps, tiles, to: activations, scales }) };
    });
    let out = Shared::new(out.as_mut_ptr());
    pool.run_ranges(weight.panels().div_ceil(2), 1, &|pairs| {
        let part = Part { activations: activations.get(), rows, steps, weight, pairs, out };
        // SAFETY: a pool whose path is AMX has AVX-512 and tiles; ranges of panels have outputs of their own.
        unsafe { dispatch(Isa::Avx512, Products { part, scales: scales.get() }) };
    });
}

/// What a step is worth in one group of sixteen rows.
type Scales = [f32; TILE];

/// Rounds some rows to int8 and lays them out as tiles: `[rows/16][steps][16][64]`, zeros where there are none. Their scales
/// are `[rows/16][groups][16]`.
struct LayOut<'a> {
    x: &'a [f32],
    inputs: usize,
    steps: usize,
    tiles: Range<usize>,
    to: Shared<u8>,
    scales: Shared<Scales>,
}

impl Operation for LayOut<'_> {
    /// # Safety
    /// `to` and `scales` must have room for all row tiles, and nobody else may touch those in `tiles`.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let groups = self.steps.div_ceil(GROUP_STEPS);
        for row in self.tiles.start * TILE..self.tiles.end * TILE {
            let (tile, line) = (row / TILE, row % TILE);
            let mut values = self.x.get(row * self.inputs..(row + 1) * self.inputs).unwrap_or_default();
            for group in 0..groups {
                let (these, later) = values.split_at(values.len().min(INT8_GROUP));
                values = later;
                // SAFETY: the caller answers for the instructions; the scales of this row and group, and the lines below, are those of
                // our range, and a line has room for the whole numbers of its values, rounded up to sixteen.
                unsafe {
                    let scaling = Scaling::of::<V>(these);
                    (*self.scales.get().add(tile * groups + group))[line] = scaling.scale;
                    for step in group * GROUP_STEPS..self.steps.min((group + 1) * GROUP_STEPS) {
                        let to =
                            self.to.get().add((tile * self.steps + step) * TILE_BYTES + line * LINE_BYTES);
                        let values =
                            these.get((step - group * GROUP_STEPS) * TILE_INPUTS..).unwrap_or_default();
                        to.write_bytes(0, LINE_BYTES);
                        scaling.round::<V>(&values[..values.len().min(TILE_INPUTS)], to.cast());
                    }
                }
            }
        }
    }
}

struct Products<'a> {
    part: Part<'a>,
    scales: *const Scales,
}

thread_local! {
    /// A last panel whose inputs end in the middle of a tile.
    static LAST_PANEL: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

impl Operation for Products<'_> {
    /// # Safety
    /// The process must have permission to use tiles; `activations` and `scales` must hold all rows; `out` must have room for
    /// `rows × outputs`, and nobody else may touch the outputs of these panels.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let part = &self.part;
        let mut copy = LAST_PANEL.take();
        let walk = Walk::new(
            part.pairs.clone(),
            part.rows.div_ceil(TILE),
            2 * part.weight.panel_bytes(),
            part.steps * TILE_BYTES,
        );
        // SAFETY: as the caller promises; the configuration is released before this thread does anything else.
        unsafe {
            let _tiles = Tiles::configure();
            for (pair, tiles) in walk.steps() {
                self.pair::<V>(pair, tiles, &mut copy);
            }
        }
        LAST_PANEL.set(copy);
    }
}

/// Sums of 2 × 2 tiles.
#[repr(align(64))]
struct Square<T>([[T; 2 * TILE]; 2 * TILE]);

impl Products<'_> {
    /// Two panels times some tiles of rows.
    #[inline(always)]
    unsafe fn pair<V: Lanes>(&self, pair: usize, row_tiles: Range<usize>, copy: &mut Vec<Line>) {
        let part = &self.part;
        let numbers = panels_of(pair, part.weight);
        // SAFETY: both panels exist, and row tiles lie in the activations.
        unsafe {
            // At most one of two different panels is the last one, so the copy serves both.
            let panels = numbers.map(|panel| self.whole_tiles(panel, copy));
            let mut ahead = 0..2 * part.weight.panel_bytes();
            for tile in row_tiles.clone().step_by(2) {
                let upper = part.activations.add(tile * part.steps * TILE_BYTES);
                let lower = (tile + 1 < row_tiles.end).then(|| upper.add(part.steps * TILE_BYTES));
                // Each call brings a part of the next pair of panels; when all is there, something that is near anyway.
                let next = panel_start(part.weight, numbers[0]).wrapping_add(ahead.end + ahead.start);
                let ahead_of_call = if ahead.is_empty() { upper } else { next };
                ahead.start += part.steps * AHEAD_LINES * LINE_BYTES;
                let job = Job { upper, lower, panels, steps: part.steps, ahead: ahead_of_call };
                self.square::<V>(job, tile, numbers[0] * LANES);
            }
        }
    }

    /// Where a panel can be read in whole tiles. Inputs are padded to 32, so the last tile may reach 512 bytes into the next panel:
    /// activations are zero there, and zero times any byte is zero. Behind the last panel there is none, so it is copied.
    #[inline(always)]
    unsafe fn whole_tiles(&self, panel: usize, copy: &mut Vec<Line>) -> *const u8 {
        let (weight, steps) = (self.part.weight, self.part.steps);
        // SAFETY: the panel exists.
        let start = unsafe { panel_start(weight, panel) };
        if panel + 1 < weight.panels() || weight.panel_bytes() == steps * TILE_BYTES {
            return start;
        }
        // Lines behind the panel may be left from another one: activations are zero there.
        copy.resize(steps * TILE, Line([0; LANES]));
        // SAFETY: the copy has room for whole tiles, of which the panel has all but the last lines.
        unsafe { std::ptr::copy_nonoverlapping(start, copy.as_mut_ptr().cast(), weight.panel_bytes()) };
        copy.as_ptr().cast()
    }

    /// Multiplies one or two tiles of rows with two panels, group by group, and writes what exists of the result.
    #[inline(always)]
    unsafe fn square<V: Lanes>(&self, job: Job, tile: usize, output: usize) {
        let part = &self.part;
        let (outputs, groups) = (part.weight.outputs(), part.steps.div_ceil(GROUP_STEPS));
        let rows = (part.rows - tile * TILE).min(2 * TILE);
        let columns = (outputs - output).min(2 * TILE);
        let (mut sums, mut totals) =
            (Square([[0_i32; 2 * TILE]; 2 * TILE]), Square([[0.0_f32; 2 * TILE]; 2 * TILE]));
        // SAFETY: each source holds `steps` tiles; the scales of all groups of these row tiles exist; of `out`, rows and columns
        // that exist are written.
        unsafe {
            for group in 0..groups {
                let first = group * GROUP_STEPS;
                let at = |tiles: *const u8| tiles.add(first * TILE_BYTES);
                let group_job = Job {
                    upper: at(job.upper),
                    lower: job.lower.map(at),
                    panels: job.panels.map(at),
                    steps: (part.steps - first).min(GROUP_STEPS),
                    ahead: job.ahead.wrapping_add(first * AHEAD_LINES * LINE_BYTES),
                };
                Int8::multiply(group_job, sums.0.as_mut_ptr().cast(), 2 * TILE);
                for row in 0..rows {
                    let scale = (*self.scales.add((tile + row / TILE) * groups + group))[row % TILE];
                    for column in 0..2 * TILE {
                        let total = &mut totals.0[row][column];
                        *total = (sums.0[row][column] as f32).mul_add(scale, *total);
                    }
                }
            }
            let scales = part.weight.scales().expect("int8 has scales");
            for (row, totals) in totals.0[..rows].iter().enumerate() {
                let to = part.out.get().add((tile * TILE + row) * outputs + output);
                for column in 0..columns {
                    to.add(column).write(totals[column] * scales[output + column]);
                }
            }
        }
    }
}
