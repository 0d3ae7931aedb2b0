//! Does a GGUF file answer as the same weights in a Hugging Face folder do?

use std::path::Path;

use model::{Forward, LoadOptions, Model, Precision, RopeScaling};

use crate::harness::{Gap, load_with, log_probabilities, run_in_one_go};

fn load(path: &Path, precision: Option<Precision>) -> Model {
    load_with(path, LoadOptions { precision, ..LoadOptions::default() })
}

#[test]
fn a_gguf_file_scores_as_its_folder_does() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf");
    for family in ["llama", "mistral", "qwen2", "qwen3", "qwen3moe", "mixtral"] {
        let mut folder = load(&fixtures.join(family), Some(Precision::F32));
        let mut file = load(&fixtures.join(format!("{family}.gguf")), Some(Precision::F32));
        assert_eq!(file.shape(), folder.shape());
        assert_eq!(file.report().parameters, folder.report().parameters);
        assert_eq!(file.config().windows, folder.config().windows);
        assert_eq!(family == "llama", file.config().rope.scaling == RopeScaling::Divisors);
        let vocabulary = folder.shape().vocabulary;
        let tokens: Vec<u32> = (0..56u32).map(|i| (i * i + 7) % vocabulary as u32).collect();
        let expected = log_probabilities(&run_in_one_go(&mut folder, &tokens), vocabulary);
        let found = log_probabilities(&run_in_one_go(&mut file, &tokens), vocabulary);
        let gap = Gap::between(&found, &expected, vocabulary);
        println!("{family:8} {gap:?}");
        // The same weights in the same arithmetic. Only Llama 3's frequencies differ: a file holds them as floats, off by
        // 6e-8, which turns position 55 by 3e-6 more or less and moves a score by no more than that times a few.
        assert!(gap.max < 2e-5, "{family}: {gap:?}");
    }
}

#[test]
fn block_formats_become_bf16_unless_told_otherwise() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/qwen3.gguf");
    // Queries are Q8_0, keys F16, values BF16: together they need f32; the output projection is Q8_0.
    assert_eq!(load(&file, None).report().precision, Precision::F32);
    assert_eq!(load(&file, Some(Precision::Bf16)).report().precision, Precision::Bf16);
}

#[test]
fn experts_in_blocks_stay_as_narrow_as_they_are() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/qwen3moe.gguf");
    let mut narrow = load(&file, None);
    let kept: Vec<(&str, &str)> = narrow
        .report()
        .requantized
        .iter()
        .filter(|one| one.matrix.starts_with("model.layers.0.mlp.experts"))
        .map(|one| (one.stored.as_str(), one.kept))
        .collect();
    assert_eq!(kept, [("Q4_0", "int4"), ("Q8_0", "int8")], "gates and ups, downs");
    let mut wide = load(&file, Some(Precision::F32));
    let vocabulary = wide.shape().vocabulary;
    let tokens: Vec<u32> = (0..40u32).map(|i| (i * i + 3) % vocabulary as u32).collect();
    let expected = log_probabilities(&run_in_one_go(&mut wide, &tokens), vocabulary);
    let found = log_probabilities(&run_in_one_go(&mut narrow, &tokens), vocabulary);
    let gap = Gap::between(&found, &expected, vocabulary);
    println!("{gap:?}");
    assert!(gap.passes(), "{gap:?}");
}
