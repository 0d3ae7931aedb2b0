//! How do sixteen floats work with AVX2? As two registers.

use std::arch::x86_64::*;

use super::{Lanes, Operation};

#[derive(Clone, Copy)]
pub(crate) struct F32x16(pub(crate) __m256, pub(crate) __m256);

// Every block below relies on the trait's promise: the processor has AVX2, FMA and F16C, because these methods are called
// only inside `enter`; and pointers are valid for the bytes that the method's documentation names.
impl Lanes for F32x16 {
    /// Four rows of one panel are eight sums; weights and a broadcast share the other eight registers.
    const ROWS: usize = 4;
    const PANELS: usize = 1;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn enter<O: Operation>(operation: O) {
        // SAFETY: the caller promises the features and the operation's fields.
        unsafe { operation.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: AVX.
        unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: AVX; sixteen readable values.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: AVX; room for sixteen values.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: AVX.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: AVX.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: AVX.
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: AVX.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: FMA.
        unsafe {
            Self(_mm256_fmadd_ps(self.0, factor.0, addend.0), _mm256_fmadd_ps(self.1, factor.1, addend.1))
        }
    }
    #[inline(always)]
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        // SAFETY: AVX.
        unsafe {
            Self(
                _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0)),
                _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1)),
            )
        }
    }
    #[inline(always)]
    unsafe fn any_less(a: Self, b: Self) -> bool {
        // SAFETY: AVX.
        unsafe {
            let less =
                _mm256_or_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1));
            _mm256_movemask_ps(less) != 0
        }
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        // SAFETY: AVX2.
        unsafe { Self(exp2_whole(self.0), exp2_whole(self.1)) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn widen_f16(from: *const u8) -> [Self; 4] {
        // SAFETY: F16C, AVX2; two groups of [16][2] halves, 32 bytes for eight outputs.
        unsafe {
            let ([a0, b0], [a1, b1]) = (halves_apart(from), halves_apart(from.add(32)));
            let ([c0, d0], [c1, d1]) = (halves_apart(from.add(64)), halves_apart(from.add(96)));
            [
                Self(_mm256_cvtph_ps(a0), _mm256_cvtph_ps(a1)),
                Self(_mm256_cvtph_ps(b0), _mm256_cvtph_ps(b1)),
                Self(_mm256_cvtph_ps(c0), _mm256_cvtph_ps(c1)),
                Self(_mm256_cvtph_ps(d0), _mm256_cvtph_ps(d1)),
            ]
        }
    }
    /// A bf16 is the upper half of an f32: the even input is shifted up, the odd one is masked.
    #[inline(always)]
    unsafe fn widen_bf16(from: *const u8) -> [Self; 4] {
        // SAFETY: AVX2; two groups of [16][2] halves, 32 bytes for eight outputs.
        unsafe {
            let (a, b) = (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast()));
            let (c, d) = (_mm256_loadu_si256(from.add(64).cast()), _mm256_loadu_si256(from.add(96).cast()));
            [Self(even(a), even(b)), Self(odd(a), odd(b)), Self(even(c), even(d)), Self(odd(c), odd(d))]
        }
    }
    #[inline(always)]
    unsafe fn widen_i8(from: *const u8) -> [Self; 4] {
        // SAFETY: AVX2; one group of [16][4] bytes, 32 bytes for eight outputs.
        unsafe {
            let low = bytes_apart(_mm256_loadu_si256(from.cast()));
            let high = bytes_apart(_mm256_loadu_si256(from.add(32).cast()));
            [Self(low[0], high[0]), Self(low[1], high[1]), Self(low[2], high[2]), Self(low[3], high[3])]
        }
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn exp2_whole(x: __m256) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn even(pairs: __m256i) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)) }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn odd(pairs: __m256i) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32))) }
}

/// Sorts eight pairs of halves into the eight first and the eight second ones.
///
/// # Safety
/// AVX2; 32 readable bytes.
#[inline(always)]
unsafe fn halves_apart(from: *const u8) -> [__m128i; 2] {
    // SAFETY: as the caller promises.
    unsafe {
        #[rustfmt::skip]
        let order = _mm256_setr_epi8(
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
        );
        let within = _mm256_shuffle_epi8(_mm256_loadu_si256(from.cast()), order);
        let sorted = _mm256_permute4x64_epi64::<0b11_01_10_00>(within);
        [_mm256_castsi256_si128(sorted), _mm256_extracti128_si256::<1>(sorted)]
    }
}

/// Sorts eight groups of four signed bytes into four vectors of eight floats.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn bytes_apart(group: __m256i) -> [__m256; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        [
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(group))),
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<16>(group))),
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<8>(group))),
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(group)),
        ]
    }
}
