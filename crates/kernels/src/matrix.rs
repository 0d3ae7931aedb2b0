//! What is a weight matrix in memory, and how is it multiplied with a few rows of activations?
//!
//! Sixteen outputs make a panel; the inputs of a panel lie in words of four bytes, one word of each output in turn:
//!
//! ```text
//! F32         [N/16][K  ][16]       a word is one input
//! F16, Bf16   [N/16][K/2][16][2]    a word is two consecutive inputs
//! Int8        [N/16][K/4][16][4]    a word is four; behind all words, one f32 scale for each output: [N/16][16]
//! Int4        [N/16][K/8][16][8]    a word is eight: the low halves of its bytes are the first four, the high halves the last
//!                                   four; behind all words, for each group of 128 inputs, sixteen f16 scales and sixteen
//!                                   f16 minima: [N/16][K/128][2][16]
//! ```
//!
//! `N` is padded with zeros to 16, `K` to 32 (Int4: to 128). All of a matrix lies in one piece of memory, which can be written
//! to a file and mapped again. The same bytes serve vector registers (a cache line is one word of each output)
//! and AMX tiles (sixteen lines are one tile), so there is exactly one copy of each weight.

use crate::cpu;
use crate::cpu::dots::DotsPath;
use crate::cpu::lanes::LANES;
use crate::elementwise::over_rows;
use crate::memory::{Shared, Storage, StorageError};
use crate::packing::{PanelWriter, transpose_bytes};
use crate::{Isa, Numerics, Pool};

/// How a weight is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    F32,
    F16,
    Bf16,
    /// Whole numbers from -127 to 127 times one scale for each output.
    Int8,
    /// For each output and group of 128 inputs: `minimum + scale · q`, `q` from 0 to 15. 4.25 bits a weight.
    Int4,
}

/// A weight matrix `[outputs][inputs]`, packed once for this machine.
pub struct Matrix {
    outputs: usize,
    inputs: usize,
    precision: Precision,
    /// The words of all panels, then their scales.
    storage: Storage,
}

/// Inputs of one output that share a scale and a minimum in `Precision::Int4`.
pub const INT4_GROUP: usize = 128;

/// What the sixteen steps of one group of int4 mean: `minimum + scale · q`. Both are rounded to f16 when they are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Int4Group {
    pub scale: f32,
    pub minimum: f32,
}

/// Writes the steps of one row, from 0 to 15, and what they mean in each group.
pub type FillInt4<'a> = dyn Fn(usize, &mut [u8], &mut [Int4Group]) + Sync + 'a;

const CACHE_LINE_BYTES: usize = 64;

