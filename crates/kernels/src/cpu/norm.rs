//! How is a row normed sixteen values at a time?

use super::lanes::{LANES, Lanes, Operation};

/// Norms each row of `weight.len()` values of `x` into `out`.
pub(crate) struct RmsNorm<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub epsilon: f32,
    pub out: &'a mut [f32],
}

/// Norms heads of each row of `stride` values in place; the layout is that of `kernels::rms_norm_heads`.
pub(crate) struct RmsNormHeads<'a> {
    pub x: &'a mut [f32],
    pub stride: usize,
    pub first: usize,
    pub heads: usize,
    pub weight: &'a [f32],
    pub epsilon: f32,
}

impl Operation for RmsNorm<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            // SAFETY: the caller answers for the instructions.
            unsafe {
                let scale = scale::<V>(x, self.epsilon);
                out.copy_from_slice(x);
                multiply::<V>(out, scale, self.weight);
            }
        }
    }
}

impl Operation for RmsNormHeads<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let width = self.weight.len();
        for row in self.x.chunks_mut(self.stride) {
            for head in row[self.first..][..self.heads * width].chunks_exact_mut(width) {
                // SAFETY: the caller answers for the instructions.
                unsafe {
                    let scale = scale::<V>(head, self.epsilon);
                    multiply::<V>(head, scale, self.weight);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn scale<V: Lanes>(x: &[f32], epsilon: f32) -> f32 {
    // SAFETY: the caller answers for the instructions.
    let mean_square = unsafe { sum_of_squares::<V>(x) } / x.len() as f32;
    1.0 / (mean_square + epsilon).sqrt()
}

/// `x = x · scale · weight`.
#[inline(always)]
unsafe fn multiply<V: Lanes>(x: &mut [f32], scale: f32, weight: &[f32]) {
    let (x_whole, x_rest) = x.as_chunks_mut::<LANES>();
    let (weight_whole, weight_rest) = weight.as_chunks::<LANES>();
    for (x, weight) in x_whole.iter_mut().zip(weight_whole) {
        // SAFETY: arrays of sixteen; the caller answers for the instructions.
        unsafe {
            let normed = V::load(x.as_ptr()).mul(V::splat(scale));
            normed.mul(V::load(weight.as_ptr())).store(x.as_mut_ptr());
        }
    }
    for (x, weight) in x_rest.iter_mut().zip(weight_rest) {
        *x = *x * scale * weight;
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
