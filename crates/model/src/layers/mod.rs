//! What a decoder is built of: rotations, linear maps, attention and the feed-forward part.

mod attention;
mod linear;
mod mlp;
mod rotary;

pub(crate) use attention::{Attention, HeadNorms};
pub(crate) use linear::Linear;
pub(crate) use mlp::Mlp;
pub(crate) use rotary::Rotary;

use kernels::{AttentionSpan, KvCache, Pool};

/// One decoder layer.
pub(crate) struct Layer {
    pub(crate) attention: Attention,
    pub(crate) mlp: Mlp,
}

/// What the rows of one step share.
pub(crate) struct Step<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) rows: usize,
    pub(crate) spans: &'a [AttentionSpan<'a>],
    pub(crate) norm_epsilon: f32,
}

/// What passes between the operations of a step: rows of the widths named here. Reused from layer to layer and from step
/// to step; grows to the largest step so far, which [`crate::forward::ROWS_MAX`] bounds.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The residual stream, `[rows][hidden]`.
    pub(crate) hidden: Vec<f32>,
    /// Its norm, and later what a part adds to it, `[rows][hidden]`.
    pub(crate) normed: Vec<f32>,
    /// `[rows][heads + 2 · kv_heads][head_dim]`.
    pub(crate) qkv: Vec<f32>,
    /// `[rows][heads][head_dim]`.
    pub(crate) attended: Vec<f32>,
    /// `[rows][2][intermediate]`.
    pub(crate) gate_up: Vec<f32>,
    /// `[rows][intermediate]`.
    pub(crate) gated: Vec<f32>,
    /// `[rows][rotary_dim / 2]`.
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl Layer {
    /// Adds the layer's two parts to the residual stream.
    pub(crate) fn run(&self, number: usize, step: &Step<'_>, cache: &mut KvCache, buffers: &mut Buffers) {
        self.attention.run(number, step, cache, buffers);
        self.mlp.run(step, buffers);
    }
}
