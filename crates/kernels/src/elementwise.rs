//! The small operations between the products: norms, rotations, gates, sums.

use crate::Pool;
use crate::cpu::gate::{Add, SiluMul};
use crate::cpu::lanes::dispatch;
use crate::cpu::norm::{RmsNorm, RmsNormHeads};
use crate::cpu::rope::Rope;
use crate::memory::Shared;

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

/// Norms heads of each row in place, each by itself: those that begin at value `first` of a row of `stride` values, as many as `heads`.
/// The last row may end with them.
pub fn rms_norm_heads(
    pool: &Pool,
    x: &mut [f32],
    stride: usize,
    first: usize,
    heads: usize,
    weight: &[f32],
    epsilon: f32,
) {
    assert!(!weight.is_empty() && first + heads * weight.len() <= stride, "heads fit their row");
    over_rows(pool, stride, x, &|_, x| {
        // SAFETY: the pool holds only paths that this machine has.
        unsafe { dispatch(pool.isa(), RmsNormHeads { x, stride, first, heads, weight, epsilon }) };
    });
}

/// Rotates pairs `(i, i + rotary_dim/2)` of every head in place (the half-split form of Hugging Face checkpoints).
/// `x` is `[rows][stride]`, of which the first `heads * head_dim` values of each row are rotated (the last row may end
/// there); `cos` and `sin` are `[rows][rotary_dim / 2]`; dimensions at or past `rotary_dim` stay as they are.
#[allow(clippy::too_many_arguments)]
pub fn rope(
    pool: &Pool,
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
    let half = rotary_dim / 2;
    let angles = x.len().div_ceil(stride) * half;
    assert!(cos.len() >= angles && sin.len() >= angles, "cos and sin have an angle for each row and pair");
    over_rows(pool, stride, x, &|first, x| {
        let (cos, sin) = (&cos[first * half..], &sin[first * half..]);
        // SAFETY: the pool holds only paths that this machine has.
        unsafe { dispatch(pool.isa(), Rope { x, stride, heads, head_dim, rotary_dim, cos, sin }) };
    });
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
pub fn add(pool: &Pool, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both sides of a sum have the same length");
    over_rows(pool, 1, x, &|first, x| {
        let y = &y[first..][..x.len()];
        // SAFETY: the pool holds only paths that this machine has.
        unsafe { dispatch(pool.isa(), Add { x, y }) };
    });
}

/// Adds the same values to each row.
pub fn add_to_rows(pool: &Pool, x: &mut [f32], y: &[f32]) {
    assert!(!y.is_empty() && x.len().is_multiple_of(y.len()), "x has whole rows of {} values", y.len());
    over_rows(pool, y.len(), x, &|_, x| {
        for x in x.chunks_exact_mut(y.len()) {
            // SAFETY: the pool holds only paths that this machine has.
            unsafe { dispatch(pool.isa(), Add { x, y }) };
        }
    });
}

/// Splits the rows of `out`, of which the last may be shorter, over the pool; `task` gets the number of its first row, and its rows.
pub(crate) fn over_rows(
    pool: &Pool,
    width: usize,
    out: &mut [f32],
    task: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let values = out.len();
    let start = Shared::new(out.as_mut_ptr());
    pool.run_ranges(values.div_ceil(width), (RANGE_VALUES_LEAST / width).max(1), &|range| {
        let first = range.start * width;
        let end = values.min(range.end * width);
        // SAFETY: ranges of rows lie inside `out` and do not overlap.
        let part = unsafe { std::slice::from_raw_parts_mut(start.get().add(first), end - first) };
        task(range.start, part);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, reference};

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect()
    }

    #[test]
    fn rotations_are_right_on_every_path() {
        // (rows, heads, head_dim, rotary_dim, values behind the heads); the last are work for several threads.
        for (rows, heads, head_dim, rotary_dim, behind) in [
            (1, 1, 2, 2, 0),
            (3, 2, 64, 64, 5),
            (2, 3, 80, 32, 0),
            (2, 1, 128, 128, 16),
            (4, 2, 10, 6, 1),
            (100, 8, 64, 64, 64),
        ] {
            let stride = heads * head_dim + behind;
            let angles = values(rows * rotary_dim / 2);
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            let x = values(rows * stride);
            let mut truth = x.clone();
            reference::rope::rope(&mut truth, stride, heads, head_dim, rotary_dim, &cos, &sin);
            for pool in pools() {
                let isa = pool.isa();
                let mut out = x.clone();
                rope(&pool, &mut out, stride, heads, head_dim, rotary_dim, &cos, &sin);
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
        rope(&Pool::new(1), &mut x, 9, 2, 2, 2, &[1.0, 0.0], &[0.0, 1.0]);
        let mut expected = values(13);
        (expected[9], expected[10]) = (-expected[10], expected[9]);
        (expected[11], expected[12]) = (-expected[12], expected[11]);
        assert_eq!(x, expected);
    }

    /// 70,000 values are work for several threads.
    #[test]
    fn sums_are_exact_on_every_path() {
        for count in [67, 70_000] {
            let (x, y) = (values(count), values(2 * count)[count..].to_vec());
            let mut truth = x.clone();
            reference::gate::add(&mut truth, &y);
            for pool in pools() {
                let mut out = x.clone();
                add(&pool, &mut out, &y);
                assert_eq!(out, truth, "{:?}", pool.isa());
                let (mut whole, mut rows) =
                    ([x.clone(), x.clone()].concat(), [x.clone(), x.clone()].concat());
                add(&pool, &mut whole, &[y.clone(), y.clone()].concat());
                add_to_rows(&pool, &mut rows, &y);
                assert_eq!(rows, whole, "{:?}", pool.isa());
            }
        }
    }

    #[test]
    fn heads_are_normed_where_they_are_as_rows_are_elsewhere() {
        let (stride, first, dim, epsilon) = (11 * 24, 2 * 24, 24, 1e-5);
        let weight = values(dim);
        for pool in pools() {
            for (rows, heads) in [(1, 3), (400, 5)] {
                // The last row ends with its heads.
                let x = values((rows - 1) * stride + first + heads * dim);
                let mut normed = x.clone();
                rms_norm_heads(&pool, &mut normed, stride, first, heads, &weight, epsilon);
                let mut truth = x.clone();
                for row in truth.chunks_mut(stride) {
                    let heads = &mut row[first..first + heads * dim];
                    let before = heads.to_vec();
                    rms_norm(&pool, &before, &weight, epsilon, heads);
                }
                assert_eq!(normed, truth, "{:?}", pool.isa());
            }
        }
    }

    fn pools() -> impl Iterator<Item = Pool> {
        let options = |isa| crate::PoolOptions { threads: 2, isa, ..crate::PoolOptions::default() };
        Isa::available().map(move |isa| Pool::with(options(isa)))
    }
}
