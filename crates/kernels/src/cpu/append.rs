//! How do a token's key and value get to their place among those of their block?

// Loops over lanes count: an iterator between them and their index has kept compilers from vectorising.
#![allow(clippy::needless_range_loop)]

use super::lanes::{LANES, Lanes, Operation};
use crate::KvPrecision;
use crate::attention::BLOCK_TOKENS;
use crate::packing::bf16_bits;

/// Scatters one token's key and value into one head's part of a block; see `KvCache` for the layout.
pub(crate) struct Append<'a> {
    pub precision: KvPrecision,
    /// The words of the head: keys, then values, then scales.
    pub words: &'a mut [u32],
    pub token: usize,
    pub key: &'a [f32],
    pub value: &'a [f32],
}

impl Operation for Append<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        match self.precision {
            KvPrecision::Bf16 => self.halves(),
            KvPrecision::Int8 => self.bytes(),
        }
    }
}

impl Append<'_> {
    #[inline(always)]
    fn halves(self) {
        let Self { words, token, key, value, .. } = self;
        let (keys, values) = words.split_at_mut(words.len() / 2);
        let (keys, values) = (keys.as_chunks_mut::<LANES>().0, values.as_chunks_mut::<LANES>().0);
        // A key is one word in each line of its panel.
        let (panel, lane) = (token / LANES, token % LANES);
        let panel_lines = keys.len() / (BLOCK_TOKENS / LANES);
        let lines = &mut keys[panel * panel_lines..][..panel_lines];
        for (i, lines) in lines.as_chunks_mut::<{ LANES / 2 }>().0.iter_mut().enumerate() {
            let halves = sixteen_halves(&key[i * LANES..]);
            for (pair, line) in lines.iter_mut().enumerate() {
                line[lane] = halves[2 * pair] | halves[2 * pair + 1] << 16;
            }
        }
        // A value is half of each word in one line of each panel.
        let (line, shift) = (token / 2, token % 2 * 16);
        let keep = 0xffff_0000_u32 >> shift;
        for (i, panel) in values.as_chunks_mut::<{ BLOCK_TOKENS / 2 }>().0.iter_mut().enumerate() {
            let halves = sixteen_halves(&value[i * LANES..]);
            for (word, half) in panel[line].iter_mut().zip(halves) {
                *word = *word & keep | half << shift;
            }
        }
    }

    #[inline(always)]
    fn bytes(self) {
        let Self { words, token, key, value, .. } = self;
        let (numbers, scales) = words.split_at_mut(words.len() - BLOCK_TOKENS);
        let (key_scales, value_scales) = scales.split_at_mut(BLOCK_TOKENS / 2);
        let (keys, values) = numbers.split_at_mut(numbers.len() / 2);
        let (keys, values) = (keys.as_chunks_mut::<LANES>().0, values.as_chunks_mut::<LANES>().0);
        // A key is one word in each line of its panel.
        let (scale, inverse) = byte_scale(key);
        bytemuck::cast_slice_mut::<u32, u16>(key_scales)[token] = scale;
        let (panel, lane) = (token / LANES, token % LANES);
        let panel_lines = keys.len() / (BLOCK_TOKENS / LANES);
        let lines = &mut keys[panel * panel_lines..][..panel_lines];
        for (i, lines) in lines.as_chunks_mut::<{ LANES / 4 }>().0.iter_mut().enumerate() {
            let bytes = sixteen_bytes(&key[i * LANES..], inverse);
            for (group, line) in lines.iter_mut().enumerate() {
                let [a, b, c, d] = *bytes[4 * group..].first_chunk().expect("four groups of four");
                line[lane] = a | b << 8 | c << 16 | d << 24;
            }
        }
        // A value is one byte of each word in one line of each panel.
        let (scale, inverse) = byte_scale(value);
        bytemuck::cast_slice_mut::<u32, u16>(value_scales)[token] = scale;
        let (line, shift) = (token / 4, token % 4 * 8);
        let keep = !(0xff_u32 << shift);
        for (i, panel) in values.as_chunks_mut::<{ BLOCK_TOKENS / 4 }>().0.iter_mut().enumerate() {
            let bytes = sixteen_bytes(&value[i * LANES..], inverse);
            for (word, byte) in panel[line].iter_mut().zip(bytes) {
                *word = *word & keep | byte << shift;
            }
        }
    }
}

/// The first sixteen values, with zeros for dimensions that are only padding.
#[inline(always)]
fn sixteen(values: &[f32]) -> [f32; LANES] {
    let mut sixteen = [0.0; LANES];
    match values.first_chunk() {
        Some(whole) => sixteen = *whole,
        None => sixteen[..values.len()].copy_from_slice(values),
    }
    sixteen
}

#[inline(always)]
fn sixteen_halves(values: &[f32]) -> [u32; LANES] {
    let sixteen = sixteen(values);
    let mut halves = [0; LANES];
    for lane in 0..LANES {
        halves[lane] = u32::from(bf16_bits(sixteen[lane]));
    }
    halves
}

/// Sixteen values in units of a scale, rounded, as bytes with their signs.
#[inline(always)]
fn sixteen_bytes(values: &[f32], inverse: f32) -> [u32; LANES] {
    /// Of a small value plus 1.5 · 2^23, the low bits are the rounded value.
    const ROUNDER: f32 = 12_582_912.0;
    let sixteen = sixteen(values);
    let mut bytes = [0; LANES];
    for lane in 0..LANES {
        bytes[lane] = (sixteen[lane] * inverse + ROUNDER).to_bits() & 0xff;
    }
    bytes
}

/// The scale of a token's 127 steps as bf16, rounded up so that the largest value fits, and its inverse. A value that is not
/// finite makes a scale that is not a number, so that it shows.
#[inline(always)]
fn byte_scale(values: &[f32]) -> (u16, f32) {
    let (mut largest, mut sum) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for chunk in values.chunks(LANES) {
        let sixteen = sixteen(chunk);
        for lane in 0..LANES {
            let size = sixteen[lane].abs();
            largest[lane] = if size > largest[lane] { size } else { largest[lane] };
            sum[lane] += size;
        }
    }
    let largest = largest.iter().copied().fold(0.0, f32::max);
    if !sum.iter().sum::<f32>().is_finite() {
        return (bf16_bits(f32::NAN), 0.0);
    }
    let up = ((largest / 127.0).to_bits() + 0xffff) >> 16;
    let scale = f32::from_bits(up << 16);
    // Below this the inverse is infinite; so small a vector is zero.
    if scale < 1e-37 { (0, 0.0) } else { (up as u16, 1.0 / scale) }
}
