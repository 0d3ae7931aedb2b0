//! From how many rows on are tiles faster on this machine, and how fast could they be?
//!
//! A product of few rows waits for memory, whoever multiplies. Where tiles start to pay depends on how many cores share the
//! memory, and on the processor; so it is measured when the first pool with tiles is made. Times of an emulator say nothing,
//! so there a constant stands.

use std::arch::asm;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Tiles, has_tiles};
use crate::tiles::Crossing;
use crate::{Isa, Matrix, Numerics, Pool, Precision};

static MEASURED: OnceLock<Vec<Crossing>> = OnceLock::new();

/// Where nothing was measured. Up to eight rows both wait for memory; from there registers fall behind on every processor that
/// has tiles, by its manual: in a cycle, tiles do 8 times the multiplications of bf16 that registers do in f32, and of int8 ones.
const ROWS_UNMEASURED: usize = 9;

/// From how many rows on tiles are taken.
pub(crate) fn rows_least(precision: Precision) -> usize {
    MEASURED.get().map_or(ROWS_UNMEASURED, |crossings| choose(crossings, precision))
}

/// What was measured on this machine; empty where it has no tiles.
pub(crate) fn crossings() -> &'static [Crossing] {
    MEASURED.get().map_or(&[], |crossings| crossings)
}

/// The fewest rows from which tiles are faster than registers at every number of rows that was measured. They must win by a
/// twentieth: below that registers are as good, and round less.
fn choose(crossings: &[Crossing], precision: Precision) -> usize {
    let wins = |crossing: &&Crossing| crossing.tiles.as_secs_f64() * 1.05 < crossing.registers.as_secs_f64();
    let these = || crossings.iter().filter(|crossing| crossing.precision == precision);
    let last_loss = these().filter(|crossing| !wins(crossing)).map(|crossing| crossing.rows).max();
    let first_win =
        these().map(|crossing| crossing.rows).filter(|rows| last_loss.is_none_or(|lost| *rows > lost)).min();
    // Where registers win to the end, tiles come where nobody has looked.
    first_win.unwrap_or_else(|| last_loss.map_or(ROWS_UNMEASURED, |lost| lost + 1))
}

/// Times tiles against registers, once in a process, with the threads that will multiply: twelve million weights are packed and some
/// hundred small products computed, which takes a fraction of a second.
pub(crate) fn measure(pool: &Pool) {
    const ROWS: [usize; 7] = [1, 2, 4, 8, 12, 16, 24];
    if Isa::tiles_are_assumed() {
        return;
    }
    MEASURED.get_or_init(|| {
        let precisions = [Precision::Bf16, Precision::Int8, Precision::Int4];
        let mut crossings = Vec::new();
        for precision in precisions.into_iter().filter(|precision| has_tiles(Numerics::Fast, *precision)) {
            let race = Race::new(pool, precision);
            crossings.extend(ROWS.map(|rows| race.run(pool, rows)));
        }
        crossings
    });
}

/// Two matrices of one precision. Of bf16 and int8, together, more than second-level caches hold: weights come from further away,
/// as in a model.
struct Race {
    matrices: Vec<Matrix>,
}

impl Race {
    const OUTPUTS: usize = 1024;
    const INPUTS: usize = 2048;

    fn new(pool: &Pool, precision: Precision) -> Self {
        let fill = |row: usize, values: &mut [f32]| {
            values.iter_mut().enumerate().for_each(|(i, value)| *value = ((row + i) % 17) as f32 - 8.0);
        };
        let matrix = |_| Matrix::pack_with(pool, precision, Self::OUTPUTS, Self::INPUTS, &fill);
        Self { matrices: (0..2).map(matrix).collect() }
    }

    fn run(&self, pool: &Pool, rows: usize) -> Crossing {
        let x = vec![0.5; rows * Self::INPUTS];
        let mut out = vec![0.0; rows * Self::OUTPUTS];
        let mut pass = |tiles: bool| {
            let start = Instant::now();
            for matrix in &self.matrices {
                if tiles {
                    super::matmul(pool, &x, rows, matrix, &mut out);
                } else {
                    crate::cpu::matmul::matmul(pool, &x, rows, matrix, &mut out);
                }
            }
            start.elapsed() / self.matrices.len() as u32
        };
        // The best of two, in turn, so that what else runs here disturbs both alike.
        let [mut tiles, mut registers] = [Duration::MAX; 2];
        for _ in 0..2 {
            tiles = tiles.min(pass(true));
            registers = registers.min(pass(false));
        }
        Crossing { precision: self.matrices[0].precision(), rows, tiles, registers }
    }
}

/// Returns the operations a second (a multiplication and an addition are two) that all threads of a pool together do on tiles
/// that stay in registers, in the form that weights of this precision take there; nothing where they take none, or where tiles
/// are emulated.
pub(crate) fn peak(pool: &Pool, precision: Precision) -> Option<f64> {
    const ROUNDS: usize = 1 << 18;
    const PASSES: usize = 5;
    let usable = pool.isa() == Isa::Amx && !Isa::tiles_are_assumed() && has_tiles(Numerics::Fast, precision);
    if !usable {
        return None;
    }
    let multiplications = 16 * 16 * if precision == Precision::Int8 { 64 } else { 32 };
    let pass = || {
        let start = Instant::now();
        // SAFETY: a pool whose path is AMX has tiles.
        pool.run(pool.threads(), &|_| unsafe { spin(precision, ROUNDS) });
        (2 * 4 * multiplications * ROUNDS * pool.threads()) as f64 / start.elapsed().as_secs_f64()
    };
    Some((0..PASSES).map(|_| pass()).fold(0.0, f64::max))
}

/// Multiplies zeros, four products a round that do not wait for each other.
///
/// # Safety
/// The process must have permission to use tiles.
unsafe fn spin(precision: Precision, rounds: usize) {
    macro_rules! spin {
        ($instruction:literal) => {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                concat!($instruction, " tmm0, tmm4, tmm6"),
                concat!($instruction, " tmm1, tmm4, tmm7"),
                concat!($instruction, " tmm2, tmm5, tmm6"),
                concat!($instruction, " tmm3, tmm5, tmm7"),
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) rounds => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            )
        };
    }
    // SAFETY: as the caller promises; all tile registers are named as overwritten.
    unsafe {
        let _tiles = Tiles::configure();
        match precision {
            Precision::Int8 => spin!("tdpbssd"),
            _ => spin!("tdpbf16ps"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times by which tiles are faster at one, two, four and eight rows.
    fn chosen(speedups: [f64; 4]) -> usize {
        let crossings: Vec<Crossing> = [1, 2, 4, 8]
            .into_iter()
            .zip(speedups)
            .map(|(rows, speedup)| Crossing {
                precision: Precision::Int8,
                rows,
                tiles: Duration::from_micros(100),
                registers: Duration::from_secs_f64(1e-4 * speedup),
            })
            .collect();
        choose(&crossings, Precision::Int8)
    }

    #[test]
    fn tiles_are_taken_from_where_they_win_and_never_lose_again() {
        assert_eq!(chosen([1.2, 1.5, 2.0, 3.0]), 1);
        assert_eq!(chosen([0.5, 0.9, 2.0, 3.0]), 4);
        assert_eq!(chosen([0.5, 2.0, 0.9, 3.0]), 8);
        assert_eq!(chosen([1.0, 1.04, 1.06, 3.0]), 4);
        assert_eq!(chosen([0.5, 0.5, 0.5, 0.5]), 9);
        assert_eq!(choose(&[], Precision::Bf16), ROWS_UNMEASURED);
    }
}
