//! How a batch becomes scores: embed, layers, last norm, output projection.

use std::ops::Range;

use domain::TokenId;
use kernels::{AttentionSpan, BLOCK_TOKENS, KvCache, Matrix, Pool, matmul, rms_norm};

use crate::batch::{Batch, BlockId, Forward, ForwardError, Shape, Span};
use crate::config::ModelConfig;
use crate::layers::{Buffers, Layer, Rotary, Step};
use crate::load::LoadReport;
use crate::quantize::{Observer, Sums};

/// Rows computed at once. A larger batch is computed in slices of this many rows, which bounds the buffers: to 80 MiB for
/// a model of 0.6 billion parameters, to 270 MiB for one of 8 billion. More rows would not make products faster.
pub(crate) const ROWS_MAX: usize = 1024;

/// A model on this machine's processor.
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) shape: Shape,
    pub(crate) report: LoadReport,
    pub(crate) pool: Pool,
    /// Where tokens are looked up; `None` where the output projection is the embedding.
    pub(crate) embedding: Option<Matrix>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: Matrix,
    pub(crate) rotary: Rotary,
    pub(crate) cache: KvCache,
    pub(crate) buffers: Buffers,
    /// What the inputs of all products add up to, and who adds those of the head; empty unless the model is observed.
    pub(crate) observed: Sums,
    pub(crate) head_observer: Option<Observer>,
}

impl Model {
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What was loaded, and what it takes.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// The same as [`Forward::run`]; `watch(layer, rows)` sees the residual stream after each layer.
    pub fn run_watched(
        &mut self,
        batch: &Batch,
        logits: &mut Vec<f32>,
        watch: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ForwardError> {
        self.check_tokens(&batch.tokens)?;
        batch.check(self.cache.blocks());
        logits.resize(batch.logit_rows.len() * self.shape.vocabulary, 0.0);
        let mut scored = 0;
        for first in (0..batch.tokens.len()).step_by(ROWS_MAX) {
            let rows = first..batch.tokens.len().min(first + ROWS_MAX);
            let wanted = batch.logit_rows[scored..].iter().take_while(|row| (**row as usize) < rows.end);
            let wanted = scored..scored + wanted.count();
            scored = wanted.end;
            let spans = cut(&batch.spans, &rows);
            self.grow(rows.len());
            self.embed(&batch.tokens[rows.clone()]);
            self.turn(&spans);
            self.run_layers(rows.len(), &spans, watch);
            let out = wanted.start * self.shape.vocabulary..wanted.end * self.shape.vocabulary;
            self.score(first, &batch.logit_rows[wanted], &mut logits[out]);
        }
        Ok(())
    }

    /// A bad token must be found before anything is written.
    fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), ForwardError> {
        let vocabulary = self.shape.vocabulary;
        match tokens.iter().find(|token| **token as usize >= vocabulary) {
            Some(&token) => Err(ForwardError::Token { token, vocabulary }),
            None => Ok(()),
        }
    }

    fn grow(&mut self, rows: usize) {
        let (config, buffers) = (&self.config, &mut self.buffers);
        let half = self.rotary.rotary_dim() / 2;
        let experts = config.experts.as_ref().map_or(0, |experts| experts.count);
        // Where all layers have experts, nobody is as wide as a dense part would be.
        let is_dense = (0..config.layers()).any(|layer| !config.has_experts(layer));
        let dense = if is_dense { config.intermediate } else { 0 };
        for (buffer, width) in [
            (&mut buffers.hidden, config.hidden),
            (&mut buffers.normed, config.hidden),
            (&mut buffers.qkv, config.qkv_width()),
            (&mut buffers.attended, config.heads * config.head_dim),
            (&mut buffers.gate_up, 2 * dense),
            (&mut buffers.gated, dense),
            (&mut buffers.scores, experts),
            (&mut buffers.cos, half),
            (&mut buffers.sin, half),
        ] {
            if buffer.len() < rows * width {
                buffer.resize(rows * width, 0.0);
            }
        }
    }

