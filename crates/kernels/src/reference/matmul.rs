//! What is a product with a weight matrix?

/// `out[m][n] = Σ_k x[m][k] · weight[n][k]`, all dense and row-major.
pub fn matmul(x: &[f32], weight: &[f32], outputs: usize, inputs: usize, out: &mut [f32]) {
    if inputs == 0 {
        return out.fill(0.0);
    }
    for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
        for (out, weight) in out.iter_mut().zip(weight.chunks_exact(inputs)) {
            *out = x.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() as f32;
        }
    }
}
