//! How are the pairs of a head rotated sixteen at a time?

use super::lanes::{LANES, Lanes, Operation};

/// Rotates each head of each row; the layout is that of `kernels::rope`.
pub(crate) struct Rope<'a> {
    pub x: &'a mut [f32],
    pub stride: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub rotary_dim: usize,
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

impl Operation for Rope<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let half = self.rotary_dim / 2;
        let angles = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
        for (row, (cos, sin)) in self.x.chunks_mut(self.stride).zip(angles) {
            for head in row[..self.heads * self.head_dim].chunks_exact_mut(self.head_dim) {
                let (a, b) = head[..2 * half].split_at_mut(half);
                // SAFETY: the caller answers for the instructions.
                unsafe { rotate::<V>(a, b, cos, sin) };
            }
        }
    }
}

/// `(a, b) ← (a·cos − b·sin, b·cos + a·sin)`.
#[inline(always)]
unsafe fn rotate<V: Lanes>(a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, a_rest) = a.as_chunks_mut::<LANES>();
    let (b, b_rest) = b.as_chunks_mut::<LANES>();
    let (cos, cos_rest) = cos.as_chunks::<LANES>();
    let (sin, sin_rest) = sin.as_chunks::<LANES>();
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        // SAFETY: arrays of sixteen; the caller answers for the instructions.
        unsafe {
            let (cos, sin) = (V::load(cos.as_ptr()), V::load(sin.as_ptr()));
            let (before_a, before_b) = (V::load(a.as_ptr()), V::load(b.as_ptr()));
            before_a.mul(cos).sub(before_b.mul(sin)).store(a.as_mut_ptr());
            before_b.mul(cos).add(before_a.mul(sin)).store(b.as_mut_ptr());
        }
    }
    for (((a, b), cos), sin) in a_rest.iter_mut().zip(b_rest).zip(cos_rest).zip(sin_rest) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
