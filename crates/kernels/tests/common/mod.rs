//! Pools of every path this machine has, and numbers that look random but are the same every time.
#![allow(dead_code)]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod amx;

use kernels::{Isa, Numerics, Pool, PoolOptions};

/// One pool for each path, with two threads. The path of AMX is there wherever vectors of AVX-512 are: without tiles of its
/// own, the machine has them emulated.
pub fn pools(numerics: Numerics) -> Vec<Pool> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    amx::ready();
    Isa::available().map(|isa| Pool::with(PoolOptions { threads: 2, isa, numerics })).collect()
}

/// SplitMix64.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Evenly spread over -1..1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Half the distance from 1 to the next f32: the most by which one rounding is off, relatively.
pub const F32_ROUNDING: f64 = 1.0 / (1 << 24) as f64;
/// The same for bf16, which keeps eight bits.
pub const BF16_ROUNDING: f64 = 1.0 / 256.0;
