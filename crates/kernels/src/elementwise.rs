//! The small operations between the products: norms, rotations, gates, sums.

use crate::Pool;

/// `out = x / rms(x) · weight` for each row of `weight.len()` values.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let _ = pool;
    for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        let mean_square = x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32;
        let scale = 1.0 / (mean_square + epsilon).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

/// Rotates pairs `(i, i + head_dim/2)` of every head in place (the half-split form of Hugging Face checkpoints).
/// `x` is `[rows][stride]`, of which the first `heads * head_dim` values of each row are rotated;
/// `cos` and `sin` are `[rows][rotary_dim / 2]`; dimensions at or past `rotary_dim` stay as they are.
pub fn rope(
    x: &mut [f32],
    stride: usize,
    heads: usize,
    head_dim: usize,
    rotary_dim: usize,
    cos: &[f32],
    sin: &[f32],
) {
    let half = rotary_dim / 2;
    for ((row, cos), sin) in
        x.chunks_exact_mut(stride).zip(cos.chunks_exact(half)).zip(sin.chunks_exact(half))
    {
        for head in row[..heads * head_dim].chunks_exact_mut(head_dim) {
            for i in 0..half {
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cos[i] - b * sin[i];
                head[i + half] = b * cos[i] + a * sin[i];
            }
        }
    }
}

/// `out = silu(gate) · up`, where each row of `gate_up` is `width` gates and then `width` ups.
pub fn silu_mul(pool: &Pool, gate_up: &[f32], width: usize, out: &mut [f32]) {
    let _ = pool;
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + (-gate).exp()) * up;
        }
    }
}

/// `x += y`.
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