impl Precision {
    /// Inputs in one word of four bytes.
    pub(crate) fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 => 4,
            Self::Int4 => 8,
        }
    }

    /// Inputs are padded to what one AMX tile of bf16 takes, or to whole groups.
    pub(crate) fn padded_inputs(self, inputs: usize) -> usize {
        inputs.next_multiple_of(if self == Self::Int4 { INT4_GROUP } else { 32 })
    }

    /// Cache lines of scales that belong to one panel.
    fn scale_lines(self, inputs: usize) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 0,
            Self::Int8 => 1,
            Self::Int4 => inputs.div_ceil(INT4_GROUP),
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
        let places = matrix.places();
        let mut writer = PanelWriter::new(precision, inputs);
        for panel in 0..matrix.panels() {
            writer.gather(rows_of(panel, outputs), |row, writer| writer.values(|values| fill(row, values)));
            // SAFETY: the panel is one of this matrix, which nobody else has.
            unsafe { writer.write(&places, panel) };
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
        Self::pack_panels(pool, precision, outputs, inputs, &|row, writer| {
            writer.values(|values| fill(row, values))
        })
    }

    /// Packs int4 weights that somebody else has rounded; `fill` is called once for each row, in any order.
    pub fn pack_int4(pool: &Pool, outputs: usize, inputs: usize, fill: &FillInt4<'_>) -> Self {
        Self::pack_panels(pool, Precision::Int4, outputs, inputs, &|row, writer| {
            writer.steps(|steps, groups| fill(row, steps, groups))
        })
    }

    fn pack_panels(
        pool: &Pool,
        precision: Precision,
        outputs: usize,
        inputs: usize,
        fill: &(dyn Fn(usize, &mut PanelWriter) + Sync),
    ) -> Self {
        let mut matrix = Self::empty(precision, outputs, inputs);
        let places = matrix.places();
        pool.run_ranges(matrix.panels(), 1, &|range| {
            let mut writer = PanelWriter::new(precision, inputs);
            for panel in range {
                writer.gather(rows_of(panel, outputs), fill);
                // SAFETY: each panel is in one range only, and is one of this matrix.
                unsafe { writer.write(&places, panel) };
            }
        });
        matrix
    }

    /// Packs rows that already are in the wanted precision, bit for bit, with all threads of a pool: `row(i)` is the little-endian
    /// bytes of row `i`, at any alignment.
    ///
    /// # Panics
    /// When a row is not `inputs` values long, or for `Int8` and `Int4`, whose scales such rows do not have.
    pub fn pack_bytes<'a>(
        pool: &Pool,
        precision: Precision,
        outputs: usize,
        inputs: usize,
        row: &(dyn Fn(usize) -> &'a [u8] + Sync),
    ) -> Self {
        assert!(
            precision.scale_lines(1) == 0,
            "whole numbers need scales: pack them with `pack` or `pack_with`"
        );
        let mut matrix = Self::empty(precision, outputs, inputs);
        let row_bytes = inputs * 4 / precision.per_word();
        let (panel_words, panels) = (matrix.panel_bytes() / 4, matrix.panels());
        let words = matrix.places().words;
        pool.run_ranges(panels, 1, &|range| {
            for number in range {
                let sources: Vec<&[u8]> = rows_of(number, outputs).map(row).collect();
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

    /// Returns the matrix whose `bytes()` were these, on whatever machine it was packed.
    pub fn from_storage(
        precision: Precision,
        outputs: usize,
        inputs: usize,
        storage: Storage,
    ) -> Result<Self, StorageError> {
        let expected_bytes = Self::storage_bytes(precision, outputs, inputs);
        let bytes = storage.as_slice().len();
        if expected_bytes != Some(bytes) {
            return Err(StorageError::WrongLength { expected_bytes, bytes });
        }
        Ok(Self { outputs, inputs, precision, storage })
    }

    /// Returns how many bytes a matrix of this shape occupies; `None` is more than can be addressed.
    pub fn storage_bytes(precision: Precision, outputs: usize, inputs: usize) -> Option<usize> {
        let padded = inputs.checked_add(INT4_GROUP).map(|_| precision.padded_inputs(inputs))?;
        let panel_lines = (padded / precision.per_word()).checked_add(precision.scale_lines(inputs))?;
        let bytes = panel_lines.checked_mul(CACHE_LINE_BYTES)?.checked_mul(outputs.div_ceil(LANES))?;
        (bytes <= isize::MAX as usize / 2).then_some(bytes)
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
        self.bytes().len()
    }
    /// All of the matrix as it lies in memory: what `from_storage` takes.
    pub fn bytes(&self) -> &[u8] {
        self.storage.as_slice()
    }
    /// The name of the code path that multiplies by it on this machine, such as `avx512-bf16` or `portable-f32`.
    pub fn path(&self) -> &'static str {
        path(Isa::detect(), Numerics::default(), self.precision)
    }

    /// Writes the values of some rows, one behind the other: the embeddings of tokens.
    pub fn rows(&self, pool: &Pool, rows: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * self.inputs, "a place for each value of each row");
        over_rows(pool, self.inputs, out, &|first, out| {
            for (row, values) in rows[first..].iter().zip(out.chunks_exact_mut(self.inputs)) {
                self.row(*row as usize, values);
            }
        });
    }

    /// Writes one row's values.
    pub fn row(&self, row: usize, values: &mut [f32]) {
        assert!(row < self.outputs, "row {row} of a matrix with {} rows", self.outputs);
        assert_eq!(values.len(), self.inputs, "a row has as many values as the matrix has inputs");
        let (panel, lane) = (row / LANES, row % LANES);
        let words: &[u32] =
            bytemuck::cast_slice(&self.bytes()[panel * self.panel_bytes()..][..self.panel_bytes()]);
        let words = words.iter().skip(lane).step_by(LANES);
        for (i, (values, word)) in values.chunks_mut(self.precision.per_word()).zip(words).enumerate() {
            let bytes = word.to_le_bytes();
            let halves = [u16::from_le_bytes([bytes[0], bytes[1]]), u16::from_le_bytes([bytes[2], bytes[3]])];
            let group = match self.precision {
                Precision::Int4 => self.int4_group(panel, lane, i * 8 / INT4_GROUP),
                _ => Int4Group::default(),
            };
            for (i, value) in values.iter_mut().enumerate() {
                *value = match self.precision {
                    Precision::F32 => f32::from_bits(*word),
                    Precision::F16 => half::f16::from_bits(halves[i]).to_f32(),
                    Precision::Bf16 => half::bf16::from_bits(halves[i]).to_f32(),
                    Precision::Int8 => f32::from(bytes[i] as i8) * self.int8_scales()[row],
                    Precision::Int4 => {
                        let step = bytes[i % 4] >> (i / 4 * 4) & 15;
                        group.minimum + group.scale * f32::from(step)
                    }
                };
            }
        }
    }

    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }
    pub(crate) fn panel_bytes(&self) -> usize {
        self.precision.padded_inputs(self.inputs) / self.precision.per_word() * LANES * 4
    }
    pub(crate) fn start(&self) -> *const u8 {
        self.bytes().as_ptr()
    }
    /// The scales of `Int8`, one for each output, padded to whole panels.
    pub(crate) fn scales(&self) -> Option<&[f32]> {
        (self.precision == Precision::Int8).then(|| self.int8_scales())
    }
    /// The scales of `Int4`: for each panel and group, sixteen f16 scales and sixteen f16 minima.
    pub(crate) fn int4_scales(&self) -> Option<&[[u16; 2 * LANES]]> {
        (self.precision == Precision::Int4).then(|| bytemuck::cast_slice(self.scale_bytes()))
    }

    fn scale_bytes(&self) -> &[u8] {
        &self.bytes()[self.panels() * self.panel_bytes()..]
    }
    fn int8_scales(&self) -> &[f32] {
        bytemuck::cast_slice(self.scale_bytes())
    }
    fn int4_group(&self, panel: usize, lane: usize, group: usize) -> Int4Group {
        let groups = self.inputs.div_ceil(INT4_GROUP);
        let scales = &self.int4_scales().expect("only int4 has groups")[panel * groups + group];
        let value = |at: usize| half::f16::from_bits(scales[at]).to_f32();
        Int4Group { scale: value(lane), minimum: value(LANES + lane) }
    }

    fn empty(precision: Precision, outputs: usize, inputs: usize) -> Self {
        let bytes = Self::storage_bytes(precision, outputs, inputs).expect("a matrix fits the address space");
        Self { outputs, inputs, precision, storage: Storage::zeroed(bytes) }
    }

    /// Where panels are written while this matrix is made.
    fn places(&mut self) -> Places {
        let (panels, panel_bytes, inputs) = (self.panels(), self.panel_bytes(), self.inputs);
        let bytes = self.storage.as_mut_slice().expect("a matrix that is being packed has memory of its own");
        let (words, scales) = bytes.split_at_mut(panels * panel_bytes);
        Places {
            words: Shared::new(words.as_mut_ptr().cast()),
            panel_words: panel_bytes / 4,
            scales: Shared::new(scales.as_mut_ptr().cast()),
            panel_scales: self.precision.scale_lines(inputs) * LANES,
        }
    }
}

