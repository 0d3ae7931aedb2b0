//! How are pairs of bf16 multiplied with AVX-512 BF16? Thirty-two at a time, into sixteen f32 sums.

use std::arch::x86_64::*;

use super::{Dots, DotsOperation};
use crate::cpu::lanes::avx512::F32x16;

#[derive(Clone, Copy)]
pub(super) struct PairSums(__m512);

// Every block below relies on the trait's promise: the processor has AVX-512 (F, BW, DQ, VL, BF16), because these methods are
// called only inside `enter`; and pointers are valid for the bytes that the method's documentation names.
impl Dots for PairSums {
    type Floats = F32x16<false>;
    type Bytes = __m512i;
    type Steps = __m512i;

    const ROWS: usize = 8;
    const PANELS_FEW: usize = 2;
    const PANELS: usize = 2;
    const BIAS: i32 = 0;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn enter<O: DotsOperation>(operation: O) {
        // SAFETY: the caller promises the features and the operation's fields.
        unsafe { operation.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_set1_ps(value as f32) })
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: AVX-512F; 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn steps(_from: *const u8) -> [Self::Steps; 2] {
        unreachable!("int4 is multiplied with whole numbers")
    }
    #[inline(always)]
    unsafe fn add_bytes(self, weights: Self::Bytes, x: *const u8) -> Self {
        // SAFETY: AVX-512 BF16; a readable pair of activations. Vectors of the same bits are the same.
        unsafe {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            let (weights, x) = (
                std::mem::transmute::<__m512i, __m512bh>(weights),
                std::mem::transmute::<__m512i, __m512bh>(x),
            );
            Self(_mm512_dpbf16_ps(self.0, weights, x))
        }
    }
    #[inline(always)]
    unsafe fn add_steps(self, _weights: Self::Steps, _x: *const u8) -> Self {
        unreachable!("int4 is multiplied with whole numbers")
    }
    #[inline(always)]
    unsafe fn floats(self) -> Self::Floats {
        F32x16(self.0)
    }
    #[inline(always)]
    unsafe fn widen_halves(_from: *const u16) -> Self::Floats {
        unreachable!("bf16 has no scales")
    }
}
