//! What does attention ask of sixteen lanes besides: sums of small products, and powers of two that are only as good as needed?

use super::{LANES, Lanes};

/// Sums of two products at once, as far as a processor has them.
///
/// # Safety
/// As for `Lanes`: the processor must have the implementation's instructions, and pointers must be valid for what the method
/// names.
pub(crate) trait Dots: Copy {
    /// Sixteen whole numbers of 32 bits; or sixteen pairs of 16 bits.
    type Whole: Copy;

    /// A line of sixteen pairs of bf16 as sixteen first and sixteen second values.
    unsafe fn open_bf16(line: *const u8) -> [Self; 2];
    /// `self + a · x + b · y` in each lane, for the pairs `(a, b)` of a line, kept as they are, and one pair `(x, y)`.
    unsafe fn dot_bf16(self, line: Self, pair: *const u32) -> Self;
    /// Rounds 32 values to bf16, in order: sixteen pairs, as `dot_bf16` takes them.
    #[inline(always)]
    unsafe fn pairs_bf16(low: Self, high: Self) -> Self
    where
        Self: Lanes,
    {
        // SAFETY: as the caller promises.
        unsafe { pairs(low, high) }
    }
    /// Widens sixteen bf16 in order.
    unsafe fn load_bf16(from: *const u16) -> Self;

    /// A line of sixteen groups `(a, b, c, d)` of signed bytes as pairs `(a, c)` and pairs `(b, d)` of 16 bits.
    unsafe fn open_i8(line: *const u8) -> [Self::Whole; 2];
    unsafe fn no_sum() -> Self::Whole;
    /// `sum + a · x + c · y` in each lane, for the pairs `(a, c)` of `open_i8` and one pair `(x, y)` of 16 bits.
    unsafe fn dot_i16(sum: Self::Whole, pairs: Self::Whole, pair: *const u32) -> Self::Whole;
    unsafe fn float(whole: Self::Whole) -> Self;
    /// Writes sixteen values below 2^15, rounded, as four groups of 16-bit numbers in the order that `open_i8` gives: 0, 2, 1, 3.
    #[inline(always)]
    unsafe fn store_i16(self, to: *mut u32)
    where
        Self: Lanes,
    {
        // SAFETY: as the caller promises.
        unsafe { store_shorts(self, to) }
    }

    /// The nearest whole number, of values below 2^22; of larger ones something as large.
    #[inline(always)]
    unsafe fn nearest(self) -> Self
    where
        Self: Lanes,
    {
        // SAFETY: as the caller promises.
        unsafe { nearest(self) }
    }
    /// `self · 2^power` for whole powers up to 127; below -126 it may be 0.
    #[inline(always)]
    unsafe fn times_power(self, power: Self) -> Self
    where
        Self: Lanes,
    {
        // SAFETY: as the caller promises.
        unsafe { times_power(self, power) }
    }
}

/// How good a power of two must be: the coefficients of `2^f = 1 + c[0] f + c[1] f² + …` on ±1/2, of least relative error.
pub(crate) type Terms = &'static [f32];
/// Off by 3e-6, far less than a rounding to bf16 (2e-3) or to 15 bits of the largest (3e-5).
pub(crate) const ROUGH: Terms = &[0.693_124_2, 0.240_240_99, 0.055_906_42, 0.009_582_853];
/// Off by 2e-9, and by the roundings of its six steps: below 2.5e-7.
#[allow(clippy::approx_constant, clippy::excessive_precision)] // The first one is near ln 2, and is fitted all the same.
pub(crate) const FINE: Terms =
    &[0.693_147_2, 0.240_226_48, 0.055_503_323, 0.009_618_437_4, 0.001_339_887_4, 0.000_153_533_44];

