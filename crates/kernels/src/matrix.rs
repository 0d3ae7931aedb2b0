//! What is a weight matrix in memory, and how is it multiplied with a few rows of activations?
//!
//! Sixteen outputs make a panel; the inputs of a panel lie in words of four bytes, one word of each output in turn:
//!
//! ```text
//! F32         [N/16][K  ][16]       a word is one input
//! F16, Bf16   [N/16][K/2][16][2]    a word is two consecutive inputs
//! Int8        [N/16][K/4][16][4]    a word is four; one f32 scale for each output stands apart
//! ```
//!
//! `N` is padded with zeros to 16, `K` to 32. The same bytes serve vector registers (a cache line is one word of each output)
//! and AMX tiles (sixteen lines are one tile), so there is exactly one copy of each weight.

use crate::cpu;
use crate::cpu::lanes::LANES;
use crate::memory::{Arena, Shared};
use crate::{Isa, Numerics, Pool};

/// How a weight is kept in memory. `Int8` has one scale per output row (symmetric).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    F32,
    F16,
    Bf16,
    Int8,
}

/// A weight matrix `[outputs][inputs]`, packed once for this machine.
pub struct Matrix {
    outputs: usize,
    inputs: usize,
    precision: Precision,
    words: Arena,
    /// One for each output, padded to whole panels; empty unless the precision is `Int8`.
    scales: Vec<f32>,
}

/// Inputs are padded to what one AMX tile of bf16 takes.
const INPUTS_MULTIPLE: usize = 32;

impl Precision {
    /// Inputs in one word of four bytes.
    fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }
}

