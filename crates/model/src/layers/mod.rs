//! What a decoder is built of: rotations, linear maps, attention and the feed-forward part.

mod attention;
mod linear;
mod mlp;
mod moe;
mod rotary;

pub(crate) use attention::{Attention, HeadNorms};
pub(crate) use linear::Linear;
pub(crate) use mlp::Mlp;
pub(crate) use moe::Moe;
pub(crate) use rotary::Rotary;

use kernels::{AttentionSpan, ExpertBuffers, KvCache, Pool, Routes};

/// One decoder layer.
pub(crate) struct Layer {
    pub(crate) attention: Attention,
    pub(crate) feed_forward: FeedForward,
}

/// The second part of a layer.
pub(crate) enum FeedForward {
    Dense(Mlp),
    Experts(Moe),
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
    /// `[rows][experts]`.
    pub(crate) scores: Vec<f32>,
    pub(crate) routes: Routes,
    pub(crate) experts: ExpertBuffers,
    /// `[rows][rotary_dim / 2]`.
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl Layer {
    /// Adds the layer's two parts to the residual stream.
    pub(crate) fn run(&self, number: usize, step: &Step<'_>, cache: &mut KvCache, buffers: &mut Buffers) {
        self.attention.run(number, step, cache, buffers);
        match &self.feed_forward {
            FeedForward::Dense(mlp) => mlp.run(step, buffers),
            FeedForward::Experts(moe) => moe.run(step, buffers),
        }
    }
}
