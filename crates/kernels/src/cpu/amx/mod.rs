//! When do tiles multiply, and what have all their products in common?
//!
//! A tile is sixteen lines of 64 bytes. Activations are rounded and laid out as tiles of 16 rows; a panel of weights already is a
//! column of tiles of 16 outputs, or becomes one.

pub(crate) mod attention;
mod bf16;
mod int8;
pub(crate) mod probe;
mod square;

use std::arch::asm;
use std::ops::Range;

use crate::memory::Shared;
use crate::{Isa, Matrix, Numerics, Pool, Precision};

/// Rows, outputs, or words of inputs of one tile.
const TILE: usize = 16;
const TILE_BYTES: usize = 1024;
const LINE_BYTES: usize = 64;

/// Lines of a tile, aligned so that each is one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u32; 16]);

/// Whether tiles take a product. Sums of whole numbers are the same in any order, so int8 gives the same bits on tiles as on
/// registers, and also serves who wants rows to be independent of each other.
pub(crate) fn suits(pool: &Pool, rows: usize, weight: &Matrix) -> bool {
    pool.isa() == Isa::Amx
        && has_tiles(pool.numerics(), weight.precision())
        && weight.inputs() > 0
        && rows >= probe::rows_least(weight.precision())
}

/// Whether weights of this precision ever meet tiles.
pub(crate) fn has_tiles(numerics: Numerics, precision: Precision) -> bool {
    match precision {
        Precision::F32 | Precision::F16 => false,
        Precision::Bf16 | Precision::Int4 => numerics == Numerics::Fast,
        Precision::Int8 => true,
    }
}

/// `out = x · weightᵀ` with rounded activations. Lengths have been checked by the caller.
pub(crate) fn matmul(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    match weight.precision() {
        Precision::Int8 => int8::matmul(pool, x, rows, weight, out),
        _ => bf16::matmul(pool, x, rows, weight, out),
    }
}

/// All eight tiles of this thread, whole, for as long as the value lives.
struct Tiles;

impl Tiles {
    /// # Safety
    /// The process must have permission to use tiles, and nobody else in this thread may have them.
    unsafe fn configure() -> Self {
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            line_bytes: [u16; 16],
            lines: [u8; 16],
        }
        const ALL: Configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            line_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            lines: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        // SAFETY: as the caller promises; the configuration is 64 bytes and valid for palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &ALL, options(nostack, readonly)) };
        Self
    }
}

/// Gives the tiles back, so that switching threads need not save their eight kilobytes.
impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever configured the tiles had permission to use them, and keeps nothing in them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// A product on its way through the caches: what part of it one thread does, in which order.
struct Walk {
    pairs: Range<usize>,
    row_tiles: usize,
    /// Pairs of panels, and tiles of rows, that meet each other while both are near.
    pairs_at_once: usize,
    tiles_at_once: usize,
}

/// Panels and activations that together stay in a second-level cache of one or two megabytes: a block of panels is read from
/// memory once, while activations, some at a time, meet all of it.
const PANELS_BYTES: usize = 768 << 10;
const ACTIVATIONS_BYTES: usize = 256 << 10;

impl Walk {
    fn new(pairs: Range<usize>, row_tiles: usize, pair_bytes: usize, row_tile_bytes: usize) -> Self {
        let tiles_at_once = (ACTIVATIONS_BYTES / row_tile_bytes).next_multiple_of(2).max(2);
        Self { pairs, row_tiles, pairs_at_once: (PANELS_BYTES / pair_bytes).max(1), tiles_at_once }
    }

    /// Each pair of panels with each range of row tiles.
    fn steps(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let row_tiles = move || (0..self.row_tiles).step_by(self.tiles_at_once);
        self.pairs.clone().step_by(self.pairs_at_once).flat_map(move |first| {
            let pairs = first..self.pairs.end.min(first + self.pairs_at_once);
            row_tiles().flat_map(move |tile| {
                let tiles = tile..self.row_tiles.min(tile + self.tiles_at_once);
                pairs.clone().map(move |pair| (pair, tiles.clone()))
            })
        })
    }
}

/// The panels of a pair: the last one, twice, where there is no other.
fn panels_of(pair: usize, weight: &Matrix) -> [usize; 2] {
    [2 * pair, (2 * pair + 1).min(weight.panels() - 1)]
}

/// Where a panel begins.
///
/// # Safety
/// The panel must be one of this matrix.
unsafe fn panel_start(weight: &Matrix, panel: usize) -> *const u8 {
    debug_assert!(panel < weight.panels());
    // SAFETY: as the caller promises.
    unsafe { weight.start().add(panel * weight.panel_bytes()) }
}

/// What one thread has of a product: some pairs of panels, for all rows.
#[derive(Clone)]
struct Part<'a> {
    /// All rows, as tiles: `[rows/16][steps][16][64 bytes]`.
    activations: *const u8,
    rows: usize,
    /// Tiles across the inputs.
    steps: usize,
    weight: &'a Matrix,
    pairs: Range<usize>,
    out: Shared<f32>,
}
