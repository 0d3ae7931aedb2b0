//! How are weights multiplied word by word, with activations that have been rounded to fit: int8 and int4 with int8, bf16 with bf16?
//!
//! A block of rows meets a few panels with all sums in registers; at the end of each group of inputs the sums become floats, times
//! what a step of that group is worth. A row's sums are added in one order whatever stands beside it, so it gives the same bits
//! alone and in a crowd, with any number of threads.

// Loops over registers count: an iterator between them and their index has kept compilers from unrolling.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;
use std::ops::Range;

use super::dots::{Dots, DotsOperation, DotsPath, dispatch};
use super::lanes::{LANES, Lanes};
use super::quantize::{Activations, Form, GroupFacts, Kind};
use crate::matrix::INT4_GROUP;
use crate::memory::Shared;
use crate::{Matrix, Pool, Precision};

/// Inputs of int8 activations that share a scale. So few sums become floats that it costs next to nothing, also on tiles.
pub(crate) const INT8_GROUP: usize = 512;

/// Inputs after which sums of bf16 are added up: what one piece has.
const BF16_GROUP: usize = 1024;

/// A thread is not worth waking for fewer bytes of weights than this; it takes a core about as long as a wake-up.
const RANGE_BYTES_LEAST: usize = 32 << 10;

/// Far enough ahead to cover the latency of memory at the speed one core reads.
const AHEAD_BYTES: usize = 2048;

/// With more rows than one block: what stays in a second-level cache of a megabyte while all blocks of rows meet it, beside the
/// rows that stream through and what is being fetched for later. With few rows less, so that there soon is something to fetch for.
const PIECE_BYTES_MOST: usize = 128 << 10;
const PIECE_BYTES_PER_BLOCK: usize = 32 << 10;

/// Activations of one row in a piece: those of one block of rows then stay in the nearest cache while panels pass.
const PIECE_ROW_BYTES: usize = 1024;

/// `out = rounded(x) · weightᵀ`, on a path of this machine that fits the weight. Lengths have been checked by the caller.
pub(crate) fn matmul(path: DotsPath, pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    let form = form(path, rows, weight);
    let activations = Activations::round(pool, x, form);
    let out = Shared::new(out.as_mut_ptr());
    let least = (RANGE_BYTES_LEAST / (weight.panel_bytes() * rows).max(1)).max(1);
    pool.run_ranges(weight.panels(), least, &|panels| {
        let part =
            Part { activations: &activations, weight, panels, out, first_panel: 0, stride: weight.outputs() };
        // SAFETY: the pool holds only paths this machine has; the ranges do not overlap, so neither do the outputs.
        unsafe { part.run(path) };
    });
}

/// How rows are laid out to be multiplied by this weight.
pub(crate) fn form(path: DotsPath, rows: usize, weight: &Matrix) -> Form {
    let (precision, inputs) = (weight.precision(), weight.inputs());
    let (kind, group) = match precision {
        Precision::Int4 => (Kind::Int8, INT4_GROUP),
        Precision::Int8 => (Kind::Int8, INT8_GROUP),
        _ => (Kind::Bf16, BF16_GROUP),
    };
    Form { rows, inputs, padded: precision.padded_inputs(inputs), group, block_rows: path.rows(), kind }
}

/// The outputs of a range of panels, for all rows.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    pub activations: &'a Activations<'a>,
    pub weight: &'a Matrix,
    pub panels: Range<usize>,
    /// The place of the first row's outputs of `first_panel`; rows are `stride` values apart.
    pub out: Shared<f32>,
    pub first_panel: usize,
    pub stride: usize,
}

impl Part<'_> {
    /// # Safety
    /// The machine must have the path; `out` must have room for all rows, and nobody else may touch the outputs of these panels.
    pub unsafe fn run(self, path: DotsPath) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.weight.precision() {
                Precision::Int4 => dispatch(path, PartOf::<Steps>(self, PhantomData)),
                Precision::Int8 => dispatch(path, PartOf::<Bytes>(self, PhantomData)),
                _ => dispatch(path, PartOf::<Pairs>(self, PhantomData)),
            }
        }
    }
}

