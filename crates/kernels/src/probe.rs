//! How fast can this machine read memory, and multiply what is in its registers?

use std::hint::black_box;
use std::time::Instant;

use crate::cpu::dots::{self, Dots, DotsOperation, DotsPath};
use crate::cpu::lanes::{LANES, Lanes, Operation, dispatch};
use crate::cpu::matmul::pairs;
use crate::memory::Arena;
use crate::{Isa, Pool, Precision};

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
    let (path, inputs) = match precision {
        Precision::Int8 | Precision::Int4 => (Some(DotsPath::of(pool.isa())), 4),
        Precision::Bf16 => match pairs(pool.isa(), pool.numerics()) {
            Some(path) => (Some(path), 2),
            None => (None, 1),
        },
        Precision::F16 | Precision::F32 => (None, 1),
    };
    let threads = pool.threads();
    let pass = || {
        let start = Instant::now();
        // SAFETY: the pool holds only paths that this machine has.
        pool.run(threads, &|_| unsafe { multiply(pool.isa(), path, ROUNDS) });
        (2 * inputs * LANES * CHAINS * ROUNDS * threads) as f64 / start.elapsed().as_secs_f64()
    };
    (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
}

/// Whether an instruction for pairs of bf16 does clearly more in its time than one for floats: it must also pay for rounding
/// activations. Takes about a millisecond.
pub(crate) fn pairs_pay(isa: Isa) -> bool {
    const ROUNDS: usize = 1 << 12;
    const PASSES: usize = 8;
    const CLEARLY: f64 = 1.25;
    let seconds = |path| {
        let pass = |_| {
            let start = Instant::now();
            // SAFETY: callers ask for paths of this machine.
            unsafe { multiply(isa, path, ROUNDS) };
            start.elapsed().as_secs_f64()
        };
        (0..PASSES).map(pass).fold(f64::INFINITY, f64::min)
    };
    DotsPath::of_pairs(isa).is_some_and(|pairs| 2.0 * seconds(None) > CLEARLY * seconds(Some(pairs)))
}

/// Multiplies words on a path, or floats.
///
/// # Safety
/// This machine must have the paths.
unsafe fn multiply(isa: Isa, path: Option<DotsPath>, rounds: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match path {
            Some(path) => dots::dispatch(path, Words { rounds }),
            None => dispatch(isa, Floats { rounds }),
        }
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

struct Words {
    rounds: usize,
}

impl DotsOperation for Words {
    #[inline(always)]
    unsafe fn run<D: Dots>(self) {
        let (x, weights) = (black_box([1_u8; 4]), black_box([3_u8; 64]));
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
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let peak = multiply_peak(&Pool::new(1), precision);
            assert!((1e7..1e14).contains(&peak), "{precision:?}: {peak:e} operations a second");
        }
    }
}
