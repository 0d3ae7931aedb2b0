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
        // SAFETY: each line is sixteen values; prefetching cannot fault; the caller answers for the instructions.
        unsafe {
            let (mut even, mut odd) = (V::splat(0.0), V::splat(0.0));
            for pair in self.lines.as_chunks::<2>().0 {
                let at = pair.as_ptr().cast::<u8>();
                V::prefetch(at.wrapping_add(PREFETCH_BYTES));
                V::prefetch(at.wrapping_add(PREFETCH_BYTES + 64));
                even = even.add(V::load(pair[0].as_ptr()));
                odd = odd.add(V::load(pair[1].as_ptr()));
            }
            *self.sum = even.add(odd).sum();
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