struct PartOf<'a, W>(Part<'a>, PhantomData<W>);

impl<W: Weights> DotsOperation for PartOf<'_, W> {
    /// # Safety
    /// `out` must have room for `rows × outputs`, and nobody else may touch the outputs of these panels.
    #[inline(always)]
    unsafe fn run<D: Dots>(self) {
        let part = self.0;
        let (form, outputs) = (part.activations.form(), part.weight.outputs());
        let whole = part.panels.start..part.panels.end.min(outputs / LANES);
        // SAFETY: whole panels have sixteen outputs each, all inside the rows of `out`; the one behind them goes through a buffer.
        unsafe {
            if form.rows <= D::ROWS {
                let out = part.out.get().add((whole.start - part.first_panel) * LANES);
                part.block::<D, W>(0, whole.clone(), 0..form.groups(), out, part.stride, None);
            } else {
                part.pieces::<D, W>(whole.clone());
            }
            if whole.end < part.panels.end {
                part.last_panel::<D, W>(whole.end);
            }
        }
    }
}

/// Rows of the largest block.
const MOST_ROWS: usize = 8;

/// Some panels and groups that all rows meet before the next ones.
#[derive(Clone)]
struct Piece {
    panels: Range<usize>,
    groups: Range<usize>,
}

/// What a block of rows fetches for later, as a share of the next piece.
struct Fetch<'a> {
    next: &'a Piece,
    /// Which of how many shares.
    share: usize,
    shares: usize,
}

