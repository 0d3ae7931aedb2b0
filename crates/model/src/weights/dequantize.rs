//! Which numbers do the bytes of one row stand for?
//!
//! The block formats are those of ggml. Every product and sum is rounded to f32 in the order in which ggml's
//! reference code writes them, so the result is the same bit for bit.

use half::{bf16, f16};

use super::Encoding;

/// Fills `out` from `bytes`; both were cut to one row by the caller.
pub(crate) fn row(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    let blocks =
        bytes.chunks_exact(encoding.block_bytes()).zip(out.chunks_exact_mut(encoding.block_values()));
    match encoding {
        Encoding::F32 => blocks.for_each(|(block, out)| {
            out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        }),
        Encoding::F16 => blocks.for_each(|(block, out)| out[0] = half(block, 0)),
        Encoding::Bf16 => blocks.for_each(|(block, out)| {
            out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
        }),
        Encoding::Q8_0 => blocks.for_each(|(block, out)| q8_0(block, out)),
        Encoding::Q4_0 => blocks.for_each(|(block, out)| q4_0(block, out)),
        Encoding::Q4K => blocks.for_each(|(block, out)| q4_k(block, out)),
        Encoding::Q6K => blocks.for_each(|(block, out)| q6_k(block, out)),
    }
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `scale: f16 · values: [i8; 32]`
fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (out, value) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*value as i8) * scale;
    }
}

/// `scale: f16 · nibbles: [u8; 16]`; low nibbles are values 0..16, high nibbles 16..32, each minus 8.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = (f32::from(byte & 15) - 8.0) * scale;
        *high = (f32::from(byte >> 4) - 8.0) * scale;
    }
}

/// `scale: f16 · minimum: f16 · packed: [u8; 12] · nibbles: [u8; 128]`
///
/// Eight groups of 32 values, two groups to 32 bytes of nibbles. A value is `scale·s·nibble − minimum·m` with the
/// group's six-bit `s` and `m`.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let (packed, nibbles) = block[4..].split_at(12);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = six_bit_pair(packed, group);
        let (factor, offset) = (scale * f32::from(s), minimum * f32::from(m));
        let shift = 4 * (group % 2);
        for (out, byte) in out.iter_mut().zip(&nibbles[group / 2 * 32..]) {
            *out = factor * f32::from((byte >> shift) & 15) - offset;
        }
    }
}

/// Returns scale and minimum of a group. Groups 0..4 have theirs in the low six bits of bytes 0..4 and 4..8; groups
/// 4..8 have four bits each in bytes 8..12, and their top two bits in the spare bits of the first eight.
fn six_bit_pair(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let both = packed[group + 4];
        ((both & 15) | (packed[group - 4] >> 6 << 4), (both >> 4) | (packed[group] >> 6 << 4))
    }
}

/// `low: [u8; 128] · high: [u8; 64] · scales: [i8; 16] · scale: f16`
///
/// Two halves of 128 values. In a half, value `32·quarter + i` has its low four bits in a nibble of
/// `low[32·(quarter % 2) + i]` and its high two in `high[i] >> 2·quarter`; each scale serves 16 values.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, _) = rest.split_at(16);
    let scale = half(block, 208);
    for (index, out) in out.iter_mut().enumerate() {
        let (part, within) = (index / 128, index % 128);
        let (quarter, i) = (within / 32, within % 32);
        let nibble = (low[64 * part + 32 * (quarter % 2) + i] >> (4 * (quarter / 2))) & 15;
        let top = (high[32 * part + i] >> (2 * quarter)) & 3;
        let value = f32::from(nibble | (top << 4)) - 32.0;
        *out = scale * f32::from(scales[index / 16] as i8) * value;
    }
}
