//! How are gates and sums done sixteen values at a time?

use super::lanes::{LANES, Lanes, Operation, exp};

/// `out = silu(gate) · up`; each row of `gate_up` is `width` gates and then `width` ups.
pub(crate) struct SiluMul<'a> {
    pub gate_up: &'a [f32],
    pub width: usize,
    pub out: &'a mut [f32],
}

impl Operation for SiluMul<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        for (row, out) in self.gate_up.chunks_exact(2 * self.width).zip(self.out.chunks_exact_mut(self.width))
        {
            let (gate, up) = row.split_at(self.width);
            let (gate, gate_rest) = gate.as_chunks::<LANES>();
            let (up, up_rest) = up.as_chunks::<LANES>();
            let (out, out_rest) = out.as_chunks_mut::<LANES>();
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                // SAFETY: arrays of sixteen; the caller answers for the instructions.
                unsafe { silu_mul::<V>(gate, up, out) };
            }
            // The rest takes the same instructions, so that a value does not depend on where in its row it stands.
            let (mut gate, mut up, mut last) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            gate[..gate_rest.len()].copy_from_slice(gate_rest);
            up[..up_rest.len()].copy_from_slice(up_rest);
            // SAFETY: as above.
            unsafe { silu_mul::<V>(&gate, &up, &mut last) };
            out_rest.copy_from_slice(&last[..out_rest.len()]);
        }
    }
}

#[inline(always)]
unsafe fn silu_mul<V: Lanes>(gate: &[f32; LANES], up: &[f32; LANES], out: &mut [f32; LANES]) {
    // SAFETY: arrays of sixteen; the caller answers for the instructions.
    unsafe {
        let gate = V::load(gate.as_ptr());
        let below = V::splat(1.0).add(exp(V::splat(0.0).sub(gate)));
        gate.div(below).mul(V::load(up.as_ptr())).store(out.as_mut_ptr());
    }
}

/// `x += y`.
pub(crate) struct Add<'a> {
    pub x: &'a mut [f32],
    pub y: &'a [f32],
}

impl Operation for Add<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        self.x.iter_mut().zip(self.y).for_each(|(x, y)| *x += y);
    }
}
