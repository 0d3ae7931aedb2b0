//! How fast can this machine read memory, and multiply what is in its registers?

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::cpu::dots::{self, Dots, DotsOperation, DotsPath};
use crate::cpu::lanes::{LANES, Lanes, Operation, dispatch};
use crate::memory::Arena;
use crate::{Isa, Numerics, Pool, Precision};

/// Returns the bytes a second that all threads of a pool together read from memory: the best of a few passes over more than
/// most caches hold. Takes a few tenths of a second; this is the roof over products of one row.
pub fn read_bandwidth(pool: &Pool) -> f64 {
    const BYTES: usize = 256 << 20;
    const PASSES: usize = 4;
    let mut arena = Arena::zeroed(BYTES);
    // SAFETY: the arena has this many bytes. Written, so that every page is there before the clock runs.
    unsafe { arena.start_mut().write_bytes(1, BYTES) };
    let lines = bytemuck::cast_slice::<u8, [f32; LANES]>(arena.as_slice());
    let pass = || {
        let start = Instant::now();
        pool.run_ranges(lines.len(), 1 << 16, &|range| {
            let mut sum = 0.0;
            // SAFETY: the pool holds only paths that this machine has.
            unsafe { dispatch(pool.isa(), Sum { lines: &lines[range], sum: &mut sum }) };
            black_box(sum);
        });
        BYTES as f64 / start.elapsed().as_secs_f64()
    };
    (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
}

struct Sum<'a> {
    lines: &'a [[f32; LANES]],
    sum: &'a mut f32,
}

impl Operation for Sum<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        const PREFETCH_BYTES: usize = 2048;
        let quarter = self.lines.len() / 4;
        // SAFETY: each line is sixteen values; prefetching cannot fault; the caller answers for the instructions.
        unsafe {
            // Four streams side by side: one alone keeps too few cache misses in flight to show what memory can do.
            let mut sums = [V::splat(0.0); 4];
            for i in 0..quarter {
                for (stream, sum) in sums.iter_mut().enumerate() {
                    let line = self.lines[stream * quarter + i].as_ptr();
                    V::prefetch(line.cast::<u8>().wrapping_add(PREFETCH_BYTES));
                    *sum = sum.add(V::load(line));
                }
            }
            let [a, b, c, d] = sums;
            *self.sum = a.add(b).add(c.add(d)).sum();
        }
    }
}

/// Returns the operations a second (a multiplication and an addition are two) that all threads of a pool together do with numbers
/// that stay in registers, by the vector instruction that multiplies weights of this precision with many rows. This is the roof
/// over products of many rows; tiles have a roof of their own. Takes some milliseconds.
pub fn multiply_peak(pool: &Pool, precision: Precision) -> f64 {
    const ROUNDS: usize = 1 << 20;
    const PASSES: usize = 5;
    let threads = pool.threads();
    let pass = || {
        let start = Instant::now();
        pool.run(threads, &|_| {
            // SAFETY: the pool holds only paths that this machine has.
            unsafe {
                match precision {
                    Precision::Int8 | Precision::Int4 => {
                        dots::dispatch(DotsPath::of(pool.isa()), WholeNumbers { rounds: ROUNDS });
                    }
                    _ => dispatch(pool.isa(), Floats { rounds: ROUNDS }),
                }
            }
        });
        let inputs = if matches!(precision, Precision::Int8 | Precision::Int4) { 4 } else { 1 };
        (2 * inputs * LANES * CHAINS * ROUNDS * threads) as f64 / start.elapsed().as_secs_f64()
    };
    (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
}

/// Returns the operations a second that all threads of a pool together do on tiles that stay in registers, in the form that weights
/// of this precision take there: the roof over products of many rows on tiles. `None` where there are no tiles, or none for
/// this precision.
pub fn tile_peak(pool: &Pool, precision: Precision) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    return crate::cpu::amx::probe::peak(pool, precision);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (pool, precision);
        None
    }
}

/// How long a product of some rows takes on tiles and on vector registers.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    pub precision: Precision,
    pub rows: usize,
    pub tiles: Duration,
    pub registers: Duration,
}

/// Returns what was measured when the first pool with tiles was made, and decides from how many rows on they are taken; empty where
/// there are no tiles.
pub fn tile_crossings() -> &'static [Crossing] {
    #[cfg(target_arch = "x86_64")]
    return crate::cpu::amx::probe::crossings();
    #[cfg(not(target_arch = "x86_64"))]
    &[]
}

/// Returns from how many rows on tiles multiply weights of this precision, on a path of AMX.
pub fn tile_rows_least(precision: Precision) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    return (Isa::detect() == Isa::Amx && crate::cpu::amx::has_tiles(Numerics::Fast, precision))
        .then(|| crate::cpu::amx::probe::rows_least(precision));
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = precision;
        None
    }
}

/// Sums that do not wait for each other: more than the latency of an addition takes.
const CHAINS: usize = 12;

struct Floats {
    rounds: usize,
}

impl Operation for Floats {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        // SAFETY: the caller answers for the instructions.
        unsafe {
            let factor = V::splat(black_box(0.5));
            let mut sums = [V::splat(black_box(1.0)); CHAINS];
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = factor.mul_add(factor, *sum);
                }
            }
            for sum in sums {
                black_box(sum.sum());
            }
        }
    }
}

struct WholeNumbers {
    rounds: usize,
}

impl DotsOperation for WholeNumbers {
    #[inline(always)]
    unsafe fn run<D: Dots>(self) {
        let (x, weights) = (black_box([1_i8; 4]), black_box([3_u8; 64]));
        // SAFETY: four activations and one line of weights are there; the caller answers for the instructions.
        unsafe {
            let weights = D::bytes(weights.as_ptr());
            let mut sums = [D::splat(black_box(0)); CHAINS];
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = sum.add_bytes(weights, x.as_ptr());
                }
            }
            for sum in sums {
                black_box(sum.floats().sum());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_gives_a_speed_that_memory_could_have() {
        let speed = read_bandwidth(&Pool::new(1));
        assert!((1e7..1e13).contains(&speed), "{speed:e} bytes a second");
    }

    #[test]
    fn the_peaks_are_what_registers_could_do() {
        for precision in [Precision::F32, Precision::Int8] {
            let peak = multiply_peak(&Pool::new(1), precision);
            assert!((1e7..1e14).contains(&peak), "{precision:?}: {peak:e} operations a second");
        }
    }
}
