//! How do two tiles of rows meet two panels of weights, over all inputs?
//!
//! The stable compiler has no intrinsics for tiles, so the innermost loop is assembly. Sums stay in four tiles from the first
//! input to the last; each step loads two tiles of activations and two of weights for four products.

use std::arch::asm;

use super::{TILE, TILE_BYTES};

/// What one call works on.
#[derive(Clone, Copy)]
pub(super) struct Job {
    pub upper: *const u8,
    /// The tile row below, if there is one.
    pub lower: Option<*const u8>,
    pub panels: [*const u8; 2],
    pub steps: usize,
    /// What will be wanted next, to be brought near meanwhile.
    pub ahead: *const u8,
}

/// Lines that one step of the inner loop brings near from `Job::ahead`.
pub(super) const AHEAD_LINES: usize = 16;

/// Words of four bytes on either side that one instruction multiplies.
pub(super) trait Dot {
    /// What a sum is.
    type Sum: Copy + Default;

    /// One or two tiles of rows times two panels: two or four tiles of sums, `stride` values from row to row.
    ///
    /// # Safety
    /// Tiles must be configured in this thread. Each source must hold `steps ≥ 1` tiles in a row; `to` must have room for
    /// 32 values in each of 16 rows, or of 32 where there is a lower tile.
    unsafe fn multiply(job: Job, to: *mut Self::Sum, stride: usize);
}

/// Pairs of bf16; sums are f32.
pub(super) struct Bf16;
/// Four signed bytes; sums are i32.
pub(super) struct Int8;

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

macro_rules! dot {
    ($name:ident, $sum:ty, $instruction:literal) => {
        impl Dot for $name {
            type Sum = $sum;

            #[inline(always)]
            unsafe fn multiply(job: Job, to: *mut $sum, stride: usize) {
                let Job { upper, lower, panels: [left, right], steps, ahead } = job;
                debug_assert!(steps > 0);
                let Some(lower) = lower else {
                    // SAFETY: as the caller promises; all tile registers in use are named as overwritten.
                    unsafe {
                        asm!(
                            "tilezero tmm0",
                            "tilezero tmm1",
                            "2:",
                            "tileloadd tmm4, [{tile} + {line}]",
                            "tileloadd tmm6, [{left} + {line}]",
                            "tileloadd tmm7, [{right} + {line}]",
                            concat!($instruction, " tmm0, tmm4, tmm6"),
                            concat!($instruction, " tmm1, tmm4, tmm7"),
                            "add {tile}, 1024",
                            "add {left}, 1024",
                            "add {right}, 1024",
                            look_ahead!(),
                            "dec {steps}",
                            "jnz 2b",
                            "tilestored [{to} + {stride}], tmm0",
                            "tilestored [{to} + {stride} + 64], tmm1",
                            tile = inout(reg) upper => _,
                            left = inout(reg) left => _,
                            right = inout(reg) right => _,
                            ahead = inout(reg) ahead => _,
                            steps = inout(reg) steps => _,
                            line = in(reg) 64_usize,
                            to = in(reg) to,
                            stride = in(reg) stride * size_of::<$sum>(),
                            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                            options(nostack),
                        );
                    }
                    return;
                };
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
                        concat!($instruction, " tmm0, tmm4, tmm6"),
                        concat!($instruction, " tmm1, tmm4, tmm7"),
                        "tileloadd tmm5, [{lower} + {line}]",
                        concat!($instruction, " tmm2, tmm5, tmm6"),
                        concat!($instruction, " tmm3, tmm5, tmm7"),
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
                        stride = in(reg) stride * size_of::<$sum>(),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

dot!(Bf16, f32, "tdpbf16ps");
dot!(Int8, i32, "tdpbssd");

/// The loop goes on by 1024 bytes.
const _: () = assert!(TILE_BYTES == 1024);
