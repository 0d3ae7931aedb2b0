//! How do a few rows of operands meet a few panels of the cache in the registers?

// Loops over registers count: an iterator between them and their index has kept compilers from unrolling.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::form::Form;
use crate::cpu::lanes::{LANES, Lanes, Operation};

/// Blocks of one chunk.
pub(crate) const BLOCKS: usize = 4;

/// `out[m][n] = (carry[m] · out[m][n] + factor[m] · Σ_k x[m][k] · y[n][k]) · scale[n]` over whole panels of sixteen `n`.
///
/// Sums go through the blocks in order and start from nothing, whatever the number of rows and panels: this is why a row gives
/// the same bits alone and in a crowd.
#[derive(Clone, Copy)]
pub(crate) struct Panels<F> {
    /// `rows` rows of operands, so many words apart.
    pub operands: *const u32,
    pub operand_stride: usize,
    pub rows: usize,
    /// Where the first panel begins in each block, and what is to be brought near while it is read.
    pub blocks: [*const u8; BLOCKS],
    pub ahead: [*const u8; BLOCKS],
    /// `panels` panels, `panel_bytes` apart, of so many lines in each block; `lines` in all.
    pub panel_bytes: usize,
    pub panels: usize,
    pub block_lines: usize,
    pub lines: usize,
    /// One more line of each panel, 64 bytes apart; null for none.
    pub tail: *const u8,
    pub out: *mut f32,
    pub out_stride: usize,
    /// For each row; null for 0 and 1.
    pub carry: *const f32,
    pub factors: *const f32,
    /// In bf16; null for 1.
    pub scales: *const u16,
    pub form: PhantomData<F>,
}

impl<F: Form> Operation for Panels<F> {
    /// # Safety
    /// The pointers must be valid as their fields say, and `out` must not overlap anything else here.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let mut panel = 0;
        while panel < self.panels {
            let left = self.panels - panel;
            // SAFETY: `panel + P` never passes `panels`; the caller answers for the rest.
            panel += unsafe {
                // With one or two rows there are registers for more panels, and chains enough to hide a sum's latency.
                if self.rows <= 2 && V::PANELS > 1 && left >= 4 {
                    self.rows::<V, 4>(panel)
                } else if left >= 2 && V::PANELS > 1 {
                    self.rows::<V, 2>(panel)
                } else {
                    self.rows::<V, 1>(panel)
                }
            };
        }
    }
}

impl<F: Form> Panels<F> {
    /// All rows of `P` panels from `panel` on; returns `P`.
    #[inline(always)]
    unsafe fn rows<V: Lanes, const P: usize>(self, panel: usize) -> usize {
        let mut row = 0;
        while row < self.rows {
            let left = (self.rows - row).min(V::ROWS);
            // SAFETY: the block lies inside, and `enter` is called for the path that is already running.
            row += unsafe {
                let at = self.at(row, panel);
                match left {
                    8.. => at.enter::<V, 8, P>(),
                    4.. => at.enter::<V, 4, P>(),
                    2.. => at.enter::<V, 2, P>(),
                    _ => at.enter::<V, 1, P>(),
                }
            };
        }
        P
    }

    #[inline(always)]
    unsafe fn enter<V: Lanes, const M: usize, const P: usize>(self) -> usize {
        // SAFETY: as the caller promises.
        unsafe { V::enter(Registers::<F, M, P>(self)) };
        M
    }

    #[inline(always)]
    unsafe fn at(self, row: usize, panel: usize) -> Self {
        // SAFETY: the caller stays inside `rows` and `panels`, for which the pointers are valid; null stays null.
        unsafe {
            let shifted = |pointer: *const u8| pointer.wrapping_add(panel * self.panel_bytes);
            let row_of = |values: *const f32| if values.is_null() { values } else { values.add(row) };
            Self {
                operands: self.operands.add(row * self.operand_stride),
                blocks: self.blocks.map(shifted),
                ahead: self.ahead.map(shifted),
                tail: if self.tail.is_null() { self.tail } else { self.tail.add(panel * 64) },
                out: self.out.add(row * self.out_stride + panel * LANES),
                carry: row_of(self.carry),
                factors: row_of(self.factors),
                scales: if self.scales.is_null() { self.scales } else { self.scales.add(panel * LANES) },
                ..self
            }
        }
    }
}

/// The upper left `M` rows and `P` panels, all sums in registers.
struct Registers<F, const M: usize, const P: usize>(Panels<F>);

impl<F: Form, const M: usize, const P: usize> Operation for Registers<F, M, P> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        /// With so few rows the memory is waited for, and with more it is not worth a load at each line.
        const ROWS_WAITING: usize = 4;
        let Self(all) = self;
        // SAFETY: the fields promise M rows, P panels and `lines` lines in the blocks; prefetching cannot fault.
        unsafe {
            let mut sums = [[F::no_sum::<V>(); P]; M];
            let mut operand = all.operands;
            let mut left = all.lines;
            for block in 0..BLOCKS {
                let lines = left.min(all.block_lines);
                for line in 0..lines {
                    let from = all.blocks[block].add(line * 64);
                    if M <= ROWS_WAITING {
                        for p in 0..P {
                            V::prefetch(all.ahead[block].wrapping_add(p * all.panel_bytes + line * 64));
                        }
                    }
                    step::<V, F, M, P>(&mut sums, from, all.panel_bytes, operand, all.operand_stride);
                    operand = operand.add(F::WORDS);
                }
                left -= lines;
                if left == 0 {
                    break;
                }
            }
            if !all.tail.is_null() {
                step::<V, F, M, P>(&mut sums, all.tail, 64, operand, all.operand_stride);
            }
            for m in 0..M {
                for p in 0..P {
                    let out = all.out.add(m * all.out_stride + p * LANES);
                    let mut sum = F::float::<V>(sums[m][p]);
                    if !all.factors.is_null() {
                        sum = sum.mul(V::splat(*all.factors.add(m)));
                    }
                    if !all.carry.is_null() {
                        sum = V::load(out).mul_add(V::splat(*all.carry.add(m)), sum);
                    }
                    if !all.scales.is_null() {
                        sum = sum.mul(V::load_bf16(all.scales.add(p * LANES)));
                    }
                    sum.store(out);
                }
            }
        }
    }
}

/// Adds the products of one line of each panel.
#[inline(always)]
unsafe fn step<V: Lanes, F: Form, const M: usize, const P: usize>(
    sums: &mut [[F::Sum<V>; P]; M],
    from: *const u8,
    panel_bytes: usize,
    operand: *const u32,
    operand_stride: usize,
) {
    // SAFETY: a line of each panel and an operand of each row are readable, as the caller promises.
    unsafe {
        let mut lines = [F::open::<V>(from); P];
        for p in 1..P {
            lines[p] = F::open::<V>(from.add(p * panel_bytes));
        }
        for m in 0..M {
            for p in 0..P {
                sums[m][p] = F::dot::<V>(sums[m][p], lines[p], operand.add(m * operand_stride));
            }
        }
    }
}
