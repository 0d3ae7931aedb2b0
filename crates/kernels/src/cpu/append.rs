//! How does a token's key and value get to its place among those of its block?

// Loops over lanes count: an iterator between them and their index has kept compilers from vectorising.
#![allow(clippy::needless_range_loop)]

use super::lanes::{LANES, Lanes, Operation};
use crate::attention::BLOCK_TOKENS;
use crate::packing::bf16_bits;

/// Scatters one token's key and value into one head's part of a block, as words of two bf16; see `KvCache` for the layout.
pub(crate) struct Append<'a> {
    /// The words of the head: keys, then values.
    pub words: &'a mut [u32],
    pub token: usize,
    pub key: &'a [f32],
    pub value: &'a [f32],
}

impl Operation for Append<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { words, token, key, value } = self;
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
}

/// The first sixteen values as bf16, with zeros for dimensions that are only padding.
#[inline(always)]
fn sixteen_halves(values: &[f32]) -> [u32; LANES] {
    let mut sixteen = [0.0; LANES];
    match values.first_chunk() {
        Some(whole) => sixteen = *whole,
        None => sixteen[..values.len()].copy_from_slice(values),
    }
    let mut halves = [0; LANES];
    for lane in 0..LANES {
        halves[lane] = u32::from(bf16_bits(sixteen[lane]));
    }
    halves
}