impl Part<'_> {
    /// All rows times some panels, piece by piece; each block of rows fetches its share of the next piece, so that memory and
    /// arithmetic are busy at the same time.
    #[inline(always)]
    unsafe fn pieces<D: Dots, W: Weights>(&self, panels: Range<usize>) {
        let (form, stride) = (self.activations.form(), self.stride);
        let blocks = form.rows.div_ceil(D::ROWS);
        let groups_at_once = (PIECE_ROW_BYTES / W::activation_bytes(form.group)).max(1);
        let panel_bytes = W::bytes(form.group * groups_at_once.min(form.groups()));
        let bytes = (blocks * PIECE_BYTES_PER_BLOCK).min(PIECE_BYTES_MOST);
        let panels_at_once = (bytes / panel_bytes.max(1)).next_multiple_of(D::PANELS).max(D::PANELS);

        let pieces = panels
            .clone()
            .step_by(panels_at_once)
            .flat_map(|first| (0..form.groups()).step_by(groups_at_once).map(move |group| (first, group)));
        let mut pieces = pieces
            .map(|(first, group)| Piece {
                panels: first..panels.end.min(first + panels_at_once),
                groups: group..form.groups().min(group + groups_at_once),
            })
            .peekable();
        let mut is_near = false;
        while let Some(piece) = pieces.next() {
            let next = pieces.peek();
            for block in 0..blocks {
                let row = block * D::ROWS;
                let share = |next| Fetch { next, share: block, shares: blocks };
                // The first piece that nobody has fetched brings itself, with the first rows.
                let fetch = if is_near || block > 0 { next.map(share) } else { None };
                // SAFETY: whole panels have sixteen outputs each, all inside the rows of `out`.
                unsafe {
                    let first = (piece.panels.start - self.first_panel) * LANES;
                    let out = self.out.get().add(row * stride + first);
                    self.block::<D, W>(row, piece.panels.clone(), piece.groups.clone(), out, stride, fetch);
                }
            }
            is_near = true;
        }
    }

    /// The panel that is only partly outputs goes through a buffer of whole lanes.
    #[inline(always)]
    unsafe fn last_panel<D: Dots, W: Weights>(&self, panel: usize) {
        let (form, outputs) = (self.activations.form(), self.weight.outputs());
        let left = outputs - panel * LANES;
        for row in (0..form.rows).step_by(D::ROWS) {
            let mut buffer = [0.0_f32; MOST_ROWS * LANES];
            // SAFETY: at most eight rows of sixteen fit the buffer; then `left` values of each row are copied to their places at
            // the end of a row of `out`.
            unsafe {
                let groups = 0..form.groups();
                self.block::<D, W>(row, panel..panel + 1, groups, buffer.as_mut_ptr(), LANES, None);
                for i in 0..(form.rows - row).min(D::ROWS) {
                    let to = self.out.get().add((row + i) * self.stride + (panel - self.first_panel) * LANES);
                    std::ptr::copy_nonoverlapping(buffer.as_ptr().add(i * LANES), to, left);
                }
            }
        }
    }

    /// One block of rows times some panels and groups; `out` is the place of the first row's first output.
    #[inline(always)]
    unsafe fn block<D: Dots, W: Weights>(
        &self,
        row: usize,
        panels: Range<usize>,
        groups: Range<usize>,
        out: *mut f32,
        out_stride: usize,
        fetch: Option<Fetch<'_>>,
    ) {
        const { assert!(D::ROWS <= MOST_ROWS) };
        let form = self.activations.form();
        let (start, rows) = form.block(row);
        let most = if rows <= 2 { D::PANELS_FEW } else { D::PANELS };
        let mut panel = panels.start;
        while panel < panels.end {
            let left = panels.end - panel;
            // SAFETY: block, panels and groups exist; `P` panels are left; the path is the one that is already running.
            panel += unsafe {
                let product = Product {
                    x: self.activations.start().add(start),
                    facts: self.activations.facts(row),
                    form,
                    first_group: groups.start,
                    last_group: groups.end,
                    weights: self.weight.start().add(panel * self.weight.panel_bytes()),
                    panel_bytes: self.weight.panel_bytes(),
                    ahead: match &fetch {
                        Some(fetch) => self.ahead::<W>(fetch, panel - panels.start),
                        None => self.ahead_in_stream::<W>(panel, groups.start),
                    },
                    scales: W::scales(self.weight, panel),
                    out: out.add((panel - panels.start) * LANES),
                    out_stride,
                };
                match most.min(left) {
                    4.. => product.enter::<D, W, 4>(rows),
                    2 | 3 => product.enter::<D, W, 2>(rows),
                    _ => product.enter::<D, W, 1>(rows),
                }
            };
        }
    }

    fn ahead_in_stream<W: Weights>(&self, panel: usize, group: usize) -> Ahead {
        let at = panel * self.weight.panel_bytes() + W::bytes(group * self.activations.form().group);
        Ahead {
            start: self.weight.start().wrapping_add(at + AHEAD_BYTES),
            step: LANES * 4,
            stride: self.weight.panel_bytes(),
        }
    }

    /// While a panel of this piece is multiplied, as great a share of the same panel of the next piece is fetched.
    fn ahead<W: Weights>(&self, fetch: &Fetch<'_>, panel: usize) -> Ahead {
        let Fetch { next, share, shares } = fetch;
        let panel_bytes = W::bytes(next.groups.len() * self.activations.form().group);
        let panel = (next.panels.start + panel).min(next.panels.end - 1);
        let at =
            panel * self.weight.panel_bytes() + W::bytes(next.groups.start * self.activations.form().group);
        Ahead {
            start: self.weight.start().wrapping_add(at + panel_bytes * share / shares / 64 * 64),
            step: (LANES * 4).div_ceil(*shares),
            stride: self.weight.panel_bytes(),
        }
    }
}

/// What is brought near while a product runs: for each panel a line, `stride` bytes apart, and `step` bytes further with each step.
/// Addresses may lie anywhere.
#[derive(Clone, Copy)]
struct Ahead {
    start: *const u8,
    step: usize,
    stride: usize,
}

