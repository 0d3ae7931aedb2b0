//! What do whole-number weights and activations cost the demo model, on text it has not seen?
//!
//! `fixtures/demo-heldout.json` is every tenth conversation of `demo-model/corpus/heldout.jsonl` through the model's own template
//! and tokenizer. Both models attend in f32, so that nothing but the rounding of weights and activations is compared.

use std::fs;
use std::path::Path;

use model::{Forward, LoadOptions, Numerics, Precision};

use crate::harness::{Piece, load_with, log_probabilities, run};

/// The mean KL divergence from bf16 weights with f32 arithmetic, and the ratio of perplexities.
struct Cost {
    divergence: f64,
    perplexity_ratio: f64,
}

#[test]
fn int8_costs_next_to_nothing_and_int4_little() {
    for (precision, divergence_most, ratio_most) in
        [(Precision::Int8, 0.001, 1.001), (Precision::Int4, f64::INFINITY, 1.03)]
    {
        let Cost { divergence, perplexity_ratio } = cost(precision);
        println!("{precision:?}: mean KL {divergence:.6}, perplexity × {perplexity_ratio:.5}");
        assert!(divergence <= divergence_most, "{precision:?}: mean KL {divergence}");
        assert!(perplexity_ratio <= ratio_most, "{precision:?}: perplexity × {perplexity_ratio}");
    }
}

fn cost(precision: Precision) -> Cost {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read(manifest.join("tests/fixtures/demo-heldout.json")).unwrap();
    let conversations: Vec<Vec<u32>> = serde_json::from_slice(&text).unwrap();
    let folder = manifest.join("../../demo-model/main");
    let load = |precision| {
        let options = LoadOptions {
            precision: Some(precision),
            numerics: Numerics::BatchInvariant,
            ..LoadOptions::default()
        };
        load_with(&folder, options)
    };
    let (mut plain, mut rounded) = (load(Precision::Bf16), load(precision));
    let vocabulary = plain.shape().vocabulary;

    let (mut divergence, mut lost, mut tokens) = (0.0, 0.0, 0);
    let blocks: Vec<u32> = (0..16).collect();
    for conversation in &conversations {
        let piece = Piece { tokens: conversation, from: 0, to: conversation.len(), blocks: &blocks };
        let mut scores =
            [&mut plain, &mut rounded].map(|model| log_probabilities(&run(model, &[piece])[0], vocabulary));
        let [expected, found] = &mut scores;
        let rows = expected.chunks_exact(vocabulary).zip(found.chunks_exact(vocabulary));
        for ((expected, found), next) in rows.zip(&conversation[1..]) {
            let terms = expected.iter().zip(found);
            divergence += terms.map(|(p, q)| f64::from(*p).exp() * f64::from(p - q)).sum::<f64>();
            lost += f64::from(expected[*next as usize] - found[*next as usize]);
            tokens += 1;
        }
    }
    Cost { divergence: divergence / f64::from(tokens), perplexity_ratio: (lost / f64::from(tokens)).exp() }
}
