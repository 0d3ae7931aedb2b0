//! Does a model answer the same from its GGUF file as from its Hugging Face folder?

use std::path::Path;

use kernels::Precision;
use model::weights::open;
use model::{Batch, BlockId, Forward, LoadOptions, Model, Numerics, Span};

const ROWS: u32 = 24;

/// Scores of every row of one prompt.
fn scores(name: &str) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name);
    let options = LoadOptions {
        precision: Some(Precision::F32),
        threads: 1,
        numerics: Numerics::BatchInvariant,
        ..LoadOptions::default()
    };
    let checkpoint = open(&path).expect("opens");
    let mut model = Model::load(&checkpoint, &options, &mut |_| {}).expect("loads");
    model.reserve(1).expect("reserves");
    let batch = Batch {
        tokens: (0..ROWS).map(|row| 7 * row % 40).collect(),
        spans: vec![Span { first_row: 0, rows: ROWS, first_position: 0, blocks: vec![BlockId(0)] }],
        logit_rows: (0..ROWS).collect(),
    };
    let mut logits = Vec::new();
    model.run(&batch, &mut logits).expect("runs");
    logits
}

#[test]
fn a_model_answers_the_same_from_both_of_its_forms() {
    for name in ["llama", "llama-bias", "mistral", "qwen2", "qwen3"] {
        let (gguf, folder) = (scores(&format!("{name}.gguf")), scores(name));
        assert_eq!(gguf.len(), ROWS as usize * 40);
        assert!(gguf.iter().all(|score| score.is_finite()));
        let spread = gguf.iter().fold(0.0f32, |most, score| most.max(score.abs()));
        assert!(spread > 0.1, "{name} says something");
        // The same numbers in the same order: nothing to tolerate. Llama 3's divisors are stored as f32, where the
        // folder's are computed in f64: an angle then differs by up to 24 · 2^-24, which is nothing by itself but may
        // turn the rounding of a cached key to bf16. That changes one of a head's eight products by 2^-8 of itself,
        // so a score by a part of 2^-8.
        let bound = if name.starts_with("llama") { spread / 256.0 } else { 0.0 };
        let worst = gguf.iter().zip(&folder).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= bound, "{name}: {worst} of {spread}");
    }
}
