//! How do sixteen floats work with AVX-512? As one register.

use std::arch::x86_64::*;

use super::{Lanes, Operation};

/// `DOTS` says that the processor has BF16 and VNNI besides.
#[derive(Clone, Copy)]
pub(crate) struct F32x16<const DOTS: bool>(pub(crate) __m512);

// Every block below relies on the trait's promise: the processor has AVX-512 (F, BW, DQ, VL), because these methods are
// called only inside `enter`; and pointers are valid for the bytes that the method's documentation names.
impl<const DOTS: bool> Lanes for F32x16<DOTS> {
    /// Sixteen sums, eight widened weights and a broadcast leave registers to spare among 32.
    const ROWS: usize = 8;
    const PANELS: usize = 2;

    #[inline(always)]
    unsafe fn enter<O: Operation>(operation: O) {
        // SAFETY: the caller promises the features and the operation's fields.
        unsafe { if DOTS { enter_with_dots(operation) } else { enter_without(operation) } }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: AVX-512F; sixteen readable values.
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: AVX-512F; room for sixteen values.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: AVX-512F.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        // SAFETY: AVX-512F.
        unsafe {
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a.0, b.0);
            Self(_mm512_mask_blend_ps(less, no.0, yes.0))
        }
    }
    #[inline(always)]
    unsafe fn any_less(a: Self, b: Self) -> bool {
        // SAFETY: AVX-512F.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a.0, b.0) != 0 }
    }
    #[inline(always)]
    unsafe fn store_upper_pairs(first: Self, second: Self, to: *mut u32) {
        /// `a & b | c`, as a truth table.
        const AND_OR: i32 = 0b1110_1010;
        // SAFETY: AVX-512F; room for sixteen words.
        unsafe {
            let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(first.0));
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            let pairs = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_castps_si512(second.0), upper, low);
            _mm512_storeu_si512(to.cast(), pairs);
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) {
        // SAFETY: AVX-512F; room for sixteen bytes.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0))) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        // SAFETY: AVX-512F.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: AVX-512F.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: AVX-512F.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn widen_f16(from: *const u8) -> [Self; 4] {
        // SAFETY: AVX-512F; two groups of [16][2] halves, 64 bytes each.
        unsafe {
            let [a, b] = halves_apart(from);
            let [c, d] = halves_apart(from.add(64));
            [
                Self(_mm512_cvtph_ps(a)),
                Self(_mm512_cvtph_ps(b)),
                Self(_mm512_cvtph_ps(c)),
                Self(_mm512_cvtph_ps(d)),
            ]
        }
    }
    /// A bf16 is the upper half of an f32: the even input is shifted up, the odd one is masked.
    #[inline(always)]
    unsafe fn widen_bf16(from: *const u8) -> [Self; 4] {
        // SAFETY: AVX-512F; two groups of [16][2] halves, 64 bytes each.
        unsafe {
            let first = _mm512_loadu_si512(from.cast());
            let second = _mm512_loadu_si512(from.add(64).cast());
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            [
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(first))),
                Self(_mm512_castsi512_ps(_mm512_and_si512(first, upper))),
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(second))),
                Self(_mm512_castsi512_ps(_mm512_and_si512(second, upper))),
            ]
        }
    }
    /// Shifts and conversions of whole numbers all queue for one port; logic and sums have two. So each byte, made unsigned,
    /// becomes the low bits of a float whose unit is 1 (2^23 for bits 0-7, 2^15 for bits 8-15), and the surplus goes.
    #[inline(always)]
    unsafe fn widen_i8(from: *const u8) -> [Self; 4] {
        const TWO_TO_23: u32 = 0x4b00_0000;
        const TWO_TO_15: u32 = 0x4700_0000;
        // SAFETY: AVX-512F; one group of [16][4] bytes.
        unsafe {
            let group = _mm512_loadu_si512(from.cast());
            let lower = _mm512_xor_si512(group, _mm512_set1_epi32(0x8080_8080_u32 as i32));
            let upper = _mm512_srli_epi32::<16>(lower);
            [
                Self(unit::<0x0000_00ff, TWO_TO_23>(lower, 8_388_608.0 + 128.0)),
                Self(unit::<0x0000_ff00, TWO_TO_15>(lower, 32_768.0 + 128.0)),
                Self(unit::<0x0000_00ff, TWO_TO_23>(upper, 8_388_608.0 + 128.0)),
                Self(unit::<0x0000_ff00, TWO_TO_15>(upper, 32_768.0 + 128.0)),
            ]
        }
    }
}

/// # Safety
/// AVX-512 (F, BW, DQ, VL), and as the operation promises.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn enter_without<O: Operation>(operation: O) {
    // SAFETY: as the caller promises.
    unsafe { operation.run::<F32x16<false>>() }
}

/// # Safety
/// AVX-512 (F, BW, DQ, VL, BF16, VNNI), and as the operation promises.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma,f16c")]
unsafe fn enter_with_dots<O: Operation>(operation: O) {
    // SAFETY: as the caller promises.
    unsafe { operation.run::<F32x16<true>>() }
}

/// `(bits & MASK | EXPONENT) as f32 - surplus`.
///
/// # Safety
/// AVX-512F.
#[inline(always)]
unsafe fn unit<const MASK: u32, const EXPONENT: u32>(bits: __m512i, surplus: f32) -> __m512 {
    /// `a & b | c`, as a truth table.
    const AND_OR: i32 = 0b1110_1010;
    // SAFETY: as the caller promises.
    unsafe {
        let (mask, exponent) = (_mm512_set1_epi32(MASK as i32), _mm512_set1_epi32(EXPONENT as i32));
        let float = _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<AND_OR>(bits, mask, exponent));
        _mm512_sub_ps(float, _mm512_set1_ps(surplus))
    }
}

/// Sorts sixteen pairs of halves into the sixteen first and the sixteen second ones.
///
/// # Safety
/// AVX-512 F and BW; 64 readable bytes.
#[inline(always)]
unsafe fn halves_apart(from: *const u8) -> [__m256i; 2] {
    #[rustfmt::skip]
    const ORDER: [u16; 32] = [
        0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
        1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
    ];
    // SAFETY: as the caller promises; the order is 64 bytes.
    unsafe {
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        let sorted = _mm512_permutexvar_epi16(order, _mm512_loadu_si512(from.cast()));
        [_mm512_castsi512_si256(sorted), _mm512_extracti64x4_epi64::<1>(sorted)]
    }
}
