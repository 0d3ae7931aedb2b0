//! How are whole numbers multiplied with AVX2? In pairs of i16, with the sign moved to where the instruction wants it.

use std::arch::x86_64::*;

use super::{Dots, DotsOperation};
use crate::cpu::lanes::avx2::F32x16;

#[derive(Clone, Copy)]
pub(super) struct I32x16(__m256i, __m256i);

// Every block below relies on the trait's promise: the processor has AVX2, FMA and F16C, because these methods are called
// only inside `enter`; and pointers are valid for the bytes that the method's documentation names.
impl Dots for I32x16 {
    type Floats = F32x16;
    type Bytes = [__m256i; 2];
    type Steps = [__m256i; 2];

    /// Two rows of one panel are four sums; the sign trick takes many registers for a moment.
    const ROWS: usize = 4;
    const PANELS_FEW: usize = 1;
    const PANELS: usize = 1;
    const BIAS: i32 = 0;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
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
        unsafe { load(from) }
    }
    #[inline(always)]
    unsafe fn steps(from: *const u8) -> [Self::Steps; 2] {
        // SAFETY: AVX2; 64 readable bytes.
        unsafe { halves_of_bytes(from) }
    }
    /// `|w| · (x · sign w)`: two products of at most 128 · 127 fit the i16 that the instruction saturates at.
    #[inline(always)]
    unsafe fn add_bytes(self, weights: Self::Bytes, x: *const u8) -> Self {
        // SAFETY: AVX2; four readable activations.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let dots = |w| add_pairs(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)));
            Self(_mm256_add_epi32(self.0, dots(weights[0])), _mm256_add_epi32(self.1, dots(weights[1])))
        }
    }
    /// Two products of at most 15 · 127 fit the i16 by far.
    #[inline(always)]
    unsafe fn add_steps(self, weights: Self::Steps, x: *const u8) -> Self {
        // SAFETY: AVX2; four readable activations.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let dots = |w| add_pairs(_mm256_maddubs_epi16(w, x));
            Self(_mm256_add_epi32(self.0, dots(weights[0])), _mm256_add_epi32(self.1, dots(weights[1])))
        }
    }
    #[inline(always)]
    unsafe fn floats(self) -> Self::Floats {
        // SAFETY: AVX.
        unsafe { floats(self.0, self.1) }
    }
    #[inline(always)]
    unsafe fn widen_halves(from: *const u16) -> Self::Floats {
        // SAFETY: F16C; sixteen readable halves.
        unsafe { widen_halves(from) }
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn add_pairs(pairs: __m256i) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe { _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)) }
}

/// # Safety
/// AVX; 64 readable bytes.
#[inline(always)]
pub(super) unsafe fn load(from: *const u8) -> [__m256i; 2] {
    // SAFETY: as the caller promises.
    unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
}

/// The low and the high halves of 64 bytes.
///
/// # Safety
/// AVX2; 64 readable bytes.
#[inline(always)]
pub(super) unsafe fn halves_of_bytes(from: *const u8) -> [[__m256i; 2]; 2] {
    // SAFETY: as the caller promises.
    unsafe {
        let (words, low) = (load(from), _mm256_set1_epi8(15));
        [
            words.map(|words| _mm256_and_si256(words, low)),
            words.map(|words| _mm256_and_si256(_mm256_srli_epi16::<4>(words), low)),
        ]
    }
}

/// # Safety
/// AVX.
#[inline(always)]
pub(super) unsafe fn floats(low: __m256i, high: __m256i) -> F32x16 {
    // SAFETY: as the caller promises.
    unsafe { F32x16(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)) }
}

/// # Safety
/// F16C; sixteen readable halves.
#[inline(always)]
pub(super) unsafe fn widen_halves(from: *const u16) -> F32x16 {
    // SAFETY: as the caller promises.
    unsafe {
        F32x16(
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
        )
    }
}
