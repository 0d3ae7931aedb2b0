//! What can the tiles of this machine do, for people who measure?

use std::time::Duration;

#[cfg(target_arch = "x86_64")]
use crate::cpu::amx::{has_tiles, probe};
#[cfg(target_arch = "x86_64")]
use crate::{Isa, Numerics};
use crate::{Pool, Precision};

/// Returns the operations a second that all threads of a pool together do on tiles that stay in registers, in the form that weights
/// of this precision take there: the roof over products of many rows on tiles. `None` where there are no tiles, or none for
/// this precision.
pub fn tile_peak(pool: &Pool, precision: Precision) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    return probe::peak(pool, precision);
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
    return probe::crossings();
    #[cfg(not(target_arch = "x86_64"))]
    &[]
}

/// Returns from how many rows on tiles multiply weights of this precision, on a path of AMX.
pub fn tile_rows_least(precision: Precision) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    return (Isa::detect() == Isa::Amx && has_tiles(Numerics::Fast, precision))
        .then(|| probe::rows_least(precision));
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = precision;
        None
    }
}
