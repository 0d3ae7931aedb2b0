//! Do scores and hidden states agree with transformers, and would the comparison notice if they did not?

use std::path::Path;

use model::Forward;
use serde_json::{Value, json};

use crate::harness::{
    Expected, FAMILIES, Gap, Piece, altered, batch, folder, load, log_probabilities, run_in_one_go,
};

#[test]
fn every_family_scores_as_transformers_does() {
    for family in FAMILIES {
        let gap = gap(family, &folder(family));
        println!(
            "{family:14} regret {:.4}  mean {:.6}  p99 {:.6}  max {:.6}",
            gap.regret, gap.mean, gap.p99, gap.max
        );
        assert!(gap.passes(), "{family}: {gap:?}");
    }
}

fn gap(family: &str, folder: &Path) -> Gap {
    let expected = Expected::read(family);
    let mut model = load(folder);
    let vocabulary = model.shape().vocabulary;
    let found = log_probabilities(&run_in_one_go(&mut model, &expected.tokens), vocabulary);
    Gap::between(&found, &expected.log_probabilities, vocabulary)
}

#[test]
fn every_layer_leaves_the_rows_that_transformers_leaves() {
    for family in FAMILIES {
        let expected = Expected::read(family);
        let mut model = load(&folder(family));
        let piece = Piece { tokens: &expected.tokens, from: 0, to: expected.tokens.len(), blocks: &[0, 1] };
        let mut layers = 0;
        let watch = &mut |layer: usize, rows: &[f32]| {
            let expected = &expected.hidden[layer];
            let size = (expected.iter().map(|x| x * x).sum::<f32>() / expected.len() as f32).sqrt();
            let gaps = rows.iter().zip(expected).map(|(a, b)| (a - b).abs() / size);
            let worst = gaps.fold(0.0, f32::max);
            println!("{family:14} layer {layer}: worst {worst:.6} of a typical value");
            assert!(worst < HIDDEN_GAP_MAX, "{family} layer {layer}: {worst}");
            layers += 1;
        };
        model.run_watched(&batch(&[piece]), &mut Vec::new(), watch).unwrap();
        assert_eq!(layers, expected.hidden.len());
    }
}

const HIDDEN_GAP_MAX: f32 = 0.02;

/// What is particular to each fixture, taken away: the gate must then fail, or it would not have tested it.
#[test]
fn the_gate_notices_each_rule_of_a_family() {
    let plain = json!({"rope_type": "default", "rope_theta": 10000.0});
    let rows: &[(&str, &[(&str, Value)])] = &[
        ("llama2", &[("rope_theta", json!(1_000_000.0))]),
        ("llama2", &[("rms_norm_eps", json!(0.3))]),
        ("llama3", &[("rope_parameters", json!({"rope_type": "default", "rope_theta": 500000.0}))]),
        ("llama-linear", &[("rope_scaling", Value::Null)]),
        ("llama-dynamic", &[("rope_parameters", plain.clone())]),
        ("mistral", &[("sliding_window", Value::Null)]),
        ("mistral", &[("sliding_window", json!(17))]),
        ("qwen2-yarn", &[("rope_scaling", Value::Null)]),
        ("qwen3", &[("rope_parameters", plain)]),
        ("qwen3-window", &[("layer_types", Value::Null), ("max_window_layers", json!(2))]),
    ];
    for (family, changes) in rows {
        let copy = altered(family, changes);
        let gap = gap(family, copy.path());
        println!("{family:14} with {changes:?}: {gap:?}");
        assert!(!gap.passes(), "{family} without {changes:?} passes unnoticed: {gap:?}");
    }
}