impl Matrix {
    /// Packs a matrix; `fill(row, values)` writes one row of `inputs` values, and is called once for each row, in order.
    pub fn pack(
        precision: Precision,
        outputs: usize,
        inputs: usize,
        fill: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Self {
        let mut matrix = Self::empty(precision, outputs, inputs);
        let mut panel = PanelWriter::new(&matrix);
        for number in 0..matrix.panels() {
            panel.gather(number, fill);
            panel.write(&mut matrix, number);
        }
        matrix
    }

    /// Packs a matrix with all threads of a pool; `fill` is called once for each row, in any order.
    pub fn pack_with(
        pool: &Pool,
        precision: Precision,
        outputs: usize,
        inputs: usize,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Self {
        let mut matrix = Self::empty(precision, outputs, inputs);
        let (panel_words, panels) = (matrix.panel_bytes() / 4, matrix.panels());
        let (words, scales) =
            (Shared::new(matrix.words.start_mut().cast::<u32>()), Shared::new(matrix.scales.as_mut_ptr()));
        let has_scales = !matrix.scales.is_empty();
        pool.run_ranges(panels, 1, &|range| {
            let mut panel = PanelWriter::with(precision, outputs, inputs);
            for number in range {
                panel.gather(number, &mut |row, values| fill(row, values));
                // SAFETY: each panel is in one range only, and its words and scales lie inside the matrix.
                unsafe {
                    panel.transpose(words.get().add(number * panel_words));
                    if has_scales {
                        let to = scales.get().add(number * LANES);
                        std::ptr::copy_nonoverlapping(panel.scales.as_ptr(), to, LANES);
                    }
                }
            }
        });
        matrix
    }

    /// Packs rows that already are in the wanted precision, bit for bit, with all threads of a pool: `row(i)` is the little-endian
    /// bytes of row `i`, at any alignment.
    ///
    /// # Panics
    /// When a row is not `inputs` values long, or for `Int8`, whose scales such rows do not have.
    pub fn pack_bytes<'a>(
        pool: &Pool,
        precision: Precision,
        outputs: usize,
        inputs: usize,
        row: &(dyn Fn(usize) -> &'a [u8] + Sync),
    ) -> Self {
        assert!(precision != Precision::Int8, "int8 rows need scales: pack them with `pack` or `pack_with`");
        let mut matrix = Self::empty(precision, outputs, inputs);
        let row_bytes = inputs * 4 / precision.per_word();
        let (panel_words, panels) = (matrix.panel_bytes() / 4, matrix.panels());
        let words = Shared::new(matrix.words.start_mut().cast::<u32>());
        pool.run_ranges(panels, 1, &|range| {
            for number in range {
                let rows = number * LANES..((number + 1) * LANES).min(outputs);
                let sources: Vec<&[u8]> = rows.map(row).collect();
                assert!(sources.iter().all(|row| row.len() == row_bytes), "each row has {row_bytes} bytes");
                // SAFETY: each panel is in one range only, and lies inside the matrix.
                let panel = unsafe {
                    std::slice::from_raw_parts_mut(words.get().add(number * panel_words), panel_words)
                };
                transpose_bytes(&sources, panel);
            }
        });
        matrix
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// Bytes this matrix really occupies, scales and padding included.
    pub fn resident_bytes(&self) -> usize {
        self.words.bytes() + size_of_val(&*self.scales)
    }
    /// The name of the code path that multiplies by it on this machine, such as `avx512-bf16` or `portable-f32`.
    pub fn path(&self) -> &'static str {
        path(Isa::detect(), Numerics::default(), self.precision)
    }

    /// Writes one row's values: the embedding of a token.
    pub fn row(&self, row: usize, values: &mut [f32]) {
        assert!(row < self.outputs, "row {row} of a matrix with {} rows", self.outputs);
        assert_eq!(values.len(), self.inputs, "a row has as many values as the matrix has inputs");
        let words: &[u32] = bytemuck::cast_slice(self.words.as_slice());
        let panel = &words[row / LANES * self.panel_bytes() / 4..][..self.panel_bytes() / 4];
        let lane = panel.iter().skip(row % LANES).step_by(LANES);
        for (values, word) in values.chunks_mut(self.precision.per_word()).zip(lane) {
            let bytes = word.to_le_bytes();
            let halves = [u16::from_le_bytes([bytes[0], bytes[1]]), u16::from_le_bytes([bytes[2], bytes[3]])];
            for (i, value) in values.iter_mut().enumerate() {
                *value = match self.precision {
                    Precision::F32 => f32::from_bits(*word),
                    Precision::F16 => half::f16::from_bits(halves[i]).to_f32(),
                    Precision::Bf16 => half::bf16::from_bits(halves[i]).to_f32(),
                    Precision::Int8 => f32::from(bytes[i] as i8) * self.scales[row],
                };
            }
        }
    }

    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }
    pub(crate) fn panel_bytes(&self) -> usize {
        panel_words(self.precision, self.inputs) * 4
    }
    pub(crate) fn start(&self) -> *const u8 {
        self.words.start()
    }
    pub(crate) fn scales(&self) -> Option<&[f32]> {
        (!self.scales.is_empty()).then_some(&self.scales)
    }

    fn empty(precision: Precision, outputs: usize, inputs: usize) -> Self {
        let panels = outputs.div_ceil(LANES);
        let scales = if precision == Precision::Int8 { vec![0.0; panels * LANES] } else { Vec::new() };
        let words = Arena::zeroed(panels * panel_words(precision, inputs) * 4);
        Self { outputs, inputs, precision, words, scales }
    }
}

/// `out[m][n] = Σ_k x[m][k] · weight[n][k]` for `rows` rows of `x`; both are dense and row-major.
pub fn matmul(pool: &Pool, x: &[f32], rows: usize, weight: &Matrix, out: &mut [f32]) {
    assert_eq!(x.len(), rows * weight.inputs, "x has {rows} rows of {} values", weight.inputs);
    assert_eq!(out.len(), rows * weight.outputs, "out has {rows} rows of {} values", weight.outputs);
    #[cfg(target_arch = "x86_64")]
    if cpu::amx::suits(pool, rows, weight) {
        return cpu::amx::matmul(pool, x, rows, weight, out);
    }
    cpu::matmul::matmul(pool, x, rows, weight, out);
}

pub(crate) fn path(isa: Isa, numerics: Numerics, precision: Precision) -> &'static str {
    let isa = if isa == Isa::Amx && (numerics == Numerics::BatchInvariant || !precision.has_tiles()) {
        Isa::Avx512
    } else {
        isa
    };
    match (isa, precision) {
        (Isa::Portable, Precision::F32) => "portable-f32",
        (Isa::Portable, Precision::F16) => "portable-f16",
        (Isa::Portable, Precision::Bf16) => "portable-bf16",
        (Isa::Portable, Precision::Int8) => "portable-int8",
        (Isa::Avx2, Precision::F32) => "avx2-f32",
        (Isa::Avx2, Precision::F16) => "avx2-f16",
        (Isa::Avx2, Precision::Bf16) => "avx2-bf16",
        (Isa::Avx2, Precision::Int8) => "avx2-int8",
        (_, Precision::F32) => "avx512-f32",
        (_, Precision::F16) => "avx512-f16",
        (Isa::Avx512, Precision::Bf16) => "avx512-bf16",
        (Isa::Avx512, Precision::Int8) => "avx512-int8",
        (Isa::Amx, Precision::Bf16) => "amx-bf16",
        (Isa::Amx, Precision::Int8) => "amx-int8",
    }
}

impl Precision {
    /// Whether its weights can enter bf16 tiles without losing a bit.
    pub(crate) fn has_tiles(self) -> bool {
        matches!(self, Self::Bf16 | Self::Int8)
    }
}

fn panel_words(precision: Precision, inputs: usize) -> usize {
    inputs.next_multiple_of(INPUTS_MULTIPLE) / precision.per_word() * LANES
}

