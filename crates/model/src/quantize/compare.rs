//! How far are the answers of one model from those of another, on the same text?

use std::sync::Mutex;

use domain::TokenId;
use serde::Serialize;

use crate::batch::{Batch, BlockId, Forward, ForwardError, Span};
use crate::forward::Model;
use crate::quantize::Moments;

/// What was measured over all tokens that have one before them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Of the reference, and of the other model.
    pub perplexity_reference: f64,
    pub perplexity: f64,
    /// The second divided by the first.
    pub perplexity_ratio: f64,
    /// Divergence of the other model's distribution from the reference's (Kullback-Leibler), in nats a token.
    pub kl_mean: f64,
    /// 99 of 100 tokens are below this.
    pub kl_p99: f64,
    /// The share of tokens for which both hold the same one for the likeliest.
    pub agreement: f64,
}

/// Rows that are scored at once: bounds the scores of a vocabulary of 256 thousand to 128 MiB a model.
const ROWS: usize = 128;

/// Runs each window from its beginning through both models.
///
/// `progress` is told how many tokens are done.
pub fn compare(
    reference: &mut Model,
    other: &mut Model,
    windows: &[Vec<TokenId>],
    progress: &mut dyn FnMut(usize),
) -> Result<Comparison, ForwardError> {
    assert_eq!(reference.shape().vocabulary, other.shape().vocabulary, "both models have the same tokens");
    let blocks = reserve(reference, windows)?.max(reserve(other, windows)?);
    let (mut scores, mut other_scores) = (Vec::new(), Vec::new());
    let mut rows: Vec<Row> = Vec::new();
    for window in windows {
        for (first, batch) in slices(window, blocks) {
            reference.run(&batch, &mut scores)?;
            other.run(&batch, &mut other_scores)?;
            rows.extend(measure(reference, window, first, &scores, &other_scores));
            progress(batch.tokens.len());
        }
    }
    Ok(summary(rows))
}

/// Runs the windows through a model that was loaded to be observed, and returns what its products met; from then on they
/// tell nothing any more.
pub fn observe(
    model: &mut Model,
    windows: &[Vec<TokenId>],
    progress: &mut dyn FnMut(usize),
) -> Result<Moments, ForwardError> {
    let blocks = reserve(model, windows)?;
    let mut scores = Vec::new();
    for window in windows {
        for (_, batch) in slices(window, blocks) {
            model.run(&batch, &mut scores)?;
            progress(batch.tokens.len());
        }
    }
    model.observed.stop();
    Ok(model.observed.moments())
}

#[derive(Clone, Copy)]
struct Row {
    /// Minus the logarithm of what each gave to the token that came.
    loss: f64,
    other_loss: f64,
    kl: f64,
    agrees: bool,
}

fn reserve(model: &mut Model, windows: &[Vec<TokenId>]) -> Result<usize, ForwardError> {
    let longest = windows.iter().map(Vec::len).max().unwrap_or(0);
    let blocks = longest.div_ceil(model.shape().block_tokens).max(1);
    model.reserve(blocks)?;
    Ok(blocks)
}

/// A window in batches of at most [`ROWS`] rows, each with the position of its first.
fn slices(window: &[TokenId], blocks: usize) -> impl Iterator<Item = (usize, Batch)> {
    window.chunks(ROWS).enumerate().map(move |(number, tokens)| {
        let span = Span {
            first_row: 0,
            rows: tokens.len() as u32,
            first_position: (number * ROWS) as u32,
            blocks: (0..blocks as u32).map(BlockId).collect(),
        };
        let logit_rows = (0..tokens.len() as u32).collect();
        (number * ROWS, Batch { tokens: tokens.to_vec(), spans: vec![span], logit_rows })
    })
}

fn measure(model: &Model, window: &[TokenId], first: usize, scores: &[f32], other: &[f32]) -> Vec<Row> {
    let vocabulary = model.shape().vocabulary;
    let predicted = (scores.len() / vocabulary).min(window.len() - first - 1);
    let rows = Mutex::new(vec![None; predicted]);
    model.pool.run(predicted, &|row| {
        let at = row * vocabulary..(row + 1) * vocabulary;
        let found = measure_row(&scores[at.clone()], &other[at], window[first + row + 1] as usize);
        rows.lock().expect("nothing panics while it is held")[row] = Some(found);
    });
    rows.into_inner().expect("nothing panics while it is held").into_iter().flatten().collect()
}

fn measure_row(scores: &[f32], other: &[f32], next: usize) -> Row {
    let (top, total) = log_total(scores);
    let (other_top, other_total) = log_total(other);
    let mut kl = 0.0;
    for (score, other) in scores.iter().zip(other) {
        let ours = f64::from(*score) - total;
        kl += ours.exp() * (ours - (f64::from(*other) - other_total));
    }
    Row {
        loss: total - f64::from(scores[next]),
        other_loss: other_total - f64::from(other[next]),
        // A sum of rounded terms may come out a hair below zero, which no divergence is.
        kl: kl.max(0.0),
        agrees: top == other_top,
    }
}

/// Returns the likeliest token, and the logarithm of the sum of exponentials.
fn log_total(scores: &[f32]) -> (usize, f64) {
    let top = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
    let most = f64::from(scores[top]);
    (top, scores.iter().map(|score| (f64::from(*score) - most).exp()).sum::<f64>().ln() + most)
}

fn summary(mut rows: Vec<Row>) -> Comparison {
    let count = rows.len().max(1) as f64;
    let mean = |of: fn(&Row) -> f64| rows.iter().map(of).sum::<f64>() / count;
    let (loss, other_loss) = (mean(|row| row.loss), mean(|row| row.other_loss));
    let (kl_mean, agreement) = (mean(|row| row.kl), mean(|row| f64::from(u8::from(row.agrees))));
    rows.sort_by(|a, b| a.kl.total_cmp(&b.kl));
    Comparison {
        tokens: rows.len(),
        perplexity_reference: loss.exp(),
        perplexity: other_loss.exp(),
        perplexity_ratio: (other_loss - loss).exp(),
        kl_mean,
        kl_p99: rows.get(rows.len() * 99 / 100).map_or(0.0, |row| row.kl),
        agreement,
    }
}
