//! What is the least that sixteen floats must be able to do, so that each kernel is written once for all processors?

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
mod dots;
pub(super) mod portable;

pub(crate) use dots::{Dots, FINE, ROUGH, Terms, exp2};

use crate::Isa;

/// Lanes of one vector, outputs of one panel of weights.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 values.
///
/// # Safety
/// Every method may be called only where the processor has the implementation's instructions: inside `Lanes::enter` of the
/// same type, which `dispatch` calls only for paths that this machine has. All methods are `#[inline(always)]`, so that they
/// become instructions of the function that `enter` compiled for those features. Pointers must be valid for what is read or
/// written through them; no alignment is needed.
pub(crate) trait Lanes: Dots {
    /// Rows of activations, and panels of weights beside each other, whose sums fit in the registers.
    const ROWS: usize;
    const PANELS: usize;

    /// Runs an operation in a function compiled for these instructions.
    unsafe fn enter<O: Operation>(operation: O);

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// `self · factor + addend`, rounded once where the processor can.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Per lane: `if a < b { yes } else { no }`.
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self;
    /// Whether `a < b` in any lane.
    unsafe fn any_less(a: Self, b: Self) -> bool;
    /// `2^self` for whole numbers from -126 to 127.
    unsafe fn exp2_whole(self) -> Self;
    /// Asks for the cache line at an address, which may lie anywhere, to be brought near.
    unsafe fn prefetch(at: *const u8);

    /// Widens four inputs of sixteen outputs from each packed form (see `Matrix` for the layouts).
    unsafe fn widen_f16(from: *const u8) -> [Self; 4];
    unsafe fn widen_bf16(from: *const u8) -> [Self; 4];
    unsafe fn widen_i8(from: *const u8) -> [Self; 4];

    /// Writes the upper halves of two vectors as sixteen pairs.
    #[inline(always)]
    unsafe fn store_upper_pairs(first: Self, second: Self, to: *mut u32) {
        // SAFETY: the caller promises room for sixteen words, and the instructions.
        unsafe {
            let (first, second) = (first.to_array(), second.to_array());
            for lane in 0..LANES {
                to.add(lane).write(first[lane].to_bits() >> 16 | second[lane].to_bits() & 0xffff_0000);
            }
        }
    }

    /// Writes whole numbers from -128 to 127 as bytes; of anything else some byte.
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) {
        // SAFETY: the caller promises room for sixteen bytes, and the instructions.
        unsafe {
            let array = self.to_array();
            to.cast::<[i8; LANES]>().write_unaligned(array.map(|value| value as i32 as i8));
        }
    }

    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        let mut array = [0.0; LANES];
        // SAFETY: the array has room for sixteen values; the caller answers for the instructions.
        unsafe { self.store(array.as_mut_ptr()) };
        array
    }

    /// The sum of all lanes, always added in the same order.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller answers for the instructions.
        fold(unsafe { self.to_array() }, |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller answers for the instructions.
        fold(unsafe { self.to_array() }, |a, b| if a > b { a } else { b })
    }
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// A piece of work written once over any lanes. `run` must be `#[inline(always)]`, or it misses the features of `enter`.
pub(crate) trait Operation {
    /// # Safety
    /// The processor must have `V`'s instructions, and the operation's own fields must be as it promises.
    unsafe fn run<V: Lanes>(self);
}

/// Runs an operation on the given path.
///
/// # Safety
/// This machine must have the path (a `Pool` holds no other; neither does `Isa::detect` return one), and the operation's
/// fields must be as it promises.
pub(crate) unsafe fn dispatch(isa: Isa, operation: impl Operation) {
    debug_assert!(isa <= Isa::detect());
    // SAFETY: the caller promises that the machine has the path.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => avx512::F32x16::<false>::enter(operation),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::F32x16::enter(operation),
            _ => portable::F32x16::enter(operation),
        }
    }
}

