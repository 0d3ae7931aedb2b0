//! How is a product with a whole matrix cut into pieces for the cores?

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::OnceLock;

use super::dots::DotsPath;
use super::lanes::{LANES, Lanes, Operation, dispatch};
use super::product::{Bf16, F16, F32, Packed, Product};
use super::words;
use crate::memory::Shared;
use crate::{Isa, Matrix, Numerics, Pool, Precision, probe};

/// A thread is not worth waking for fewer bytes of weights than this; it takes a core about as long as a wake-up.
const RANGE_BYTES_LEAST: usize = 32 << 10;

/// Far enough ahead to cover the latency of memory at the speed one core reads.
const AHEAD_BYTES: isize = 2048;

/// `out = x · weightᵀ` on the pool's path: with f32 activations for weights that are floats, with int8 ones for whole numbers. Lengths have been checked by the caller.
pub(crate) fn matmul(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    match weight.precision() {
        Precision::F32 => run::<F32>(pool, x, rows, weight, out),
        Precision::F16 => run::<F16>(pool, x, rows, weight, out),
        Precision::Bf16 => match pairs(pool.isa(), pool.numerics()) {
            Some(path) if rows >= ROWS_FOR_PAIRS => words::matmul(path, pool, x, rows, weight, out),
            _ => run::<Bf16>(pool, x, rows, weight, out),
        },
        Precision::Int8 | Precision::Int4 => {
            words::matmul(DotsPath::of(pool.isa()), pool, x, rows, weight, out);
        }
    }
}

/// Rows from which products of bf16 are worth rounding activations for: before, memory is what they wait for.
const ROWS_FOR_PAIRS: usize = 5;

/// The path for many rows of bf16, where it pays: some processors have the instruction, and are not faster by it.
pub(crate) fn pairs(isa: Isa, numerics: Numerics) -> Option<DotsPath> {
    static PAYS: OnceLock<bool> = OnceLock::new();
    let path = DotsPath::of_pairs(isa).filter(|_| numerics == Numerics::Fast)?;
    PAYS.get_or_init(|| probe::pairs_pay(isa)).then_some(path)
}

fn run<W: Packed + Sync>(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    let out = Shared::new(out.as_mut_ptr());
    let least = (RANGE_BYTES_LEAST / (weight.panel_bytes() * rows).max(1)).max(1);
    pool.run_ranges(weight.panels(), least, &|panels| {
        let stride = weight.outputs();
        let part = Part::<W> { x, rows, weight, panels, out, first_panel: 0, stride, form: PhantomData };
        // SAFETY: the pool holds only paths this machine has; the ranges do not overlap, so neither do the outputs.
        unsafe { dispatch(pool.isa(), part) };
    });
}

/// The outputs of a range of panels, for all rows.
struct Part<'a, W> {
    x: &'a [f32],
    rows: usize,
    weight: &'a Matrix,
    panels: Range<usize>,
    /// The place of the first row's outputs of `first_panel`; rows are `stride` values apart.
    out: Shared<f32>,
    first_panel: usize,
    stride: usize,
    form: PhantomData<W>,
}

/// The outputs of a range of panels of float weights, for all rows of `x`, on one thread.
///
/// # Safety
/// The machine must have the path; `out` is the place of the first row's outputs of `first_panel`, must have room for all rows,
/// `stride` values apart, and nobody else may touch the outputs of these panels.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn part(
    isa: Isa,
    x: &[f32],
    rows: usize,
    weight: &Matrix,
    panels: Range<usize>,
    out: Shared<f32>,
    first_panel: usize,
    stride: usize,
) {
    macro_rules! run {
        ($form:ident) => {
            dispatch(
                isa,
                Part::<$form> { x, rows, weight, panels, out, first_panel, stride, form: PhantomData },
            )
        };
    }
    // SAFETY: as the caller promises.
    unsafe {
        match weight.precision() {
            Precision::F32 => run!(F32),
            Precision::F16 => run!(F16),
            Precision::Bf16 => run!(Bf16),
            Precision::Int8 | Precision::Int4 => unreachable!("whole numbers have products of their own"),
        }
    }
}

impl<W: Packed> Operation for Part<'_, W> {
    /// # Safety
    /// `out` must have room for `rows × outputs`, and nobody else may touch the outputs of these panels.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let outputs = self.weight.outputs();
        let whole = self.panels.start..self.panels.end.min(outputs / LANES);
        // SAFETY: whole panels have sixteen outputs each, all inside the rows of `out`.
        unsafe {
            if !whole.is_empty() {
                let out = self.out.get().add((whole.start - self.first_panel) * LANES);
                self.product(whole, out, self.stride, 0, self.rows).run::<V>();
            }
            if self.panels.end > outputs / LANES {
                self.last_panel::<V>();
            }
        }
    }
}

impl<W: Packed> Part<'_, W> {
    /// Some rows times some panels; `out` is the place of the first row's first output.
    #[inline(always)]
    unsafe fn product(
        &self,
        panels: Range<usize>,
        out: *mut f32,
        stride: usize,
        row: usize,
        rows: usize,
    ) -> Product<W> {
        let (inputs, first) = (self.weight.inputs(), panels.start * LANES);
        // SAFETY: rows lie in `x` and panels in the matrix, whose bytes and scales cover whole panels.
        unsafe {
            Product {
                x: self.x.as_ptr().add(row * inputs),
                x_stride: inputs,
                rows,
                inputs,
                weights: self.weight.start().add(panels.start * self.weight.panel_bytes()),
                panel_bytes: self.weight.panel_bytes(),
                panels: panels.len(),
                ahead: AHEAD_BYTES,
                out,
                out_stride: stride,
                carry: std::ptr::null(),
                scales: self.weight.scales().map_or(std::ptr::null(), |scales| scales.as_ptr().add(first)),
                form: PhantomData,
            }
        }
    }

    /// The panel that is only partly outputs goes through a buffer of whole lanes.
    #[inline(always)]
    unsafe fn last_panel<V: Lanes>(&self) {
        let outputs = self.weight.outputs();
        let (panel, first) = (outputs / LANES, outputs / LANES * LANES);
        let mut row = 0;
        while row < self.rows {
            let rows = (self.rows - row).min(V::ROWS);
            let mut buffer = [0.0; 8 * LANES];
            // SAFETY: at most eight rows of sixteen fit the buffer; then `outputs - first` values of each row are copied to
            // their places at the end of a row of `out`.
            unsafe {
                self.product(panel..panel + 1, buffer.as_mut_ptr(), LANES, row, rows).run::<V>();
                for i in 0..rows {
                    let to = self.out.get().add((row + i) * self.stride + first - self.first_panel * LANES);
                    std::ptr::copy_nonoverlapping(buffer.as_ptr().add(i * LANES), to, outputs - first);
                }
            }
            row += rows;
        }
    }
}
