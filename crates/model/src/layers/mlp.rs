//! What the feed-forward part of a layer adds to its rows.

use kernels::{add, rms_norm, silu_mul};

use super::{Buffers, Linear, Step};

pub(crate) struct Mlp {
    pub(crate) norm: Vec<f32>,
    /// Gate and up in one weight: both read the same rows.
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

impl Mlp {
    pub(crate) fn run(&self, step: &Step<'_>, buffers: &mut Buffers) {
        let Step { pool, rows, norm_epsilon, .. } = *step;
        let (hidden, width) = (rows * self.norm.len(), self.down.matrix.inputs());
        let Buffers { hidden: stream, normed, gate_up, gated, .. } = buffers;
        let (stream, normed) = (&mut stream[..hidden], &mut normed[..hidden]);

        rms_norm(pool, stream, &self.norm, norm_epsilon, normed);
        self.gate_up.run(pool, normed, rows, gate_up);
        silu_mul(pool, &gate_up[..rows * 2 * width], width, &mut gated[..rows * width]);
        self.down.run(pool, gated, rows, normed);
        add(pool, stream, normed);
    }
}
