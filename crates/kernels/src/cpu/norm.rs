//! How is a row normed sixteen values at a time?

use super::lanes::{LANES, Lanes, Operation};

/// Norms each row of `weight.len()` values of `x` into `out`.
pub(crate) struct RmsNorm<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub epsilon: f32,
    pub out: &'a mut [f32],
}

impl Operation for RmsNorm<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            // SAFETY: the caller answers for the instructions.
            let mean_square = unsafe { sum_of_squares::<V>(x) } / width as f32;
            let scale = 1.0 / (mean_square + self.epsilon).sqrt();
            let (x_whole, x_rest) = x.as_chunks::<LANES>();
            let (weight_whole, weight_rest) = self.weight.as_chunks::<LANES>();
            let (out_whole, out_rest) = out.as_chunks_mut::<LANES>();
            for ((out, x), weight) in out_whole.iter_mut().zip(x_whole).zip(weight_whole) {
                // SAFETY: arrays of sixteen.
                unsafe {
                    let normed = V::load(x.as_ptr()).mul(V::splat(scale));
                    normed.mul(V::load(weight.as_ptr())).store(out.as_mut_ptr());
                }
            }
            for ((out, x), weight) in out_rest.iter_mut().zip(x_rest).zip(weight_rest) {
                *out = x * scale * weight;
            }
        }
    }
}

/// Four chains of lanes, so that additions overlap; their order depends on the length alone.
#[inline(always)]
unsafe fn sum_of_squares<V: Lanes>(x: &[f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    // SAFETY: arrays of sixteen; the caller answers for the instructions.
    unsafe {
        let mut chains = [V::splat(0.0); 4];
        for (i, x) in whole.iter().enumerate() {
            let x = V::load(x.as_ptr());
            chains[i % 4] = x.mul_add(x, chains[i % 4]);
        }
        let [a, b, c, d] = chains;
        a.add(b).add(c.add(d)).sum() + rest.iter().map(|x| x * x).sum::<f32>()
    }
}
