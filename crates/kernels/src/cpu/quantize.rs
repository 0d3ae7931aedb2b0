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
        debug_assert!(form.kind == Kind::Bf16 || form.group <= GROUP_MOST);
        let facts = form.rows * form.groups() * size_of::<GroupFacts>();
        let mut memory = pool.scratch(form.bytes() + facts);
        let start = memory.start_mut();
        // SAFETY: the scratch holds the bytes, and then the facts.
        let (to, facts) = unsafe { (Shared::new(start), Shared::new(start.add(form.bytes()).cast())) };
        // A group of a block of rows at a time: what is written stays in the nearest cache until its lines are full.
        let items = form.rows.div_ceil(form.block_rows) * form.groups();
        let item_values = form.group.min(form.padded) * form.block_rows.min(form.rows);
        pool.run_ranges(items, (VALUES_LEAST / item_values.max(1)).max(1), &|items| {
            // SAFETY: the pool holds only paths that this machine has; items have places of their own in the scratch.
            unsafe {
                match form.kind {
                    Kind::Int8 => dispatch(pool.isa(), Quantize(Part { x, form, items, to, facts })),
                    Kind::Bf16 => dispatch(pool.isa(), Halve(Part { x, form, items, to, facts })),
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

/// Some groups of some blocks of rows.
struct Part<'a> {
    x: &'a [f32],
    form: Form,
    items: Range<usize>,
    to: Shared<u8>,
    facts: Shared<GroupFacts>,
}

/// One group of one row.
struct Place<'a> {
    /// Those that exist; the rest is zeros.
    values: &'a [f32],
    /// How many there are with the zeros.
    padded: usize,
    /// Where its first word goes; the next are `stride` words apart.
    words: *mut u32,
    stride: usize,
    facts: *mut GroupFacts,
}

impl Part<'_> {
    #[inline(always)]
    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let form = self.form;
        let groups = form.groups();
        let rows = move |item: usize| {
            let first = item / groups * form.block_rows;
            (first..form.rows.min(first + form.block_rows)).map(move |row| (row, item % groups))
        };
        self.items.clone().flat_map(rows).map(move |(row, group)| {
            let first = group * form.group;
            let values = &self.x[row * form.inputs..][..form.inputs];
            let values = values.get(first..).unwrap_or_default();
            let (start, stride) = form.block(row);
            let word = first * form.row_bytes() / form.padded / 4;
            let at = start + (word * stride + row % form.block_rows) * 4;
            Place {
                values: &values[..values.len().min(form.group)],
                padded: form.group.min(form.padded - first),
                words: self.to.get().wrapping_add(at).cast(),
                stride,
                facts: self.facts.get().wrapping_add(row * groups + group),
            }
        })
    }
}

/// Rounds to whole numbers.
struct Quantize<'a>(Part<'a>);

impl Operation for Quantize<'_> {
    /// # Safety
    /// `to` and `facts` must have room for all rows, and nobody else may touch those of these items.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        for Place { values, padded, words: to, stride, facts } in self.0.places() {
            let mut words = [0; GROUP_MOST / 4];
            // SAFETY: the words have room for a group; a place has room for its words and facts.
            unsafe {
                let scaling = Scaling::of::<V>(values);
                let sum = scaling.round::<V>(values, words.as_mut_ptr().cast());
                facts.write(GroupFacts { scale: scaling.scale, sum });
                interleave(&words[..padded / 4], to, stride);
            }
        }
    }
}

/// Rounds to bf16.
struct Halve<'a>(Part<'a>);

impl Operation for Halve<'_> {
    /// # Safety
    /// As for `Quantize`.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        const AT_ONCE: usize = 256;
        for Place { values, padded, words: to, stride, facts } in self.0.places() {
            for first in (0..padded).step_by(AT_ONCE) {
                let values = values.get(first..).unwrap_or_default();
                let (whole, rest) = values[..values.len().min(AT_ONCE)].as_chunks::<LANES>();
                let mut halves = [[0; LANES]; AT_ONCE / LANES];
                for (halves, values) in halves.iter_mut().zip(whole) {
                    for lane in 0..LANES {
                        halves[lane] = bf16_bits(values[lane]);
                    }
                }
                for (i, value) in rest.iter().enumerate() {
                    halves[whole.len()][i] = bf16_bits(*value);
                }
                let words: [u32; AT_ONCE / 2] = bytemuck::cast(halves);
                // SAFETY: a place has room for its words.
                unsafe {
                    interleave(&words[..AT_ONCE.min(padded - first) / 2], to.add(first / 2 * stride), stride);
                }
            }
            // SAFETY: a place has room for its facts.
            unsafe { facts.write(GroupFacts { scale: 1.0, sum: 0 }) };
        }
    }
}

/// Inputs of the largest group of whole numbers.
const GROUP_MOST: usize = 512;

/// Writes words `stride` words apart.
///
/// # Safety
/// There must be room, aligned for words, which nobody else touches.
#[inline(always)]
unsafe fn interleave(words: &[u32], to: *mut u32, stride: usize) {
    for (i, word) in words.iter().enumerate() {
        // SAFETY: as the caller promises.
        unsafe { to.add(i * stride).write(*word) };
    }
}

/// How a group is rounded: `x ≈ scale · q`.
#[derive(Clone, Copy)]
pub(crate) struct Scaling {
    pub scale: f32,
    inverse: f32,
}

impl Scaling {
    /// The largest value becomes 127. Where a value is no number, or infinite, the scale is NaN, and so is every output of the row.
    ///
    /// # Safety
    /// The caller answers for the instructions.
    #[inline(always)]
    pub unsafe fn of<V: Lanes>(values: &[f32]) -> Self {
        const LARGEST: f32 = 127.0;
        /// Below this a scale has no inverse; what is that small is zero.
        const LEAST: f32 = 1e-30;
        let (whole, rest) = values.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: arrays of sixteen.
        let (largest, nothing) = unsafe {
            let zero = V::splat(0.0);
            let (mut largest, mut nothing) = (zero, zero);
            for values in whole.iter().chain([&last]) {
                let values = V::load(values.as_ptr());
                largest = largest.max(values).max(zero.sub(values));
                nothing = nothing.add(values.sub(values));
            }
            (largest.largest(), nothing.sum())
        };
        let inverse = if largest >= LEAST { LARGEST / largest } else { 0.0 };
        // Nothing is zero, unless it is NaN.
        Self { scale: largest / LARGEST + nothing, inverse }
    }

    /// Writes the nearest whole numbers, ties to even, and returns their sum.
    ///
    /// # Safety
    /// `to` must have room for as many bytes as there are values, rounded up to sixteen; the caller answers for the instructions.
    #[inline(always)]
    pub unsafe fn round<V: Lanes>(self, values: &[f32], to: *mut i8) -> i32 {
        /// Adding and subtracting 1.5 · 2^23 rounds to the nearest whole number.
        const ROUNDER: f32 = 12_582_912.0;
        let (whole, rest) = values.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: arrays of sixteen; bytes stay inside the room that the caller promises.
        unsafe {
            let (inverse, rounder) = (V::splat(self.inverse), V::splat(ROUNDER));
            // Floats count exactly to 2^24; a group sums up to 2^16.
            let mut sum = V::splat(0.0);
            for (i, values) in whole.iter().chain((!rest.is_empty()).then_some(&last)).enumerate() {
                let rounded = V::load(values.as_ptr()).mul(inverse).add(rounder).sub(rounder);
                rounded.store_bytes(to.add(i * LANES));
                sum = sum.add(rounded);
            }
            sum.sum() as i32
        }
    }
}
