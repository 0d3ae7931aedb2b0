//! How do rows of floats become rows of whole numbers or bf16, ready to be multiplied?
//!
//! Of whole numbers, each group of inputs of a row gets a scale of its own: a value of a hundred, as some models have, then costs its group their
//! precision and not the whole row.

// Loops over lanes count: an iterator between them and their index has kept compilers from vectorising.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;
use std::sync::MutexGuard;

use super::lanes::{LANES, Lanes, Operation, dispatch};
use crate::Pool;
use crate::memory::{Arena, Shared};
use crate::packing::bf16_bits;

/// Rows of activations in blocks of at most `block_rows`: `[words of inputs][rows of the block][4 bytes]`, so that what one step
/// of a product needs lies together. Inputs are padded with zeros.
pub(crate) struct Activations<'a> {
    form: Form,
    memory: MutexGuard<'a, Arena>,
}

/// How activations are laid out.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub rows: usize,
    pub inputs: usize,
    /// A multiple of 32, at least `inputs`.
    pub padded: usize,
    /// Inputs that share a scale, a multiple of four.
    pub group: usize,
    pub block_rows: usize,
    pub kind: Kind,
}

/// What activations become.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int8,
    /// Two in a word; a scale is 1 and a sum 0.
    Bf16,
}

/// What is known of one group of one row.
#[derive(Clone, Copy)]
pub(crate) struct GroupFacts {
    pub scale: f32,
    /// The sum of its whole numbers.
    pub sum: i32,
}

impl Form {
    pub fn groups(&self) -> usize {
        self.padded.div_ceil(self.group)
    }
    fn row_bytes(&self) -> usize {
        match self.kind {
            Kind::Int8 => self.padded,
            Kind::Bf16 => 2 * self.padded,
        }
    }
    fn bytes(&self) -> usize {
        (self.rows * self.row_bytes()).next_multiple_of(64)
    }
    /// Where the words of the block with this row begin, and how many rows it has.
    pub fn block(&self, row: usize) -> (usize, usize) {
        let first = row / self.block_rows * self.block_rows;
        (first * self.row_bytes(), (self.rows - first).min(self.block_rows))
    }
}

impl<'a> Activations<'a> {
    /// Rounds rows of `form.inputs` values each; the memory is the pool's, until these are dropped.
    pub fn round(pool: &'a Pool, x: &[f32], form: Form) -> Self {
        /// A thread is not worth waking for fewer values than this.
        const VALUES_LEAST: usize = 16 << 10;
        debug_assert_eq!(x.len(), form.rows * form.inputs);
        let facts = form.rows * form.groups() * size_of::<GroupFacts>();
        let mut memory = pool.scratch(form.bytes() + facts);
        let start = memory.start_mut();
        // SAFETY: the scratch holds the bytes, and then the facts.
        let (to, facts) = unsafe { (Shared::new(start), Shared::new(start.add(form.bytes()).cast())) };
        pool.run_ranges(form.rows, (VALUES_LEAST / form.inputs.max(1)).max(1), &|rows| {
            // SAFETY: the pool holds only paths that this machine has; ranges of rows have places of their own in the scratch.
            unsafe {
                match form.kind {
                    Kind::Int8 => dispatch(pool.isa(), Quantize { x, form, rows, to, facts }),
                    Kind::Bf16 => dispatch(pool.isa(), Halve { x, form, rows, to, facts }),
                }
            }
        });
        Self { form, memory }
    }

    pub fn form(&self) -> Form {
        self.form
    }
    /// The words of all blocks.
    pub fn start(&self) -> *const u8 {
        self.memory.start()
    }
    /// The facts of all groups of a row, which those of the next row follow.
    pub fn facts(&self, row: usize) -> *const GroupFacts {
        debug_assert!(row < self.form.rows);
        // SAFETY: the scratch holds the facts of all rows behind the bytes.
        unsafe {
            self.memory.start().add(self.form.bytes()).cast::<GroupFacts>().add(row * self.form.groups())
        }
    }
}

struct Quantize<'a> {
    x: &'a [f32],
    form: Form,
    rows: Range<usize>,
    to: Shared<u8>,
    facts: Shared<GroupFacts>,
}