/// `2^t` for `t` up to 127; 0 far below -126; NaN stays NaN.
///
/// # Safety
/// The processor must have `V`'s instructions.
#[inline(always)]
pub(crate) unsafe fn exp2<V: Lanes>(t: V, terms: Terms) -> V {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let whole = t.nearest();
        let rest = t.sub(whole);
        let mut sum = V::splat(terms[terms.len() - 1]);
        for term in terms[..terms.len() - 1].iter().rev() {
            sum = sum.mul_add(rest, V::splat(*term));
        }
        sum.mul_add(rest, V::splat(1.0)).times_power(whole)
    }
}

/// Adding and subtracting 1.5 · 2^23 rounds to the nearest whole number.
const ROUNDER: f32 = 12_582_912.0;

/// # Safety
/// The processor must have `V`'s instructions.
#[inline(always)]
unsafe fn nearest<V: Lanes>(x: V) -> V {
    // SAFETY: the caller answers for the instructions.
    unsafe { x.add(V::splat(ROUNDER)).sub(V::splat(ROUNDER)) }
}

/// # Safety
/// The processor must have `V`'s instructions.
#[inline(always)]
unsafe fn times_power<V: Lanes>(x: V, power: V) -> V {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let least = V::splat(-126.0);
        V::select_less(power, least, V::splat(0.0), x.mul(power.max(least).exp2_whole()))
    }
}

/// # Safety
/// The processor must have `V`'s instructions; `pair` must be readable.
#[inline(always)]
unsafe fn two_products<V: Lanes>(sum: V, [first, second]: [V; 2], pair: *const u32) -> V {
    // SAFETY: the caller answers for the pointer and the instructions.
    unsafe {
        let pair = pair.read_unaligned();
        let (x, y) = (f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000));
        V::splat(y).mul_add(second, V::splat(x).mul_add(first, sum))
    }
}

/// # Safety
/// The processor must have `V`'s instructions.
#[inline(always)]
unsafe fn pairs<V: Lanes>(low: V, high: V) -> V {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let both = [low.to_array(), high.to_array()];
        let mut words = [0.0; LANES];
        for (word, pair) in words.iter_mut().zip(both.as_flattened().as_chunks::<2>().0) {
            let [first, second] = pair.map(|value| u32::from(crate::packing::bf16_bits(value)));
            *word = f32::from_bits(first | second << 16);
        }
        V::load(words.as_ptr())
    }
}

/// # Safety
/// The processor must have `V`'s instructions; eight words must be writable.
#[inline(always)]
unsafe fn store_shorts<V: Lanes>(x: V, to: *mut u32) {
    // SAFETY: the caller answers for the pointer and the instructions.
    unsafe {
        // Of a value plus 1.5 · 2^23, the low bits are the rounded value.
        let rounded = x.add(V::splat(ROUNDER)).to_array().map(|value| value.to_bits() & 0xffff);
        for (i, [a, b, c, d]) in rounded.as_chunks::<4>().0.iter().enumerate() {
            to.add(2 * i).write_unaligned(a | c << 16);
            to.add(2 * i + 1).write_unaligned(b | d << 16);
        }
    }
}

impl Dots for super::portable::F32x16 {
    type Whole = [i32; LANES];

