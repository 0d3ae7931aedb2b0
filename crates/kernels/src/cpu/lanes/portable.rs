//! How do sixteen floats work on a processor we know nothing about? As an array, which compilers turn into what vectors there are.

use super::{LANES, Lanes, Operation};

#[derive(Clone, Copy)]
pub(crate) struct F32x16([f32; LANES]);

#[inline(always)]
pub(super) fn each(f: impl Fn(usize) -> f32) -> F32x16 {
    let mut lanes = [0.0; LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = f(i);
    }
    F32x16(lanes)
}

/// # Safety
/// `from` must be valid for reading the value, at any alignment.
#[inline(always)]
unsafe fn read<T: Copy>(from: *const u8, index: usize) -> T {
    // SAFETY: as above.
    unsafe { from.cast::<T>().add(index).read_unaligned() }
}

// No instruction here needs a feature, so the only duty is the trait's: pointers valid for what passes through them.
impl Lanes for F32x16 {
    /// Sixteen sums fill the registers of an unknown processor; with more, compilers keep them in memory.
    const ROWS: usize = 1;
    const PANELS: usize = 1;

    #[inline]
    unsafe fn enter<O: Operation>(operation: O) {
        // SAFETY: the caller answers for the operation's fields.
        unsafe { operation.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises sixteen readable values.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises room for sixteen values.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each(|i| self.0[i] + other.0[i])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each(|i| self.0[i] - other.0[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each(|i| self.0[i] * other.0[i])
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        each(|i| self.0[i] / other.0[i])
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        each(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] })
    }
    // Two roundings: f32::mul_add is a slow library call on processors without the instruction.
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        each(|i| self.0[i] * factor.0[i] + addend.0[i])
    }
    #[inline(always)]
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        each(|i| if a.0[i] < b.0[i] { yes.0[i] } else { no.0[i] })
    }
    #[inline(always)]
    unsafe fn any_less(a: Self, b: Self) -> bool {
        a.0.iter().zip(&b.0).any(|(a, b)| a < b)
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        each(|i| f32::from_bits((self.0[i] as i32).wrapping_add(127).wrapping_shl(23) as u32))
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}

    #[inline(always)]
    unsafe fn widen_f16(from: *const u8) -> [Self; 4] {
        // SAFETY: the caller promises two groups of [16][2] halves.
        let half = |k: usize, i: usize| unsafe { read::<u16>(from, (k / 2) * 32 + i * 2 + k % 2) };
        let input = |k| each(|i| half::f16::from_bits(half(k, i)).to_f32());
        [input(0), input(1), input(2), input(3)]
    }
    #[inline(always)]
    unsafe fn widen_bf16(from: *const u8) -> [Self; 4] {
        // SAFETY: the caller promises two groups of [16][2] halves.
        let half = |k: usize, i: usize| unsafe { read::<u16>(from, (k / 2) * 32 + i * 2 + k % 2) };
        let input = |k| each(|i| f32::from_bits(u32::from(half(k, i)) << 16));
        [input(0), input(1), input(2), input(3)]
    }
    #[inline(always)]
    unsafe fn widen_i8(from: *const u8) -> [Self; 4] {
        // SAFETY: the caller promises one group of [16][4] bytes.
        let input = |k| each(|i| f32::from(unsafe { read::<i8>(from, i * 4 + k) }));
        [input(0), input(1), input(2), input(3)]
    }
}
