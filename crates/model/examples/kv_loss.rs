//! What do int8 keys and values cost a model? Perplexity of given tokens and the divergence of their next tokens' probabilities
//! from those with bf16 keys and values.
//!
//! `cargo run --release -p model --example kv_loss FOLDER FILE`: each line of the file is a sequence of token ids.

use model::{Batch, BlockId, Forward, KvPrecision, LoadOptions, Model, Span, weights};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(file)) = (arguments.next(), arguments.next()) else {
        eprintln!("kv_loss FOLDER FILE");
        std::process::exit(2);
    };
    let text = std::fs::read_to_string(file).expect("the file of token ids can be read");
    let parse = |line: &str| -> Vec<u32> {
        line.split_whitespace().map(|id| id.parse().expect("token ids are numbers")).collect()
    };
    let sequences: Vec<Vec<u32>> = text.lines().map(parse).filter(|tokens| tokens.len() > 1).collect();
    let checkpoint = weights::open(folder.as_ref()).expect("a folder of weights");
    let load = |kv_precision| {
        let options = LoadOptions { kv_precision, ..LoadOptions::default() };
        Model::load(&checkpoint, &options, &mut |_| {}).expect("the weights can be loaded")
    };
    let (mut halves, mut bytes) = (load(KvPrecision::Bf16), load(KvPrecision::Int8));
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let blocks = longest.div_ceil(halves.shape().block_tokens);
    halves.reserve(blocks).expect("memory for keys and values");
    bytes.reserve(blocks).expect("memory for keys and values");

    let (mut tokens, mut surprise, mut divergence, mut other_best) = (0, [0.0; 2], 0.0, 0);
    for sequence in &sequences {
        let rows = [scores(&mut halves, sequence), scores(&mut bytes, sequence)];
        let vocabulary = halves.shape().vocabulary;
        for (row, next) in sequence[1..].iter().enumerate() {
            let [exact, rounded] = [0, 1].map(|i| logarithms(&rows[i][row * vocabulary..][..vocabulary]));
            surprise[0] -= exact[*next as usize];
            surprise[1] -= rounded[*next as usize];
            divergence += exact.iter().zip(&rounded).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            other_best += usize::from(best(&exact) != best(&rounded));
            tokens += 1;
        }
    }
    let [before, after] = surprise.map(|sum| (sum / tokens as f64).exp());
    println!(
        "{tokens} tokens in {} sequences of up to {longest}: perplexity {before:.5} with bf16 keys and values, {after:.5} with \
         int8, ratio {:.5}; mean divergence {:.2e}; another token is best after {other_best}",
        sequences.len(),
        after / before,
        divergence / tokens as f64
    );
}

/// In steps of 64 rows, so that most rows read what earlier steps kept.
fn scores(model: &mut Model, tokens: &[u32]) -> Vec<f32> {
    const STEP: usize = 64;
    let blocks: Vec<BlockId> =
        (0..tokens.len().div_ceil(model.shape().block_tokens) as u32).map(BlockId).collect();
    let (mut all, mut logits) = (Vec::new(), Vec::new());
    for first in (0..tokens.len()).step_by(STEP) {
        let rows = STEP.min(tokens.len() - first);
        let batch = Batch {
            tokens: tokens[first..first + rows].to_vec(),
            spans: vec![Span {
                first_row: 0,
                rows: rows as u32,
                first_position: first as u32,
                blocks: blocks.clone(),
            }],
            logit_rows: (0..rows as u32).collect(),
        };
        model.run(&batch, &mut logits).expect("a forward pass");
        all.extend_from_slice(&logits);
    }
    all
}

fn logarithms(scores: &[f32]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = scores.iter().map(|score| f64::from(score - largest).exp()).sum();
    scores.iter().map(|score| f64::from(score - largest) - total.ln()).collect()
}

fn best(logarithms: &[f64]) -> Option<usize> {
    (0..logarithms.len()).max_by(|a, b| logarithms[*a].total_cmp(&logarithms[*b]))
}