    #[inline(always)]
    unsafe fn open_bf16(line: *const u8) -> [Self; 2] {
        // SAFETY: sixteen words are readable.
        let word = |i: usize| unsafe { line.cast::<u32>().add(i).read_unaligned() };
        [
            super::portable::each(|i| f32::from_bits(word(i) << 16)),
            super::portable::each(|i| f32::from_bits(word(i) & 0xffff_0000)),
        ]
    }
    #[inline(always)]
    unsafe fn dot_bf16(self, line: Self, pair: *const u32) -> Self {
        // SAFETY: a line is sixteen words; the caller answers for the pair.
        unsafe {
            let line = line.to_array();
            two_products(self, Self::open_bf16(line.as_ptr().cast()), pair)
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: sixteen halves are readable.
        super::portable::each(|i| f32::from_bits(u32::from(unsafe { from.add(i).read_unaligned() }) << 16))
    }
    #[inline(always)]
    unsafe fn open_i8(line: *const u8) -> [Self::Whole; 2] {
        let (mut even, mut odd) = ([0; LANES], [0; LANES]);
        for i in 0..LANES {
            // SAFETY: sixteen words are readable.
            let word = unsafe { line.cast::<i32>().add(i).read_unaligned() };
            let byte = |k: i32| (word << (24 - 8 * k)) >> 24;
            even[i] = byte(0) & 0xffff | byte(2) << 16;
            odd[i] = byte(1) & 0xffff | byte(3) << 16;
        }
        [even, odd]
    }
    #[inline(always)]
    unsafe fn no_sum() -> Self::Whole {
        [0; LANES]
    }
    #[inline(always)]
    unsafe fn dot_i16(mut sum: Self::Whole, pairs: Self::Whole, pair: *const u32) -> Self::Whole {
        // SAFETY: the pair is readable.
        let pair = unsafe { pair.cast::<i32>().read_unaligned() };
        let (x, y) = ((pair << 16) >> 16, pair >> 16);
        for i in 0..LANES {
            sum[i] += ((pairs[i] << 16) >> 16) * x + (pairs[i] >> 16) * y;
        }
        sum
    }
    #[inline(always)]
    unsafe fn float(whole: Self::Whole) -> Self {
        super::portable::each(|i| whole[i] as f32)
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::super::avx2::{F32x16, even, odd};
    use super::{Dots, two_products};

    // Every block below relies on the trait's promise: the processor has AVX2, FMA and F16C, and pointers are valid.
    impl Dots for F32x16 {
        type Whole = (__m256i, __m256i);

        #[inline(always)]
        unsafe fn open_bf16(line: *const u8) -> [Self; 2] {
            // SAFETY: AVX2; 64 readable bytes.
            unsafe {
                let (a, b) = (_mm256_loadu_si256(line.cast()), _mm256_loadu_si256(line.add(32).cast()));
                [Self(even(a), even(b)), Self(odd(a), odd(b))]
            }
        }
        #[inline(always)]
        unsafe fn dot_bf16(self, line: Self, pair: *const u32) -> Self {
            // SAFETY: AVX2.
            unsafe {
                let (a, b) = (_mm256_castps_si256(line.0), _mm256_castps_si256(line.1));
                two_products(self, [Self(even(a), even(b)), Self(odd(a), odd(b))], pair)
            }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            // SAFETY: AVX2; 32 readable bytes.
            unsafe {
                let widen =
                    |halves| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)));
                Self(widen(_mm_loadu_si128(from.cast())), widen(_mm_loadu_si128(from.add(8).cast())))
            }
        }
        #[inline(always)]
        unsafe fn open_i8(line: *const u8) -> [Self::Whole; 2] {
            // SAFETY: AVX2; 64 readable bytes.
            unsafe {
                let (a, b) = (_mm256_loadu_si256(line.cast()), _mm256_loadu_si256(line.add(32).cast()));
                let first = |x| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                [(first(a), first(b)), (_mm256_srai_epi16::<8>(a), _mm256_srai_epi16::<8>(b))]
            }
        }
        #[inline(always)]
        unsafe fn no_sum() -> Self::Whole {
            // SAFETY: AVX.
            unsafe { (_mm256_setzero_si256(), _mm256_setzero_si256()) }
        }
        #[inline(always)]
        unsafe fn dot_i16(sum: Self::Whole, pairs: Self::Whole, pair: *const u32) -> Self::Whole {
            // SAFETY: AVX2; a readable pair.
            unsafe {
                let pair = _mm256_set1_epi32(pair.cast::<i32>().read_unaligned());
                (
                    _mm256_add_epi32(sum.0, _mm256_madd_epi16(pairs.0, pair)),
                    _mm256_add_epi32(sum.1, _mm256_madd_epi16(pairs.1, pair)),
                )
            }
        }
        #[inline(always)]
        unsafe fn float(whole: Self::Whole) -> Self {
            // SAFETY: AVX.
            unsafe { Self(_mm256_cvtepi32_ps(whole.0), _mm256_cvtepi32_ps(whole.1)) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::super::avx512::F32x16;
    use super::{Dots, two_products};

    // Every block below relies on the trait's promise: the processor has AVX-512 (F, BW, DQ, VL), with `DOTS` also BF16 and
    // VNNI, and pointers are valid.
    impl<const DOTS: bool> Dots for F32x16<DOTS> {
        type Whole = __m512i;

        #[inline(always)]
        unsafe fn open_bf16(line: *const u8) -> [Self; 2] {
            // SAFETY: AVX-512F; 64 readable bytes.
            unsafe { open(_mm512_loadu_si512(line.cast())).map(Self) }
        }
        #[inline(always)]
        unsafe fn dot_bf16(self, line: Self, pair: *const u32) -> Self {
            // SAFETY: AVX-512F, and BF16 where `DOTS` says so; the forms of a line are the same 64 bytes.
            unsafe {
                if DOTS {
                    let pair = _mm512_set1_epi32(pair.cast::<i32>().read_unaligned());
                    let line = std::mem::transmute::<__m512, __m512bh>(line.0);
                    let pair = std::mem::transmute::<__m512i, __m512bh>(pair);
                    Self(_mm512_dpbf16_ps(self.0, line, pair))
                } else {
                    two_products(self, open(_mm512_castps_si512(line.0)).map(Self), pair)
                }
            }
        }
        #[inline(always)]
        unsafe fn pairs_bf16(low: Self, high: Self) -> Self {
            // SAFETY: AVX-512F, and BF16 where `DOTS` says so; the forms of 32 halves are the same 64 bytes.
            unsafe {
                if DOTS {
                    Self(std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high.0, low.0)))
                } else {
                    super::pairs(low, high)
                }
            }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            // SAFETY: AVX-512F; 32 readable bytes.
            unsafe {
                let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
            }
        }
        #[inline(always)]
        unsafe fn open_i8(line: *const u8) -> [Self::Whole; 2] {
            // SAFETY: AVX-512BW; 64 readable bytes.
            unsafe {
                let line = _mm512_loadu_si512(line.cast());
                [_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(line)), _mm512_srai_epi16::<8>(line)]
            }
        }
        #[inline(always)]
        unsafe fn no_sum() -> Self::Whole {
            // SAFETY: AVX-512F.
            unsafe { _mm512_setzero_si512() }
        }
        #[inline(always)]
        unsafe fn dot_i16(sum: Self::Whole, pairs: Self::Whole, pair: *const u32) -> Self::Whole {
            // SAFETY: AVX-512BW, and VNNI where `DOTS` says so; a readable pair.
            unsafe {
                let pair = _mm512_set1_epi32(pair.cast::<i32>().read_unaligned());
                if DOTS {
                    _mm512_dpwssd_epi32(sum, pairs, pair)
                } else {
                    _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, pair))
                }
            }
        }
        #[inline(always)]
        unsafe fn float(whole: Self::Whole) -> Self {
            // SAFETY: AVX-512F.
            Self(unsafe { _mm512_cvtepi32_ps(whole) })
        }
        #[inline(always)]
        unsafe fn store_i16(self, to: *mut u32) {
            // SAFETY: AVX-512BW and VL; 32 writable bytes.
            unsafe {
                let shorts = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(self.0));
                #[rustfmt::skip]
                let order = _mm256_setr_epi8(
                    0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
                    0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
                );
                _mm256_storeu_si256(to.cast(), _mm256_shuffle_epi8(shorts, order));
            }
        }
        #[inline(always)]
        unsafe fn nearest(self) -> Self {
            // SAFETY: AVX-512F.
            Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
        }
        #[inline(always)]
        unsafe fn times_power(self, power: Self) -> Self {
            // SAFETY: AVX-512F.
            Self(unsafe { _mm512_scalef_ps(self.0, power.0) })
        }
    }

    /// # Safety
    /// AVX-512F.
    #[inline(always)]
    unsafe fn open(line: __m512i) -> [__m512; 2] {
        // SAFETY: as the caller promises.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(line)),
                _mm512_castsi512_ps(_mm512_and_si512(line, upper)),
            ]
        }
    }
}