/// Sixteen rows on their way into a panel.
struct PanelWriter {
    precision: Precision,
    outputs: usize,
    values: Vec<f32>,
    row_words: usize,
    rows: Vec<u32>,
    scales: [f32; LANES],
}

impl PanelWriter {
    fn new(matrix: &Matrix) -> Self {
        Self::with(matrix.precision, matrix.outputs, matrix.inputs)
    }

    fn with(precision: Precision, outputs: usize, inputs: usize) -> Self {
        let row_words = inputs.div_ceil(precision.per_word());
        let rows = vec![0; row_words * LANES];
        Self { precision, outputs, values: vec![0.0; inputs], row_words, rows, scales: [0.0; LANES] }
    }

    fn gather(&mut self, panel: usize, fill: &mut dyn FnMut(usize, &mut [f32])) {
        for lane in 0..LANES {
            let row = panel * LANES + lane;
            let words = &mut self.rows[lane * self.row_words..][..self.row_words];
            if row < self.outputs {
                fill(row, &mut self.values);
                self.scales[lane] = encode(self.precision, &self.values, words);
            } else {
                words.fill(0);
                self.scales[lane] = 0.0;
            }
        }
    }

    fn write(&self, matrix: &mut Matrix, panel: usize) {
        let start = panel * matrix.panel_bytes();
        // SAFETY: a panel of this matrix has room for the row's words of sixteen outputs.
        unsafe { self.transpose(matrix.words.start_mut().add(start).cast()) };
        if let Some(scales) = matrix.scales.get_mut(panel * LANES..(panel + 1) * LANES) {
            scales.copy_from_slice(&self.scales);
        }
    }

    /// # Safety
    /// `to` must have room for `row_words × 16` words that nobody else touches.
    unsafe fn transpose(&self, to: *mut u32) {
        // SAFETY: as above; arenas are aligned for words.
        let panel = unsafe { std::slice::from_raw_parts_mut(to, self.row_words * LANES) };
        for (word, line) in panel.chunks_exact_mut(LANES).enumerate() {
            for (lane, place) in line.iter_mut().enumerate() {
                *place = self.rows[lane * self.row_words + word];
            }
        }
    }
}

/// Turns one row into words of its precision, and returns its scale.
fn encode(precision: Precision, values: &[f32], words: &mut [u32]) -> f32 {
    let pair = |pair: &[f32], bits: fn(f32) -> u16| {
        u32::from(bits(pair[0])) | pair.get(1).map_or(0, |value| u32::from(bits(*value)) << 16)
    };
    match precision {
        Precision::F32 => {
            words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits());
            1.0
        }
        Precision::F16 => {
            let bits = |value| half::f16::from_f32(value).to_bits();
            words.iter_mut().zip(values.chunks(2)).for_each(|(word, values)| *word = pair(values, bits));
            1.0
        }
        Precision::Bf16 => {
            words.iter_mut().zip(values.chunks(2)).for_each(|(word, values)| *word = pair(values, bf16_bits));
            1.0
        }
        Precision::Int8 => {
            const LARGEST: f32 = 127.0;
            let scale = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs())) / LARGEST;
            let step = if scale > 0.0 { scale } else { 1.0 };
            let byte = |value: f32| (value / step).round_ties_even().clamp(-LARGEST, LARGEST) as i8 as u8;
            for (word, values) in words.iter_mut().zip(values.chunks(4)) {
                let mut bytes = [0; 4];
                bytes.iter_mut().zip(values).for_each(|(place, value)| *place = byte(*value));
                *word = u32::from_le_bytes(bytes);
            }
            scale
        }
    }
}

/// The nearest bf16, ties to even; NaN stays NaN. Written without branches so that it vectorises.
#[inline(always)]
pub(crate) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if value.is_nan() { quiet } else { rounded }) as u16
}

/// Interleaves rows of little-endian words into a panel; a last half word is padded with zeros.
fn transpose_bytes(rows: &[&[u8]], panel: &mut [u32]) {
    /// Words of each row at a time, so that the part of the panel they go to stays in the nearest cache.
    const BLOCK_WORDS: usize = 256;
    for (block, lines) in panel.chunks_mut(BLOCK_WORDS * LANES).enumerate() {
        for (lane, row) in rows.iter().enumerate() {
            let row = row.get(block * BLOCK_WORDS * 4..).unwrap_or_default();
            let words = row.chunks_exact(4);
            if let ([low, high], Some(place)) = (words.remainder(), lines.get_mut(words.len() * LANES + lane))
            {
                *place = u32::from(u16::from_le_bytes([*low, *high]));
            }
            for (word, line) in words.zip(lines.chunks_exact_mut(LANES)) {
                line[lane] = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            }
        }
    }
}
