//! How do rows of floats become the words and scales of a panel?

use crate::Precision;
use crate::cpu::lanes::LANES;
use crate::matrix::{INT4_GROUP, Int4Group, Places};

/// Sixteen rows on their way into a panel.
pub(crate) struct PanelWriter {
    precision: Precision,
    /// The row that is being written.
    values: Vec<f32>,
    steps: Vec<u8>,
    groups: Vec<Int4Group>,
    lane: usize,
    row_words: usize,
    /// The words of one row after the other.
    rows: Vec<u32>,
    /// As they lie in the matrix.
    scales: Vec<u32>,
}

impl PanelWriter {
    pub fn new(precision: Precision, inputs: usize) -> Self {
        let row_words = inputs.div_ceil(precision.per_word());
        let (steps, groups, scale_words) = match precision {
            Precision::Int4 => (inputs, inputs.div_ceil(INT4_GROUP), inputs.div_ceil(INT4_GROUP) * LANES),
            Precision::Int8 => (0, 0, LANES),
            _ => (0, 0, 0),
        };
        Self {
            precision,
            values: vec![0.0; inputs],
            steps: vec![0; steps],
            groups: vec![Int4Group::default(); groups],
            lane: 0,
            row_words,
            rows: vec![0; row_words * LANES],
            scales: vec![0; scale_words],
        }
    }

    /// Lets `fill` write each of these rows, at most sixteen; the rest of the panel is zeros.
    pub fn gather(&mut self, rows: std::ops::Range<usize>, mut fill: impl FnMut(usize, &mut Self)) {
        self.rows[rows.len() * self.row_words..].fill(0);
        self.scales.fill(0);
        for (lane, row) in rows.enumerate() {
            self.lane = lane;
            fill(row, self);
        }
    }

    /// Takes the row that `fill` writes, rounded to the precision.
    pub fn values(&mut self, fill: impl FnOnce(&mut [f32])) {
        fill(&mut self.values);
        let words = &mut self.rows[self.lane * self.row_words..][..self.row_words];
        match self.precision {
            Precision::Int8 => self.scales[self.lane] = encode_int8(&self.values, words).to_bits(),
            Precision::Int4 => {
                round_int4(&self.values, &mut self.steps, &mut self.groups);
                self.take_steps();
            }
            precision => encode_floats(precision, &self.values, words),
        }
    }

    /// Takes a row of int4 that `fill` has rounded itself.
    pub fn steps(&mut self, fill: impl FnOnce(&mut [u8], &mut [Int4Group])) {
        fill(&mut self.steps, &mut self.groups);
        self.take_steps();
    }

    fn take_steps(&mut self) {
        let words = &mut self.rows[self.lane * self.row_words..][..self.row_words];
        for (word, steps) in words.iter_mut().zip(self.steps.chunks(8)) {
            let step = |i: usize| u32::from(steps.get(i).map_or(0, |step| step & 15));
            *word = (0..4).fold(0, |word, i| word | (step(i) | step(i + 4) << 4) << (8 * i));
        }
        let scales: &mut [u16] = bytemuck::cast_slice_mut(&mut self.scales);
        for (line, group) in scales.chunks_exact_mut(2 * LANES).zip(&self.groups) {
            line[self.lane] = half::f16::from_f32(group.scale).to_bits();
            line[LANES + self.lane] = half::f16::from_f32(group.minimum).to_bits();
        }
    }

    /// # Safety
    /// The panel must be one of the matrix, which has the precision and inputs of this writer, and nobody else may touch it.
    pub unsafe fn write(&self, places: &Places, panel: usize) {
        debug_assert_eq!(self.scales.len(), places.panel_scales);
        // SAFETY: a panel has room for the words of sixteen rows, and for its scales; storage is aligned for words.
        let (words, scales) = unsafe {
            (
                std::slice::from_raw_parts_mut(
                    places.words.get().add(panel * places.panel_words),
                    self.row_words * LANES,
                ),
                std::slice::from_raw_parts_mut(
                    places.scales.get().add(panel * places.panel_scales),
                    places.panel_scales,
                ),
            )
        };
        for (word, line) in words.chunks_exact_mut(LANES).enumerate() {
            for (lane, place) in line.iter_mut().enumerate() {
                *place = self.rows[lane * self.row_words + word];
            }
        }
        scales.copy_from_slice(&self.scales);
    }
}

fn encode_floats(precision: Precision, values: &[f32], words: &mut [u32]) {
    let pair = |pair: &[f32], bits: fn(f32) -> u16| {
        u32::from(bits(pair[0])) | pair.get(1).map_or(0, |value| u32::from(bits(*value)) << 16)
    };
    match precision {
        Precision::F16 => {
            let bits = |value| half::f16::from_f32(value).to_bits();
            words.iter_mut().zip(values.chunks(2)).for_each(|(word, values)| *word = pair(values, bits));
        }
        Precision::Bf16 => {
            words.iter_mut().zip(values.chunks(2)).for_each(|(word, values)| *word = pair(values, bf16_bits));
        }
        _ => words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits()),
    }
}

/// Returns the scale of the row.
fn encode_int8(values: &[f32], words: &mut [u32]) -> f32 {
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

/// Spreads sixteen steps from the least value of each group to its largest, and takes the nearest step of each value.
fn round_int4(values: &[f32], steps: &mut [u8], groups: &mut [Int4Group]) {
    const STEPS: f32 = 15.0;
    // The nearest that can be kept, so that steps are measured with what will multiply them.
    let kept = |value: f32| half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32();
    let groups = groups.iter_mut().zip(values.chunks(INT4_GROUP)).zip(steps.chunks_mut(INT4_GROUP));
    for ((group, values), steps) in groups {
        let least = values.iter().fold(f32::INFINITY, |least, value| least.min(*value));
        let largest = values.iter().fold(f32::NEG_INFINITY, |largest, value| largest.max(*value));
        let minimum = kept(least);
        let scale = kept((largest - minimum).max(0.0) / STEPS);
        *group = Int4Group { scale, minimum };
        let step = if scale > 0.0 { scale } else { f32::INFINITY };
        for (place, value) in steps.iter_mut().zip(values) {
            *place = ((value - minimum) / step).round_ties_even().clamp(0.0, STEPS) as u8;
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
pub(crate) fn transpose_bytes(rows: &[&[u8]], panel: &mut [u32]) {
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
