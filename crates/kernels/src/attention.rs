//! Where keys and values live, and how queries read them.

use crate::Pool;

/// Tokens in one block of the cache.
pub const BLOCK_TOKENS: usize = 32;

/// The keys and values of all layers, in blocks of `BLOCK_TOKENS` tokens: a pre-sized arena, bf16.
pub struct KvCache {
    layers: usize,
    blocks: usize,
    kv_heads: usize,
    head_dim: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Rows of one batch that belong to one sequence: consecutive positions that start at `first_position`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSpan<'a> {
    pub first_row: usize,
    pub rows: usize,
    pub first_position: usize,
    /// Block numbers of positions 0, 32, 64, …, up to the last row's position.
    pub blocks: &'a [u32],
}

impl KvCache {
    pub fn new(layers: usize, blocks: usize, kv_heads: usize, head_dim: usize) -> Self {
        let size = layers * blocks * BLOCK_TOKENS * kv_heads * head_dim;
        Self { layers, blocks, kv_heads, head_dim, keys: vec![0.0; size], values: vec![0.0; size] }
    }

    /// Bytes that one block takes over all layers.
    pub fn block_bytes(layers: usize, kv_heads: usize, head_dim: usize) -> usize {
        2 * 2 * layers * BLOCK_TOKENS * kv_heads * head_dim
    }

    pub fn blocks(&self) -> usize {
        self.blocks
    }
    pub fn layers(&self) -> usize {
        self.layers
    }
    pub fn resident_bytes(&self) -> usize {
        self.blocks * Self::block_bytes(self.layers, self.kv_heads, self.head_dim)
    }

    fn at(&self, layer: usize, block: usize, token: usize, head: usize) -> usize {
        (((layer * self.blocks + block) * BLOCK_TOKENS + token) * self.kv_heads + head) * self.head_dim
    }

    /// Writes the keys and values of a batch's rows to their places. `keys` and `values` start at the first row's first
    /// kv head; rows lie `stride` apart (so that both can be slices of one fused QKV product).
    pub fn append(
        &mut self,
        pool: &Pool,
        layer: usize,
        keys: &[f32],
        values: &[f32],
        stride: usize,
        spans: &[AttentionSpan<'_>],
    ) {
        let _ = pool;
        let width = self.kv_heads * self.head_dim;
        for span in spans {
            for i in 0..span.rows {
                let (position, row) = (span.first_position + i, (span.first_row + i) * stride);
                let block = span.blocks[position / BLOCK_TOKENS] as usize;
                let at = self.at(layer, block, position % BLOCK_TOKENS, 0);
                self.keys[at..at + width].copy_from_slice(&keys[row..row + width]);
                self.values[at..at + width].copy_from_slice(&values[row..row + width]);
            }
        }
    }

    /// Causal attention of each row over its own sequence: row at position `p` reads positions `0..=p`, or the last
    /// `window` of them. `queries` rows lie `query_stride` apart, `heads * head_dim` values each; `out` is dense
    /// `[rows][heads * head_dim]`. Query head `h` reads kv head `h / (heads / kv_heads)`.
    #[allow(clippy::too_many_arguments)]
    pub fn attend(
        &self,
        pool: &Pool,
        layer: usize,
        queries: &[f32],
        query_stride: usize,
        heads: usize,
        scale: f32,
        window: Option<usize>,
        spans: &[AttentionSpan<'_>],
        out: &mut [f32],
    ) {
        let _ = pool;
        let group = heads / self.kv_heads;
        let mut scores = Vec::new();
        for span in spans {
            for i in 0..span.rows {
                let (row, position) = (span.first_row + i, span.first_position + i);
                let start = window.map_or(0, |window| (position + 1).saturating_sub(window));
                for head in 0..heads {
                    let q = &queries[row * query_stride + head * self.head_dim..][..self.head_dim];
                    let place = |p: usize| {
                        let block = span.blocks[p / BLOCK_TOKENS] as usize;
                        self.at(layer, block, p % BLOCK_TOKENS, head / group)
                    };
                    scores.clear();
                    scores.extend((start..=position).map(|p| {
                        let k = &self.keys[place(p)..][..self.head_dim];
                        q.iter().zip(k).map(|(a, b)| a * b).sum::<f32>() * scale
                    }));
                    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let total: f32 = scores
                        .iter_mut()
                        .map(|s| {
                            *s = (*s - max).exp();
                            *s
                        })
                        .sum();
                    let out = &mut out[(row * heads + head) * self.head_dim..][..self.head_dim];
                    out.fill(0.0);
                    for (p, weight) in (start..=position).zip(&scores) {
                        let v = &self.values[place(p)..][..self.head_dim];
                        out.iter_mut().zip(v).for_each(|(out, v)| *out += weight / total * v);
                    }
                }
            }
        }
    }
}