impl Operation for Quantize<'_> {
    /// # Safety
    /// `to` and `facts` must have room for all rows, and nobody else may touch those in `rows`.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { x, form, rows, to, facts } = self;
        for row in rows {
            let values = &x[row * form.inputs..][..form.inputs];
            let (start, block_rows) = form.block(row);
            for group in 0..form.groups() {
                let first = group * form.group;
                let padded = form.group.min(form.padded - first);
                let values = values.get(first..).unwrap_or_default();
                let values = &values[..values.len().min(form.group)];
                let scaling = Scaling::of(values);
                let mut sum = 0;
                for (chunk, from) in (first..first + padded).step_by(LANES).enumerate() {
                    let mut sixteen = [0.0; LANES];
                    let values = values.get(chunk * LANES..).unwrap_or_default();
                    match values.first_chunk() {
                        Some(whole) => sixteen = *whole,
                        None => sixteen[..values.len()].copy_from_slice(values),
                    }
                    let bytes = scaling.round(&sixteen);
                    sum += bytes.iter().map(|byte| i32::from(*byte)).sum::<i32>();
                    let quads: [[i8; 4]; LANES / 4] = bytemuck::cast(bytes);
                    for quad in 0..quads.len().min((first + padded - from) / 4) {
                        let at = start + ((from / 4 + quad) * block_rows + row % form.block_rows) * 4;
                        // SAFETY: these four inputs of this row have a place of their own inside the scratch.
                        unsafe { to.get().add(at).cast::<[i8; 4]>().write(quads[quad]) };
                    }
                }
                // SAFETY: each row has its facts, one for each group.
                unsafe {
                    facts
                        .get()
                        .add(row * form.groups() + group)
                        .write(GroupFacts { scale: scaling.scale, sum });
                }
            }
        }
    }
}

/// Rounds some rows to bf16.
struct Halve<'a> {
    x: &'a [f32],
    form: Form,
    rows: Range<usize>,
    to: Shared<u8>,
    facts: Shared<GroupFacts>,
}

impl Operation for Halve<'_> {
    /// # Safety
    /// As for `Quantize`.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { x, form, rows, to, facts } = self;
        for row in rows {
            let values = &x[row * form.inputs..][..form.inputs];
            let (start, block_rows) = form.block(row);
            for first in (0..form.padded).step_by(LANES) {
                let mut sixteen = [0.0; LANES];
                let values = values.get(first..).unwrap_or_default();
                match values.first_chunk() {
                    Some(whole) => sixteen = *whole,
                    None => sixteen[..values.len()].copy_from_slice(values),
                }
                let mut halves = [0; LANES];
                for lane in 0..LANES {
                    halves[lane] = bf16_bits(sixteen[lane]);
                }
                let pairs: [[u16; 2]; LANES / 2] = bytemuck::cast(halves);
                for pair in 0..pairs.len() {
                    let at = start + ((first / 2 + pair) * block_rows + row % form.block_rows) * 4;
                    // SAFETY: these two inputs of this row have a place of their own inside the scratch, aligned for words.
                    unsafe { to.get().add(at).cast::<[u16; 2]>().write(pairs[pair]) };
                }
            }
            for group in 0..form.groups() {
                // SAFETY: each row has its facts, one for each group.
                unsafe {
                    let at = facts.get().add(row * form.groups() + group);
                    at.write(GroupFacts { scale: 1.0, sum: 0 });
                }
            }
        }
    }
}

/// How a group is rounded: `x ≈ scale · q`.
#[derive(Clone, Copy)]
pub(crate) struct Scaling {
    pub scale: f32,
    inverse: f32,
}

impl Scaling {
    /// The largest value becomes 127. A NaN becomes the scale, and so reaches every output of its row.
    #[inline(always)]
    pub fn of(values: &[f32]) -> Self {
        const LARGEST: f32 = 127.0;
        /// Below this a scale has no inverse; what is that small is zero.
        const LEAST: f32 = 1e-30;
        // As bits, a NaN is larger than all numbers, so no comparison loses it.
        let magnitude = |value: f32| value.to_bits() & 0x7fff_ffff;
        let (whole, rest) = values.as_chunks::<LANES>();
        let mut largest = [0; LANES];
        for values in whole {
            for lane in 0..LANES {
                largest[lane] = largest[lane].max(magnitude(values[lane]));
            }
        }
        let rest = rest.iter().map(|value| magnitude(*value)).max().unwrap_or(0);
        let largest = f32::from_bits(largest.into_iter().fold(rest, u32::max));
        let inverse = if largest >= LEAST { LARGEST / largest } else { 0.0 };
        Self { scale: largest / LARGEST, inverse }
    }

    /// The nearest whole numbers, ties to even: adding 1.5 · 2^23 leaves them in the lowest bits.
    #[inline(always)]
    pub fn round(self, values: &[f32; LANES]) -> [i8; LANES] {
        const ROUNDER: f32 = 12_582_912.0;
        let mut bytes = [0; LANES];
        for lane in 0..LANES {
            bytes[lane] = (values[lane] * self.inverse + ROUNDER).to_bits() as i8;
        }
        bytes
    }
}
