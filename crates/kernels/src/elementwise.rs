//! The small operations between the products: norms, rotations, gates, sums.

use crate::cpu::gate::{Add, SiluMul};
use crate::cpu::lanes::dispatch;
use crate::cpu::norm::RmsNorm;
use crate::cpu::rope::Rope;
use crate::memory::Shared;
use crate::{Isa, Pool};

/// A thread is not worth waking for fewer values than this; one core works on them about as long as a wake-up takes.
const RANGE_VALUES_LEAST: usize = 16 << 10;

/// `out = x / rms(x) · weight` for each row of `weight.len()` values.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "x has whole rows of {width} values");
    assert_eq!(x.len(), out.len(), "out has as many values as x");
    over_rows(pool, width, out, &|first, out| {
        let x = &x[first * width..][..out.len()];
        // SAFETY: the pool holds only paths that this machine has.
        unsafe { dispatch(pool.isa(), RmsNorm { x, weight, epsilon, out }) };
    });
}

/// Rotates pairs `(i, i + rotary_dim/2)` of every head in place (the half-split form of Hugging Face checkpoints).
/// `x` is `[rows][stride]`, of which the first `heads * head_dim` values of each row are rotated (the last row may end
/// there); `cos` and `sin` are `[rows][rotary_dim / 2]`; dimensions at or past `rotary_dim` stay as they are.
pub fn rope(
    x: &mut [f32],
    stride: usize,
    heads: usize,
    head_dim: usize,
    rotary_dim: usize,
    cos: &[f32],
    sin: &[f32],
) {
    rope_on(Isa::detect(), x, stride, heads, head_dim, rotary_dim, cos, sin);
}

/// `out = silu(gate) · up`, where each row of `gate_up` is `width` gates and then `width` ups.
pub fn silu_mul(pool: &Pool, gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert!(
        width > 0 && gate_up.len().is_multiple_of(2 * width),
        "gate_up has whole rows of 2 · {width} values"
    );
    assert_eq!(gate_up.len(), 2 * out.len(), "out has half as many values as gate_up");
    over_rows(pool, width, out, &|first, out| {
        let gate_up = &gate_up[2 * first * width..][..2 * out.len()];
        // SAFETY: the pool holds only paths that this machine has.
        unsafe { dispatch(pool.isa(), SiluMul { gate_up, width, out }) };
    });
}

/// `x += y`.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both sides of a sum have the same length");
    // SAFETY: the path is the one this machine has.
    unsafe { dispatch(Isa::detect(), Add { x, y }) };
}

#[allow(clippy::too_many_arguments)]
fn rope_on(
    isa: Isa,
    x: &mut [f32],
    stride: usize,
    heads: usize,
    head_dim: usize,
    rotary_dim: usize,
    cos: &[f32],
    sin: &[f32],
) {
    if rotary_dim < 2 || x.is_empty() {
        return;
    }
    assert!(
        rotary_dim <= head_dim && heads * head_dim <= stride,
        "heads fit their row, rotated dimensions their head"
    );
    let angles = x.len().div_ceil(stride) * (rotary_dim / 2);
    assert!(cos.len() >= angles && sin.len() >= angles, "cos and sin have an angle for each row and pair");
    // SAFETY: callers pass a path that this machine has.
    unsafe { dispatch(isa, Rope { x, stride, heads, head_dim, rotary_dim, cos, sin }) };
}

/// Splits the rows of `out` over the pool; `task` gets the number of its first row, and its rows.
fn over_rows(pool: &Pool, width: usize, out: &mut [f32], task: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let rows = out.len() / width;
    let start = Shared::new(out.as_mut_ptr());
    pool.run_ranges(rows, (RANGE_VALUES_LEAST / width).max(1), &|range| {
        // SAFETY: ranges of rows lie inside `out` and do not overlap.
        let part = unsafe {
            std::slice::from_raw_parts_mut(start.get().add(range.start * width), range.len() * width)
        };
        task(range.start, part);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect()
    }

    #[test]
    fn rotations_are_right_on_every_path() {
        // (rows, heads, head_dim, rotary_dim, values behind the heads)
        for (rows, heads, head_dim, rotary_dim, behind) in
            [(1, 1, 2, 2, 0), (3, 2, 64, 64, 5), (2, 3, 80, 32, 0), (2, 1, 128, 128, 16), (4, 2, 10, 6, 1)]
        {
            let stride = heads * head_dim + behind;
            let angles = values(rows * rotary_dim / 2);
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            let x = values(rows * stride);
            let mut truth = x.clone();
            reference::rope::rope(&mut truth, stride, heads, head_dim, rotary_dim, &cos, &sin);
            for isa in Isa::available() {
                let mut out = x.clone();
                rope_on(isa, &mut out, stride, heads, head_dim, rotary_dim, &cos, &sin);
                for (i, (out, truth)) in out.iter().zip(&truth).enumerate() {
                    // Two products and a sum of numbers up to 2: three roundings of at most 4.
                    assert!(
                        (out - truth).abs() <= 3.0 * 4.0 / (1 << 24) as f32,
                        "{isa:?}: value {i}: {out}, not {truth}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_rotation_may_end_with_the_last_rows_heads() {
        let mut x = values(13);
        rope(&mut x, 9, 2, 2, 2, &[1.0, 0.0], &[0.0, 1.0]);
        let mut expected = values(13);
        (expected[9], expected[10]) = (-expected[10], expected[9]);
        (expected[11], expected[12]) = (-expected[12], expected[11]);
        assert_eq!(x, expected);
    }

    #[test]
    fn sums_are_exact_on_every_path() {
        let (x, y) = (values(67), values(134)[67..].to_vec());
        let mut truth = x.clone();
        reference::gate::add(&mut truth, &y);
        for isa in Isa::available() {
            let mut out = x.clone();
            // SAFETY: only available paths are asked for.
            unsafe { dispatch(isa, Add { x: &mut out, y: &y }) };
            assert_eq!(out, truth, "{isa:?}");
        }
    }
}