/// One block of rows, a few panels and some groups.
#[derive(Clone, Copy)]
struct Product {
    x: *const u8,
    /// Of the first row; the other rows' follow.
    facts: *const GroupFacts,
    form: Form,
    /// With a group that is not the first, `out` holds what came before; behind the last, sums become outputs.
    first_group: usize,
    last_group: usize,
    weights: *const u8,
    panel_bytes: usize,
    ahead: Ahead,
    scales: *const u8,
    out: *mut f32,
    out_stride: usize,
}

impl Product {
    /// Returns `P`.
    #[inline(always)]
    unsafe fn enter<D: Dots, W: Weights, const P: usize>(self, rows: usize) -> usize {
        // SAFETY: as the caller promises.
        unsafe {
            match rows {
                1 => D::enter(Block::<W, 1, P>(self, PhantomData)),
                2 => D::enter(Block::<W, 2, P>(self, PhantomData)),
                3 => D::enter(Block::<W, 3, P>(self, PhantomData)),
                4 => D::enter(Block::<W, 4, P>(self, PhantomData)),
                5 => D::enter(Block::<W, 5, P>(self, PhantomData)),
                6 => D::enter(Block::<W, 6, P>(self, PhantomData)),
                7 => D::enter(Block::<W, 7, P>(self, PhantomData)),
                _ => D::enter(Block::<W, 8, P>(self, PhantomData)),
            }
        }
        P
    }
}

/// Floats of one block, in memory between groups: the registers are full of whole-number sums.
#[repr(align(64))]
struct Totals<const M: usize, const P: usize>([[[f32; LANES]; P]; M]);

struct Block<W, const M: usize, const P: usize>(Product, PhantomData<W>);

impl<W: Weights, const M: usize, const P: usize> DotsOperation for Block<W, M, P> {
    #[inline(always)]
    unsafe fn run<D: Dots>(self) {
        let product = self.0;
        let form = product.form;
        let groups = form.groups();
        let mut totals = Totals([[[0.0; LANES]; P]; M]);
        // SAFETY: M rows and P panels exist at the pointers, each with all groups; whatever is read of a group lies before the
        // padded inputs' end.
        unsafe {
            let out = |m: usize, p: usize| product.out.add(m * product.out_stride + p * LANES);
            if product.first_group > 0 {
                for m in 0..M {
                    for p in 0..P {
                        D::Floats::load(out(m, p)).store(totals.0[m][p].as_mut_ptr());
                    }
                }
            }
            let mut ahead = product.ahead.start;
            for group in product.first_group..product.last_group {
                let first = group * form.group;
                let steps = form.group.min(form.padded - first) / W::STEP;
                let facts: [GroupFacts; M] = std::array::from_fn(|m| *product.facts.add(m * groups + group));
                let mut sums = [[D::splat(0); P]; M];
                for m in 0..M {
                    sums[m] = [D::splat(-W::bias::<D>() * facts[m].sum); P];
                }
                let mut x = product.x.add(W::activation_bytes(first) * M);
                let mut weights = product.weights.add(W::bytes(first));
                for _ in 0..steps {
                    for p in 0..P {
                        D::Floats::prefetch(ahead.wrapping_add(p * product.ahead.stride));
                    }
                    W::step::<D, M, P>(&mut sums, x, weights, product.panel_bytes);
                    x = x.add(W::activation_bytes(W::STEP) * M);
                    weights = weights.add(LANES * 4);
                    ahead = ahead.wrapping_add(product.ahead.step);
                }
                W::add_group::<D, M, P>(&mut totals, &sums, &facts, product.scales, group, groups);
            }
            for m in 0..M {
                for p in 0..P {
                    let mut total = D::Floats::load(totals.0[m][p].as_ptr());
                    if product.last_group == groups {
                        total = W::finish::<D>(total, product.scales, p);
                    }
                    total.store(out(m, p));
                }
            }
        }
    }
}

/// A packed form of weights.
///
/// # Safety
/// Methods read what `Block` promises to be there, with the instructions of `D`.
trait Weights: Copy {
    /// Inputs in one word.
    const STEP: usize;

