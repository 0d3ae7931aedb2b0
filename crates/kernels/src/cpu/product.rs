//! How do a few rows of activations meet a few panels of weights in the registers?

// Loops over registers count: an iterator between them and their index has kept compilers from unrolling.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::lanes::{LANES, Lanes, Operation};

/// A packed form of weights: four inputs of sixteen outputs lie in `GROUP_BYTES` consecutive bytes.
pub(crate) trait Packed: Copy {
    const GROUP_BYTES: usize;

    /// # Safety
    /// The processor must have `V`'s instructions; `GROUP_BYTES` must be readable.
    unsafe fn widen<V: Lanes>(from: *const u8) -> [V; 4];
}

#[derive(Clone, Copy)]
pub(crate) struct F32;
#[derive(Clone, Copy)]
pub(crate) struct F16;
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

/// Inputs that one step of the inner loop takes.
const STEP: usize = 4;

/// `out[m][n] = (carry[m] · out[m][n] + Σ_k x[m][k] · w[n][k]) · scale[n]` over whole panels.
///
/// Each sum is one chain of fused multiply-adds over `k` in order, whatever the number of rows and panels: this is why a row
/// gives the same bits alone and in a crowd.
#[derive(Clone, Copy)]
pub(crate) struct Product<W> {
    /// `rows` rows of `inputs` values, `x_stride` values apart.
    pub x: *const f32,
    pub x_stride: usize,
    pub rows: usize,
    pub inputs: usize,
    /// `panels` panels, `panel_bytes` apart, each with `inputs` inputs rounded up to four.
    pub weights: *const u8,
    pub panel_bytes: usize,
    pub panels: usize,
    /// How many bytes ahead of what is read now lies what should be brought near meanwhile.
    pub ahead: isize,
    /// `rows` rows of `16 · panels` values, `out_stride` values apart.
    pub out: *mut f32,
    pub out_stride: usize,
    /// One factor for each row, for what `out` already holds; null to start from zero.
    pub carry: *const f32,
    /// One factor for each output; null for none.
    pub scales: *const f32,
    pub form: PhantomData<W>,
}

impl<W: Packed> Operation for Product<W> {
    /// # Safety
    /// The pointers must be valid as their fields say, and `out` must not overlap anything else here.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        /// With one or two rows there are registers for more panels, and chains enough to hide the latency of an addition.
        const ROWS_FEW: usize = 2;
        let mut panel = 0;
        while panel < self.panels {
            let left = self.panels - panel;
            // SAFETY: `panel + P` never passes `panels`; the caller answers for the rest.
            panel += unsafe {
                if self.rows <= ROWS_FEW && V::PANELS > 1 && left >= 4 {
                    self.panels::<V, 4>(panel)
                } else if left >= 2 && V::PANELS > 1 {
                    self.panels::<V, 2>(panel)
                } else {
                    self.panels::<V, 1>(panel)
                }
            };
        }
    }
}

impl<W: Packed> Product<W> {
    /// All rows of `P` panels from `panel` on; returns `P`.
    #[inline(always)]
    unsafe fn panels<V: Lanes, const P: usize>(self, panel: usize) -> usize {
        let mut row = 0;
        while row < self.rows {
            let rows = (self.rows - row).min(V::ROWS);
            // SAFETY: the block lies inside this product, and `enter` is called for the path that is already running.
            unsafe {
                let at = self.at(row, panel);
                match rows {
                    1 => V::enter(Block::<W, 1, P>(at)),
                    2 => V::enter(Block::<W, 2, P>(at)),
                    3 => V::enter(Block::<W, 3, P>(at)),
                    4 => V::enter(Block::<W, 4, P>(at)),
                    5 => V::enter(Block::<W, 5, P>(at)),
                    6 => V::enter(Block::<W, 6, P>(at)),
                    7 => V::enter(Block::<W, 7, P>(at)),
                    _ => V::enter(Block::<W, 8, P>(at)),
                }
            }
            row += rows;
        }
        P
    }

    #[inline(always)]
    unsafe fn at(self, row: usize, panel: usize) -> Self {
        // SAFETY: the caller stays inside `rows` and `panels`, for which the pointers are valid.
        unsafe {
            Self {
                x: self.x.add(row * self.x_stride),
                weights: self.weights.add(panel * self.panel_bytes),
                out: self.out.add(row * self.out_stride + panel * LANES),
                carry: if self.carry.is_null() { self.carry } else { self.carry.add(row) },
                scales: if self.scales.is_null() { self.scales } else { self.scales.add(panel * LANES) },
                ..self
            }
        }
    }
}

/// The upper left `M` rows and `P` panels of a product, all sums in registers.
struct Block<W, const M: usize, const P: usize>(Product<W>);

