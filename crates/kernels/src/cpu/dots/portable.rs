//! How are whole numbers multiplied on a processor we know nothing about? As arrays, which compilers turn into what vectors there are.

use super::{Dots, DotsOperation};
use crate::cpu::lanes::{LANES, Lanes, portable::F32x16};

#[derive(Clone, Copy)]
pub(super) struct I32x16([i32; LANES]);

// No instruction here needs a feature, so the only duty is the trait's: pointers valid for what is read through them.
impl Dots for I32x16 {
    type Floats = F32x16;
    type Bytes = [[i8; 4]; LANES];
    type Steps = [[i8; 4]; LANES];

    const ROWS: usize = 1;
    const PANELS_FEW: usize = 1;
    const PANELS: usize = 1;
    const BIAS: i32 = 0;

    #[inline]
    unsafe fn enter<O: DotsOperation>(operation: O) {
        // SAFETY: the caller answers for the operation's fields.
        unsafe { operation.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: the caller promises sixteen words.
        unsafe { from.cast::<Self::Bytes>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn steps(from: *const u8) -> [Self::Steps; 2] {
        // SAFETY: the caller promises sixteen words.
        let words = unsafe { from.cast::<[[u8; 4]; LANES]>().read_unaligned() };
        [
            words.map(|word| word.map(|byte| (byte & 15) as i8)),
            words.map(|word| word.map(|byte| (byte >> 4) as i8)),
        ]
    }
    #[inline(always)]
    unsafe fn add_bytes(mut self, weights: Self::Bytes, x: *const u8) -> Self {
        // SAFETY: the caller promises four activations.
        let x = unsafe { x.cast::<[i8; 4]>().read_unaligned() };
        for (sum, weights) in self.0.iter_mut().zip(&weights) {
            for (x, weight) in x.iter().zip(weights) {
                *sum += i32::from(*x) * i32::from(*weight);
            }
        }
        self
    }
    #[inline(always)]
    unsafe fn add_steps(self, weights: Self::Steps, x: *const u8) -> Self {
        // SAFETY: the caller promises four activations.
        unsafe { self.add_bytes(weights, x) }
    }
    #[inline(always)]
    unsafe fn floats(self) -> Self::Floats {
        let floats = self.0.map(|sum| sum as f32);
        // SAFETY: an array of sixteen.
        unsafe { F32x16::load(floats.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn widen_halves(from: *const u16) -> Self::Floats {
        // SAFETY: the caller promises sixteen halves; then an array of sixteen.
        unsafe {
            let halves = from.cast::<[u16; LANES]>().read_unaligned();
            F32x16::load(halves.map(|half| half::f16::from_bits(half).to_f32()).as_ptr())
        }
    }
}