    /// Bytes that so many inputs of one panel occupy.
    fn bytes(inputs: usize) -> usize {
        inputs / Self::STEP * LANES * 4
    }
    /// Bytes that so many activations of one row occupy.
    fn activation_bytes(inputs: usize) -> usize {
        inputs
    }
    fn bias<D: Dots>() -> i32;
    /// The scales of a panel.
    unsafe fn scales(weight: &Matrix, panel: usize) -> *const u8;
    /// Adds the products of one word of each output.
    unsafe fn step<D: Dots, const M: usize, const P: usize>(
        sums: &mut [[D; P]; M],
        x: *const u8,
        weights: *const u8,
        panel_bytes: usize,
    );
    /// Adds what the sums of a group are worth.
    unsafe fn add_group<D: Dots, const M: usize, const P: usize>(
        totals: &mut Totals<M, P>,
        sums: &[[D; P]; M],
        facts: &[GroupFacts; M],
        scales: *const u8,
        group: usize,
        groups: usize,
    );
    unsafe fn finish<D: Dots>(total: D::Floats, scales: *const u8, panel: usize) -> D::Floats;
}

/// `Precision::Int8`.
#[derive(Clone, Copy)]
struct Bytes;

impl Weights for Bytes {
    const STEP: usize = 4;

    #[inline(always)]
    fn bias<D: Dots>() -> i32 {
        D::BIAS
    }
    #[inline(always)]
    unsafe fn scales(weight: &Matrix, panel: usize) -> *const u8 {
        weight.scales().expect("int8 has scales")[panel * LANES..].as_ptr().cast()
    }
    #[inline(always)]
    unsafe fn step<D: Dots, const M: usize, const P: usize>(
        sums: &mut [[D; P]; M],
        x: *const u8,
        weights: *const u8,
        panel_bytes: usize,
    ) {
        // SAFETY: four activations of each row and one line of each panel are readable.
        unsafe {
            for p in 0..P {
                let from = weights.add(p * panel_bytes);
                let words = D::bytes(from);
                for m in 0..M {
                    sums[m][p] = sums[m][p].add_bytes(words, x.add(m * 4));
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn add_group<D: Dots, const M: usize, const P: usize>(
        totals: &mut Totals<M, P>,
        sums: &[[D; P]; M],
        facts: &[GroupFacts; M],
        _scales: *const u8,
        _group: usize,
        _groups: usize,
    ) {
        // SAFETY: totals are arrays of sixteen.
        unsafe {
            for m in 0..M {
                let scale = D::Floats::splat(facts[m].scale);
                for p in 0..P {
                    let total = &mut totals.0[m][p];
                    let sum = sums[m][p].floats().mul_add(scale, D::Floats::load(total.as_ptr()));
                    sum.store(total.as_mut_ptr());
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn finish<D: Dots>(total: D::Floats, scales: *const u8, panel: usize) -> D::Floats {
        // SAFETY: each panel has sixteen scales.
        unsafe { total.mul(D::Floats::load(scales.cast::<f32>().add(panel * LANES))) }
    }
}

/// `Precision::Int4`.
#[derive(Clone, Copy)]
struct Steps;

impl Weights for Steps {
    const STEP: usize = 8;

    #[inline(always)]
    fn bias<D: Dots>() -> i32 {
        0
    }
    #[inline(always)]
    unsafe fn scales(weight: &Matrix, panel: usize) -> *const u8 {
        let groups = weight.inputs().div_ceil(INT4_GROUP);
        weight.int4_scales().expect("int4 has scales")[panel * groups..].as_ptr().cast()
    }
    #[inline(always)]
    unsafe fn step<D: Dots, const M: usize, const P: usize>(
        sums: &mut [[D; P]; M],
        x: *const u8,
        weights: *const u8,
        panel_bytes: usize,
    ) {
        // SAFETY: eight activations of each row and one line of each panel are readable.
        unsafe {
            for p in 0..P {
                let from = weights.add(p * panel_bytes);
                let [first, last] = D::steps(from);
                for m in 0..M {
                    sums[m][p] =
                        sums[m][p].add_steps(first, x.add(m * 4)).add_steps(last, x.add((M + m) * 4));
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn add_group<D: Dots, const M: usize, const P: usize>(
        totals: &mut Totals<M, P>,
        sums: &[[D; P]; M],
        facts: &[GroupFacts; M],
        scales: *const u8,
        group: usize,
        groups: usize,
    ) {
        // SAFETY: each panel and group has sixteen scales and sixteen minima; totals are arrays of sixteen.
        unsafe {
            for p in 0..P {
                let halves = scales.cast::<u16>().add((p * groups + group) * 2 * LANES);
                D::Floats::prefetch(halves.cast::<u8>().wrapping_add(AHEAD_BYTES / 4));
                let (scale, minimum) = (D::widen_halves(halves), D::widen_halves(halves.add(LANES)));
                for m in 0..M {
                    let GroupFacts { scale: worth, sum } = facts[m];
                    let total = &mut totals.0[m][p];
                    // minimum · Σq + scale · Σ(step · q), all times what one of the row's q is worth.
                    let steps = sums[m][p].floats().mul(scale);
                    let both = minimum.mul_add(D::Floats::splat(sum as f32), steps);
                    let added = both.mul_add(D::Floats::splat(worth), D::Floats::load(total.as_ptr()));
                    added.store(total.as_mut_ptr());
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn finish<D: Dots>(total: D::Floats, _scales: *const u8, _panel: usize) -> D::Floats {
        total
    }
}

/// `Precision::Bf16`.
#[derive(Clone, Copy)]
struct Pairs;

impl Weights for Pairs {
    const STEP: usize = 2;

    #[inline(always)]
    fn activation_bytes(inputs: usize) -> usize {
        2 * inputs
    }
    #[inline(always)]
    fn bias<D: Dots>() -> i32 {
        0
    }
    #[inline(always)]
    unsafe fn scales(_weight: &Matrix, _panel: usize) -> *const u8 {
        std::ptr::null()
    }
    #[inline(always)]
    unsafe fn step<D: Dots, const M: usize, const P: usize>(
        sums: &mut [[D; P]; M],
        x: *const u8,
        weights: *const u8,
        panel_bytes: usize,
    ) {
        // SAFETY: a pair of activations of each row is a word, as four bytes are.
        unsafe { Bytes::step(sums, x, weights, panel_bytes) }
    }
    #[inline(always)]
    unsafe fn add_group<D: Dots, const M: usize, const P: usize>(
        totals: &mut Totals<M, P>,
        sums: &[[D; P]; M],
        _facts: &[GroupFacts; M],
        _scales: *const u8,
        _group: usize,
        _groups: usize,
    ) {
        // SAFETY: totals are arrays of sixteen.
        unsafe {
            for m in 0..M {
                for p in 0..P {
                    let total = &mut totals.0[m][p];
                    sums[m][p].floats().add(D::Floats::load(total.as_ptr())).store(total.as_mut_ptr());
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn finish<D: Dots>(total: D::Floats, _scales: *const u8, _panel: usize) -> D::Floats {
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Int4Group, reference};

    /// A whole number from -127 to 127 for each place, 127 at the first of each group of 128: then every scale is exactly 1.
    fn whole(row: usize, i: usize) -> f32 {
        let mixed = (row * 7919 + i * 104_729) as u32;
        match i % 128 {
            0 => 127.0,
            _ => (mixed.wrapping_mul(2_654_435_761) >> 8) as f32 % 255.0 - 127.0,
        }
    }

    fn products_of_whole_numbers_are_exact(weight: &Matrix) {
        let (outputs, inputs) = (weight.outputs(), weight.inputs());
        let mut rows_of_weight = vec![0.0; outputs * inputs];
        rows_of_weight.chunks_exact_mut(inputs).enumerate().for_each(|(i, row)| weight.row(i, row));
        for rows in (1..=18).chain([25, 40]) {
            let x: Vec<f32> = (0..rows * inputs).map(|i| whole(i / inputs, i % inputs)).collect();
            let mut truth = vec![0.0; rows * outputs];
            reference::matmul::matmul(&x, &rows_of_weight, outputs, inputs, &mut truth);
            for threads in [1, 2] {
                let pool = Pool::new(threads);
                for path in DotsPath::available() {
                    let mut out = vec![f32::NAN; rows * outputs];
                    matmul(path, &pool, &x, rows, weight, &mut out);
                    assert!(out == truth, "{path:?}: {rows} × {outputs} × {inputs}");
                }
            }
        }
    }

    /// Outputs and inputs that are and are not multiples of 16, 4, 32, 128, 512 and of what is multiplied at once. The sums stay
    /// below 2^24, up to which floats count exactly.
    const SHAPES: [(usize, usize); 9] =
        [(1, 1), (16, 4), (17, 5), (33, 31), (70, 130), (64, 512), (100, 515), (40, 1030), (90, 4100)];

    #[test]
    fn int8_sums_are_exact_on_every_path() {
        for (outputs, inputs) in SHAPES {
            // Every weight -127, 0 or 127, seldom enough that a long sum stays small; the extremes are where i16 would overflow.
            let weight = Matrix::pack(Precision::Int8, outputs, inputs, &mut |row, values| {
                for (i, value) in values.iter_mut().enumerate() {
                    *value = match i {
                        0 => 127.0,
                        _ if inputs > 600 => whole(row + 31, i) % 5.0,
                        _ => whole(row + 31, i),
                    };
                }
            });
            products_of_whole_numbers_are_exact(&weight);
        }
        let extremes = Matrix::pack(Precision::Int8, 20, 256, &mut |row, values| {
            values
                .iter_mut()
                .enumerate()
                .for_each(|(i, value)| *value = if (row + i) % 3 == 0 { -127.0 } else { 127.0 });
        });
        products_of_whole_numbers_are_exact(&extremes);
    }

    #[test]
    fn pairs_of_small_whole_numbers_are_exact_where_there_are_pairs() {
        let Some(path) = DotsPath::of_pairs(crate::Isa::detect()) else { return };
        let pool = Pool::new(2);
        for (outputs, inputs) in SHAPES {
            let weight = Matrix::pack(Precision::Bf16, outputs, inputs, &mut |row, values| {
                values.iter_mut().enumerate().for_each(|(i, value)| *value = whole(row + 3, i));
            });
            let mut rows_of_weight = vec![0.0; outputs * inputs];
            rows_of_weight.chunks_exact_mut(inputs).enumerate().for_each(|(i, row)| weight.row(i, row));
            for rows in [1, 2, 7, 8, 9, 17, 33] {
                let x: Vec<f32> = (0..rows * inputs).map(|i| whole(i / inputs, i % inputs) % 15.0).collect();
                let (mut truth, mut out) = (vec![0.0; rows * outputs], vec![f32::NAN; rows * outputs]);
                reference::matmul::matmul(&x, &rows_of_weight, outputs, inputs, &mut truth);
                matmul(path, &pool, &x, rows, &weight, &mut out);
                assert!(out == truth, "{rows} × {outputs} × {inputs}");
            }
        }
    }

    #[test]
    fn int4_sums_are_exact_on_every_path() {
        for (outputs, inputs) in SHAPES {
            let weight = Matrix::pack_int4(&Pool::new(1), outputs, inputs, &|row, steps, groups| {
                for (i, step) in steps.iter_mut().enumerate() {
                    *step = whole(row + 5, i).rem_euclid(16.0) as u8;
                }
                for (i, group) in groups.iter_mut().enumerate() {
                    *group =
                        Int4Group { scale: (1 + (row + i) % 2) as f32, minimum: -((row + i) as f32 % 9.0) };
                }
            });
            products_of_whole_numbers_are_exact(&weight);
        }
    }
}