    fn embed(&mut self, tokens: &[TokenId]) {
        let embedding = self.embedding.as_ref().unwrap_or(&self.head);
        embedding.rows(&self.pool, tokens, &mut self.buffers.hidden[..tokens.len() * self.config.hidden]);
    }

    fn turn(&mut self, spans: &[AttentionSpan<'_>]) {
        let half = self.rotary.rotary_dim() / 2;
        for span in spans {
            let at = span.first_row * half..(span.first_row + span.rows) * half;
            let (cos, sin) = (&mut self.buffers.cos[at.clone()], &mut self.buffers.sin[at]);
            self.rotary.fill(span.first_position, cos, sin);
        }
    }

    fn run_layers(&mut self, rows: usize, spans: &[AttentionSpan<'_>], watch: &mut dyn FnMut(usize, &[f32])) {
        let step = Step { pool: &self.pool, rows, spans, norm_epsilon: self.config.norm_epsilon };
        for (number, layer) in self.layers.iter().enumerate() {
            layer.run(number, &step, &mut self.cache, &mut self.buffers);
            watch(number, &self.buffers.hidden[..rows * self.config.hidden]);
        }
    }

    /// Only rows whose scores are wanted pass the last norm and the output projection, often a fifth of all weights.
    fn score(&mut self, first_row: usize, wanted: &[u32], logits: &mut [f32]) {
        if wanted.is_empty() {
            return;
        }
        let width = self.config.hidden;
        let Buffers { hidden, normed, .. } = &mut self.buffers;
        // Rows move to the front of the stream, which ends here: wanted rows ascend, so none is overwritten unread.
        for (to, row) in wanted.iter().enumerate() {
            let from = (*row as usize - first_row) * width;
            hidden.copy_within(from..from + width, to * width);
        }
        let (hidden, normed) = (&hidden[..wanted.len() * width], &mut normed[..wanted.len() * width]);
        rms_norm(&self.pool, hidden, &self.norm, self.config.norm_epsilon, normed);
        if let Some(observer) = &self.head_observer {
            observer.see(normed, width);
        }
        matmul(&self.pool, normed, wanted.len(), &self.head, logits);
    }
}

impl Forward for Model {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn reserve(&mut self, blocks: usize) -> Result<(), ForwardError> {
        let refuse = |bytes, cause: String| Err(ForwardError::Reserve { bytes, cause });
        let Some(bytes) =
            self.shape.block_bytes.checked_mul(blocks).filter(|bytes| *bytes <= isize::MAX as usize)
        else {
            return refuse(usize::MAX, format!("{blocks} blocks are more than can be addressed"));
        };
        // An allocation that fails inside the arena would end the process; this one can be refused.
        if let Err(error) = Vec::<u8>::new().try_reserve_exact(bytes) {
            return refuse(bytes, error.to_string());
        }
        let config = &self.config;
        self.cache =
            KvCache::new(self.cache.precision(), config.layers(), blocks, config.kv_heads, config.head_dim);
        Ok(())
    }

    fn run(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        self.run_watched(batch, logits, &mut |_, _| {})
    }

    fn share(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.pool.run(tasks, task);
    }

    fn save_block(&self, block: BlockId, to: &mut [u8]) {
        self.cache.export_block(block.0 as usize, to);
    }

    fn restore_block(&mut self, block: BlockId, from: &[u8]) {
        self.cache.import_block(block.0 as usize, from);
    }
}

/// The parts of the spans that lie in a slice of the batch's rows, numbered from the slice's first row.
fn cut<'a>(spans: &'a [Span], slice: &Range<usize>) -> Vec<AttentionSpan<'a>> {
    let part = |span: &'a Span| {
        let span_first = span.first_row as usize;
        let first = span_first.max(slice.start);
        let end = (span_first + span.rows as usize).min(slice.end);
        let first_position = span.first_position as usize + first.saturating_sub(span_first);
        (first < end).then(|| AttentionSpan {
            first_row: first - slice.start,
            rows: end - first,
            first_position,
            blocks: &bytemuck::cast_slice(&span.blocks)
                [..(first_position + end - first).div_ceil(BLOCK_TOKENS)],
        })
    };
    spans.iter().filter_map(part).collect()
}