/// The same, with the sums of bf16 and 16-bit products that `Dots` asks for where the path and this processor have them.
///
/// # Safety
/// As for `dispatch`.
pub(crate) unsafe fn dispatch_dots(isa: Isa, operation: impl Operation) {
    // SAFETY: the caller promises the path, and the processor was asked for the rest.
    unsafe {
        match has_dots(isa) {
            #[cfg(target_arch = "x86_64")]
            true => avx512::F32x16::<true>::enter(operation),
            _ => dispatch(isa, operation),
        }
    }
}

/// Whether a path comes with AVX-512 BF16 and VNNI on this processor.
pub(crate) fn has_dots(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        return is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
    }
    let _ = isa;
    false
}

/// `e^x` with a relative error below 2.5e-7; 0 below -87.3, capped at `e^88.3` above; NaN stays NaN.
///
/// # Safety
/// The processor must have `V`'s instructions.
#[inline(always)]
pub(crate) unsafe fn exp<V: Lanes>(x: V) -> V {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.3;
    /// Adding and subtracting 1.5 · 2^23 rounds to the nearest whole number.
    const ROUNDER: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has so few bits that a whole number times it is exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// (e^r - 1 - r) / r² on ±ln2/2, highest power first: the polynomial of the Cephes library.
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let highest = V::splat(HIGHEST);
        let capped = V::select_less(highest, x, highest, x);
        let whole =
            capped.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUNDER)).sub(V::splat(ROUNDER));
        let rest = whole.mul_add(V::splat(-LN2_HIGH), capped);
        let rest = whole.mul_add(V::splat(-LN2_LOW), rest);
        let mut sum = V::splat(POLYNOMIAL[0]);
        for coefficient in &POLYNOMIAL[1..] {
            sum = sum.mul_add(rest, V::splat(*coefficient));
        }
        let fraction = sum.mul_add(rest.mul(rest), rest.add(V::splat(1.0)));
        V::select_less(x, V::splat(LOWEST), V::splat(0.0), fraction.mul(whole.exp2_whole()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exponentials<'a>(&'a [f32], &'a mut [f32]);

    impl Operation for Exponentials<'_> {
        #[inline(always)]
        unsafe fn run<V: Lanes>(self) {
            for (x, out) in self.0.chunks_exact(LANES).zip(self.1.chunks_exact_mut(LANES)) {
                // SAFETY: chunks of sixteen, in and out.
                unsafe { exp(V::load(x.as_ptr())).store(out.as_mut_ptr()) };
            }
        }
    }

    fn exponentials(isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len()];
        // SAFETY: tests ask only for available paths.
        unsafe { dispatch(isa, Exponentials(x, &mut out)) };
        out
    }

    #[test]
    fn the_exponential_is_as_close_as_it_says_on_every_path() {
        let x: Vec<f32> = (0..1 << 16).map(|i| -87.3 + i as f32 * (175.6 / 65_536.0)).collect();
        for isa in Isa::available() {
            for (x, y) in x.iter().zip(exponentials(isa, &x)) {
                let truth = f64::from(*x).exp();
                let relative = ((f64::from(y) - truth) / truth).abs();
                assert!(relative < 2.5e-7, "{isa:?}: exp({x}) = {y}, off by {relative:e}");
            }
        }
    }

    #[test]
    fn the_exponential_ends_in_zero_a_cap_and_nan() {
        let mut x = [0.0; LANES];
        x[..6].copy_from_slice(&[f32::NEG_INFINITY, -88.0, f32::MIN, 0.0, f32::INFINITY, f32::NAN]);
        for isa in Isa::available() {
            let y = exponentials(isa, &x);
            assert_eq!(y[..4], [0.0, 0.0, 0.0, 1.0], "{isa:?}");
            assert!(y[4] > 2e38 && y[4].is_finite(), "{isa:?}: {}", y[4]);
            assert!(y[5].is_nan(), "{isa:?}");
        }
    }
}
