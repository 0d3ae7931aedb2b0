//! What is the least that sixteen sums of dot products must be able to do, so that each product of words is written once?
//!
//! A word is four bytes: four int8 or eight int4 inputs that meet int8 activations, or two of bf16 that meet bf16. Sums of whole
//! numbers are exact, so every path gives the same ones; what differs is which sign a processor's instruction wants where.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod portable;

use super::lanes::Lanes;
use crate::Isa;

/// Sixteen sums, one for each output of a panel: i32 of whole numbers, or f32 of bf16, which has no int4 methods.
///
/// # Safety
/// Every method may be called only where the processor has the implementation's instructions: inside `enter` of the same
/// type, which `dispatch` calls only for paths that this machine has. Pointers must be valid for what is read through them.
pub(crate) trait Dots: Copy {
    /// The floats that go with these sums, on the same instructions.
    type Floats: Lanes;
    /// Four int8 weights (or two of bf16), or four int4 steps, of each of sixteen outputs.
    type Bytes: Copy;
    type Steps: Copy;

    /// Rows of activations whose sums fit in the registers, and panels beside each other for one or two rows, and for more.
    const ROWS: usize;
    const PANELS_FEW: usize;
    const PANELS: usize;
    /// What `Bytes` have become larger by: a sum begins with this many times minus the sum of its activations.
    const BIAS: i32;

    /// Runs an operation in a function compiled for these instructions.
    unsafe fn enter<O: DotsOperation>(operation: O);

    unsafe fn splat(value: i32) -> Self;
    /// One word of each of sixteen outputs: 64 bytes.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// One word of each of sixteen outputs: 64 bytes, the first four inputs and the last.
    unsafe fn steps(from: *const u8) -> [Self::Steps; 2];
    /// Adds the products of four activations, from -127 to 127 (or two of bf16), to each sum.
    unsafe fn add_bytes(self, weights: Self::Bytes, x: *const u8) -> Self;
    unsafe fn add_steps(self, weights: Self::Steps, x: *const u8) -> Self;
    unsafe fn floats(self) -> Self::Floats;
    /// Sixteen f16 values, one behind the other.
    unsafe fn widen_halves(from: *const u16) -> Self::Floats;
}

/// A piece of work written once over any sums; as `Operation` is for lanes.
pub(crate) trait DotsOperation {
    /// # Safety
    /// The processor must have `D`'s instructions, and the operation's own fields must be as it promises.
    unsafe fn run<D: Dots>(self);
}

/// Which instructions multiply words: whole numbers, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DotsPath {
    Portable,
    Avx2,
    AvxVnni,
    Avx512Vnni,
    Avx512Bf16,
}

impl DotsPath {
    /// The best for whole numbers on a machine whose best path is this one.
    pub fn of(isa: Isa) -> Self {
        match isa {
            Isa::Portable => Self::Portable,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx if is_x86_feature_detected!("avx512vnni") => Self::Avx512Vnni,
            #[cfg(target_arch = "x86_64")]
            _ if is_x86_feature_detected!("avxvnni") => Self::AvxVnni,
            _ => Self::Avx2,
        }
    }

    /// The one for pairs of bf16, where the machine has it.
    pub fn of_pairs(isa: Isa) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if isa >= Isa::Avx512 && is_x86_feature_detected!("avx512bf16") {
            return Some(Self::Avx512Bf16);
        }
        let _ = isa;
        None
    }

    /// All for whole numbers that this machine can take.
    #[cfg(test)]
    pub fn available() -> Vec<Self> {
        let all = [Self::Portable, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni];
        let best = Isa::detect();
        all.into_iter()
            .filter(|path| match path {
                Self::Portable => true,
                Self::Avx2 => best >= Isa::Avx2,
                Self::AvxVnni => Self::of(Isa::Avx2.min(best)) == Self::AvxVnni,
                Self::Avx512Vnni => Self::of(best) == Self::Avx512Vnni,
                Self::Avx512Bf16 => false,
            })
            .collect()
    }

    /// Rows of activations that one block of a product takes.
    pub fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::I32x16::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx_vnni::I32x16::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => avx512::I32x16::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => avx512_bf16::PairSums::ROWS,
            _ => portable::I32x16::ROWS,
        }
    }
}

/// Runs an operation on the given path.
///
/// # Safety
/// This machine must have the path (`DotsPath::of` of a pool's path returns no other), and the operation's fields must be as it
/// promises.
pub(crate) unsafe fn dispatch(path: DotsPath, operation: impl DotsOperation) {
    // SAFETY: the caller promises that the machine has the path.
    unsafe {
        match path {
            #[cfg(target_arch = "x86_64")]
            DotsPath::Avx512Vnni => avx512::I32x16::enter(operation),
            #[cfg(target_arch = "x86_64")]
            DotsPath::Avx512Bf16 => avx512_bf16::PairSums::enter(operation),
            #[cfg(target_arch = "x86_64")]
            DotsPath::AvxVnni => avx_vnni::I32x16::enter(operation),
            #[cfg(target_arch = "x86_64")]
            DotsPath::Avx2 => avx2::I32x16::enter(operation),
            _ => portable::I32x16::enter(operation),
        }
    }
}
