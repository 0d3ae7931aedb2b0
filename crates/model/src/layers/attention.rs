//! What each row learns from the earlier rows of its sequence.

use kernels::{KvCache, add, rms_norm, rms_norm_heads, rope};

use super::{Buffers, Linear, Step};

pub(crate) struct Attention {
    pub(crate) norm: Vec<f32>,
    /// Query, key and value in one weight: all three read the same rows.
    pub(crate) qkv: Linear,
    pub(crate) head_norms: Option<HeadNorms>,
    pub(crate) output: Linear,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rotary_dim: usize,
    /// How many tokens a row sees, itself included; `None` is all.
    pub(crate) window: Option<usize>,
}

/// Norms of every head of queries and keys.
pub(crate) struct HeadNorms {
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
}

impl Attention {
    pub(crate) fn run(&self, layer: usize, step: &Step<'_>, cache: &mut KvCache, buffers: &mut Buffers) {
        let Step { pool, rows, spans, norm_epsilon } = *step;
        let hidden = rows * self.norm.len();
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let stride = queries + 2 * keys;
        let half = self.rotary_dim / 2;
        let Buffers { hidden: stream, normed, qkv, attended, cos, sin, .. } = buffers;
        let (stream, normed) = (&mut stream[..hidden], &mut normed[..hidden]);
        let (qkv, attended) = (&mut qkv[..rows * stride], &mut attended[..rows * queries]);
        let (cos, sin) = (&cos[..rows * half], &sin[..rows * half]);

        rms_norm(pool, stream, &self.norm, norm_epsilon, normed);
        self.qkv.run(pool, normed, rows, qkv);
        if let Some(norms) = &self.head_norms {
            rms_norm_heads(pool, qkv, stride, 0, self.heads, &norms.query, norm_epsilon);
            rms_norm_heads(pool, qkv, stride, queries, self.kv_heads, &norms.key, norm_epsilon);
        }
        // Queries and keys lie side by side and turn by the same angles.
        rope(pool, qkv, stride, self.heads + self.kv_heads, self.head_dim, self.rotary_dim, cos, sin);
        cache.append(pool, layer, &qkv[queries..], &qkv[queries + keys..], stride, spans);
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        cache.attend(pool, layer, qkv, stride, self.heads, scale, self.window, spans, attended);
        self.output.run(pool, attended, rows, normed);
        add(pool, stream, normed);
    }
}
