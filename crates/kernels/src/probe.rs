//! How fast can this machine read memory?

use std::hint::black_box;
use std::time::Instant;

use crate::Pool;
use crate::cpu::lanes::{LANES, Lanes, Operation, dispatch};
use crate::memory::Arena;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_gives_a_speed_that_memory_could_have() {
        let speed = read_bandwidth(&Pool::new(1));
        assert!((1e7..1e13).contains(&speed), "{speed:e} bytes a second");
    }
}