impl<W: Packed, const M: usize, const P: usize> Operation for Block<W, M, P> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        // SAFETY: the product promises M rows and P panels at its pointers; steps stay below `inputs`, and the last,
        // partial one reads weights that are padded to four and activations from a padded copy.
        unsafe {
            let Self(product) = self;
            let (steps, rest) = (product.inputs / STEP, product.inputs % STEP);
            // Before the sums exist: copying calls a function, and no register outlives a call.
            let mut padded = [[0.0; STEP]; M];
            for m in 0..if rest > 0 { M } else { 0 } {
                let from = product.x.add(m * product.x_stride + steps * STEP);
                std::ptr::copy_nonoverlapping(from, padded[m].as_mut_ptr(), rest);
            }
            let mut sums = self.start::<V>();
            for step in 0..steps {
                self.step::<V>(&mut sums, product.x.add(step * STEP), product.x_stride, step);
            }
            if rest > 0 {
                self.step::<V>(&mut sums, padded.as_ptr().cast(), STEP, steps);
            }
            self.finish::<V>(sums);
        }
    }
}

impl<W: Packed, const M: usize, const P: usize> Block<W, M, P> {
    #[inline(always)]
    unsafe fn start<V: Lanes>(&self) -> [[V; P]; M] {
        let Self(product) = self;
        // SAFETY: M carries and M × P sixteens of `out` are readable, as the product promises.
        unsafe {
            let mut sums = [[V::splat(0.0); P]; M];
            if !product.carry.is_null() {
                for m in 0..M {
                    let carry = V::splat(*product.carry.add(m));
                    for p in 0..P {
                        sums[m][p] = V::load(product.out.add(m * product.out_stride + p * LANES)).mul(carry);
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn step<V: Lanes>(&self, sums: &mut [[V; P]; M], x: *const f32, x_stride: usize, step: usize) {
        let Self(product) = self;
        // SAFETY: four activations of each row and one group of each panel are readable; prefetching cannot fault.
        unsafe {
            let mut weights = [[V::splat(0.0); STEP]; P];
            for p in 0..P {
                let from = product.weights.add(p * product.panel_bytes + step * W::GROUP_BYTES);
                for line in 0..W::GROUP_BYTES / 64 {
                    V::prefetch(from.wrapping_offset(product.ahead).wrapping_add(line * 64));
                }
                weights[p] = W::widen(from);
            }
            // Written out, so that compilers need not decide to unroll it: sums that are indexed by a variable live in memory.
            multiply_add::<V, M, P, 0>(sums, x, x_stride, &weights);
            multiply_add::<V, M, P, 1>(sums, x, x_stride, &weights);
            multiply_add::<V, M, P, 2>(sums, x, x_stride, &weights);
            multiply_add::<V, M, P, 3>(sums, x, x_stride, &weights);
        }
    }

    #[inline(always)]
    unsafe fn finish<V: Lanes>(&self, mut sums: [[V; P]; M]) {
        let Self(product) = self;
        // SAFETY: P sixteens of scales are readable and M × P sixteens of `out` writable, as the product promises.
        unsafe {
            if !product.scales.is_null() {
                for p in 0..P {
                    let scale = V::load(product.scales.add(p * LANES));
                    for m in 0..M {
                        sums[m][p] = sums[m][p].mul(scale);
                    }
                }
            }
            for m in 0..M {
                for p in 0..P {
                    sums[m][p].store(product.out.add(m * product.out_stride + p * LANES));
                }
            }
        }
    }
}

/// Adds the products of one input to all sums.
#[inline(always)]
unsafe fn multiply_add<V: Lanes, const M: usize, const P: usize, const K: usize>(
    sums: &mut [[V; P]; M],
    x: *const f32,
    x_stride: usize,
    weights: &[[V; STEP]; P],
) {
    for m in 0..M {
        // SAFETY: each row has four activations; the caller answers for the instructions.
        unsafe {
            let x = V::splat(*x.add(m * x_stride + K));
            for p in 0..P {
                sums[m][p] = x.mul_add(weights[p][K], sums[m][p]);
            }
        }
    }
}

impl Packed for F32 {
    const GROUP_BYTES: usize = 256;

    #[inline(always)]
    unsafe fn widen<V: Lanes>(from: *const u8) -> [V; 4] {
        let from = from.cast::<f32>();
        // SAFETY: four times sixteen values are readable, as the trait says.
        unsafe {
            [
                V::load(from),
                V::load(from.add(LANES)),
                V::load(from.add(2 * LANES)),
                V::load(from.add(3 * LANES)),
            ]
        }
    }
}

impl Packed for F16 {
    const GROUP_BYTES: usize = 128;

    #[inline(always)]
    unsafe fn widen<V: Lanes>(from: *const u8) -> [V; 4] {
        // SAFETY: as the trait says.
        unsafe { V::widen_f16(from) }
    }
}

impl Packed for Bf16 {
    const GROUP_BYTES: usize = 128;

    #[inline(always)]
    unsafe fn widen<V: Lanes>(from: *const u8) -> [V; 4] {
        // SAFETY: as the trait says.
        unsafe { V::widen_bf16(from) }
    }
}
