//! What a feed-forward part adds to its rows when each row passes only a few experts of many.

use kernels::{Experts, Matrix, matmul, rms_norm};

use super::{Buffers, Step};
use crate::quantize::Observer;

pub(crate) struct Moe {
    pub(crate) norm: Vec<f32>,
    /// One score for each expert. Kept as f32 whatever the other weights are: a score that is a little off sends a row elsewhere.
    pub(crate) router: Matrix,
    pub(crate) experts: Experts,
    /// Experts that each row goes to.
    pub(crate) chosen: usize,
    pub(crate) renormalised: bool,
    /// Sees the inputs of gates and ups: every row's, whichever experts it goes to.
    pub(crate) observer: Option<Observer>,
}

impl Moe {
    pub(crate) fn run(&self, step: &Step<'_>, buffers: &mut Buffers) {
        let Step { pool, rows, norm_epsilon, .. } = *step;
        let (hidden, count) = (rows * self.norm.len(), self.router.outputs());
        let Buffers { hidden: stream, normed, scores, routes, experts, .. } = buffers;
        let (stream, normed) = (&mut stream[..hidden], &mut normed[..hidden]);
        let scores = &mut scores[..rows * count];

        rms_norm(pool, stream, &self.norm, norm_epsilon, normed);
        if let Some(observer) = &self.observer {
            observer.see(normed, self.norm.len());
        }
        matmul(pool, normed, rows, &self.router, scores);
        routes.choose(pool, scores, count, self.chosen, self.renormalised);
        self.experts.run(pool, normed, routes, experts, stream);
    }
}
