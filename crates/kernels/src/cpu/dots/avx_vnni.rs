//! How are whole numbers multiplied with AVX-VNNI? As with AVX-512 VNNI, in two registers of half the width.

use std::arch::x86_64::*;

use super::{Dots, DotsOperation, avx2};
use crate::cpu::lanes::avx2::F32x16;

#[derive(Clone, Copy)]
pub(super) struct I32x16(__m256i, __m256i);

// Every block below relies on the trait's promise: the processor has AVX2, FMA, F16C and AVX-VNNI, because these methods are
// called only inside `enter`; and pointers are valid for the bytes that the method's documentation names.
impl Dots for I32x16 {
    type Floats = F32x16;
    type Bytes = [__m256i; 2];
    type Steps = [__m256i; 2];

    /// Four rows of one panel are eight sums; weights and constants share the other eight registers.
    const ROWS: usize = 4;
    const PANELS_FEW: usize = 2;
    const PANELS: usize = 1;
    const BIAS: i32 = 128;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    unsafe fn enter<O: DotsOperation>(operation: O) {
        // SAFETY: the caller promises the features and the operation's fields.
        unsafe { operation.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: AVX.
        unsafe { Self(_mm256_set1_epi32(value), _mm256_set1_epi32(value)) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: AVX2; 64 readable bytes.
        unsafe { avx2::load(from).map(|words| _mm256_xor_si256(words, _mm256_set1_epi8(-128))) }
    }
    #[inline(always)]
    unsafe fn steps(from: *const u8) -> [Self::Steps; 2] {
        // SAFETY: AVX2; 64 readable bytes.
        unsafe { avx2::halves_of_bytes(from) }
    }
    #[inline(always)]
    unsafe fn add_bytes(self, weights: Self::Bytes, x: *const u8) -> Self {
        // SAFETY: AVX-VNNI; four readable activations.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            Self(
                _mm256_dpbusd_avx_epi32(self.0, weights[0], x),
                _mm256_dpbusd_avx_epi32(self.1, weights[1], x),
            )
        }
    }
    #[inline(always)]
    unsafe fn add_steps(self, weights: Self::Steps, x: *const u8) -> Self {
        // SAFETY: as the caller promises.
        unsafe { self.add_bytes(weights, x) }
    }
    #[inline(always)]
    unsafe fn floats(self) -> Self::Floats {
        // SAFETY: AVX.
        unsafe { avx2::floats(self.0, self.1) }
    }
    #[inline(always)]
    unsafe fn widen_halves(from: *const u16) -> Self::Floats {
        // SAFETY: F16C; sixteen readable halves.
        unsafe { avx2::widen_halves(from) }
    }
}
