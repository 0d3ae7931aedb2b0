//! How are whole numbers multiplied with AVX-512 VNNI? Unsigned weights by signed activations, sixty-four at a time.

use std::arch::x86_64::*;

use super::{Dots, DotsOperation};
use crate::cpu::lanes::avx512::F32x16;

#[derive(Clone, Copy)]
pub(super) struct I32x16(__m512i);

// Every block below relies on the trait's promise: the processor has AVX-512 (F, BW, DQ, VL, VNNI), because these methods are
// called only inside `enter`; and pointers are valid for the bytes that the method's documentation names.
impl Dots for I32x16 {
    type Floats = F32x16<false>;
    type Bytes = __m512i;
    type Steps = __m512i;

    const ROWS: usize = 8;
    const PANELS_FEW: usize = 4;
    /// Sixteen sums hide the latency of an addition; the rest of the registers is for weights and constants.
    const PANELS: usize = 2;
    /// The instruction wants its other side unsigned. Weights become so in a register (-128 becomes 0): then nothing is stored for
    /// it, and what must be subtracted depends on the activations alone.
    const BIAS: i32 = 128;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn enter<O: DotsOperation>(operation: O) {
        // SAFETY: the caller promises the features and the operation's fields.
        unsafe { operation.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_set1_epi32(value) })
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: AVX-512F; 64 readable bytes.
        unsafe { _mm512_xor_si512(_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(-128)) }
    }
    #[inline(always)]
    unsafe fn steps(from: *const u8) -> [Self::Steps; 2] {
        // SAFETY: AVX-512F and BW; 64 readable bytes.
        unsafe {
            let (words, low) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(15));
            [_mm512_and_si512(words, low), _mm512_and_si512(_mm512_srli_epi16::<4>(words), low)]
        }
    }
    #[inline(always)]
    unsafe fn add_bytes(self, weights: Self::Bytes, x: *const u8) -> Self {
        // SAFETY: AVX-512 VNNI; four readable activations.
        unsafe {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            Self(_mm512_dpbusd_epi32(self.0, weights, x))
        }
    }
    #[inline(always)]
    unsafe fn add_steps(self, weights: Self::Steps, x: *const u8) -> Self {
        // SAFETY: as the caller promises.
        unsafe { self.add_bytes(weights, x) }
    }
    #[inline(always)]
    unsafe fn floats(self) -> Self::Floats {
        // SAFETY: AVX-512F.
        F32x16(unsafe { _mm512_cvtepi32_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn widen_halves(from: *const u16) -> Self::Floats {
        // SAFETY: AVX-512F; sixteen readable halves.
        F32x16(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }
}