/// The words and the scales of a matrix, `panel_words` and `panel_scales` words from panel to panel.
pub(crate) struct Places {
    pub words: Shared<u32>,
    pub panel_words: usize,
    pub scales: Shared<u32>,
    pub panel_scales: usize,
}

/// The rows of one panel that exist.
fn rows_of(panel: usize, outputs: usize) -> std::ops::Range<usize> {
    panel * LANES..((panel + 1) * LANES).min(outputs)
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
    #[cfg(target_arch = "x86_64")]
    let isa = if isa == Isa::Amx && !cpu::amx::has_tiles(numerics, precision) { Isa::Avx512 } else { isa };
    match (isa, precision) {
        (Isa::Amx, Precision::Bf16) => "amx-bf16",
        (Isa::Amx, Precision::Int8) => "amx-int8",
        (Isa::Amx, Precision::Int4) => "amx-int4",
        (_, Precision::Int8 | Precision::Int4) => integer_path(isa, precision),
        (Isa::Portable, Precision::F32) => "portable-f32",
        (Isa::Portable, Precision::F16) => "portable-f16",
        (Isa::Portable, Precision::Bf16) => "portable-bf16",
        (Isa::Avx2, Precision::F32) => "avx2-f32",
        (Isa::Avx2, Precision::F16) => "avx2-f16",
        (Isa::Avx2, Precision::Bf16) => "avx2-bf16",
        (_, Precision::Bf16) if cpu::matmul::pairs(isa, numerics).is_some() => "avx512-bf16-pairs",
        (Isa::Avx512, Precision::Bf16) => "avx512-bf16",
        (_, Precision::F32) => "avx512-f32",
        (_, Precision::F16) => "avx512-f16",
    }
}

fn integer_path(isa: Isa, precision: Precision) -> &'static str {
    match (DotsPath::of(isa), precision) {
        (DotsPath::Portable, Precision::Int4) => "portable-int4",
        (DotsPath::Avx2, Precision::Int4) => "avx2-int4",
        (DotsPath::AvxVnni, Precision::Int4) => "avx-vnni-int4",
        (DotsPath::Avx512Vnni | DotsPath::Avx512Bf16, Precision::Int4) => "avx512-vnni-int4",
        (DotsPath::Portable, _) => "portable-int8",
        (DotsPath::Avx2, _) => "avx2-int8",
        (DotsPath::AvxVnni, _) => "avx-vnni-int8",
        (DotsPath::Avx512Vnni | DotsPath::Avx512Bf16, _) => "avx512-vnni-int8",
    }
}
