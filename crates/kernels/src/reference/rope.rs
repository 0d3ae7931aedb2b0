//! What is a rotary position embedding?

/// Rotates pairs `(i, i + rotary_dim/2)` of every head; see `kernels::rope` for the layout.
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
    for ((row, cos), sin) in x.chunks_mut(stride).zip(cos.chunks_exact(half)).zip(sin.chunks_exact(half)) {
        for head in row[..heads * head_dim].chunks_exact_mut(head_dim) {
            for i in 0..half {
                let (a, b) = (f64::from(head[i]), f64::from(head[i + half]));
                let (cos, sin) = (f64::from(cos[i]), f64::from(sin[i]));
                head[i] = (a * cos - b * sin) as f32;
                head[i + half] = (b * cos + a * sin) as f32;
            }
        }
    }
}
