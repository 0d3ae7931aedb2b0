//! What is said about a checkpoint or a request that cannot be right?

use model::{Forward, ForwardError, LoadOptions, Model, weights};
use serde_json::{Value, json};

use crate::harness::{
    BLOCKS, Change, Expected, Piece, altered, batch, folder, load, load_exact, run_in_one_go,
};

/// What loading a fixture with another configuration says.
fn refusal(family: &str, changes: &[Change<'_>]) -> String {
    let folder = altered(family, changes);
    let checkpoint = weights::open(folder.path()).unwrap();
    let options = LoadOptions { threads: 1, ..LoadOptions::default() };
    match Model::load(&checkpoint, &options, &mut |_| {}) {
        Ok(_) => panic!("{family} with {changes:?} loads"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_checkpoint_that_contradicts_its_configuration_is_refused_by_name() {
    let rows: &[(&str, &[Change<'_>], &[&str])] = &[
        (
            "qwen3",
            &[("num_hidden_layers", json!(3)), ("layer_types", Value::Null)],
            &["model.safetensors", "model.layers.2.input_layernorm.weight"],
        ),
        (
            "qwen3",
            &[("num_hidden_layers", json!(1)), ("layer_types", Value::Null)],
            &["model.safetensors", "model.layers.1.", "qwen3 model of 1 layers"],
        ),
        (
            "qwen3",
            &[("intermediate_size", json!(81))],
            &["model.safetensors", "mlp.gate_proj.weight", "[81, 64]", "[80, 64]"],
        ),
        ("qwen3", &[("vocab_size", json!(127))], &["model.embed_tokens.weight", "[127, 64]", "[128, 64]"]),
        ("qwen3", &[("tie_word_embeddings", json!(false))], &["lm_head.weight"]),
        (
            "llama-bias",
            &[("attention_bias", json!(false))],
            &["self_attn.", "_proj.bias", "no place in a llama"],
        ),
        ("llama2", &[("attention_bias", json!(true))], &["self_attn.q_proj.bias"]),
        (
            "mistral",
            &[("num_key_value_heads", json!(2))],
            &["self_attn.k_proj.weight", "[64, 64]", "[32, 64]"],
        ),
        ("qwen2", &[("model_type", json!("llama")), ("architectures", Value::Null)], &["_proj.bias"]),
        ("llama2", &[("hidden_act", json!("gelu"))], &["`hidden_act`", "\"gelu\"", "\"silu\""]),
    ];
    for (family, changes, words) in rows {
        let found = refusal(family, changes);
        for word in *words {
            assert!(found.contains(word), "{family} with {changes:?}: {word:?} is not in {found:?}");
        }
    }
}

#[test]
fn a_token_outside_the_vocabulary_fails_before_anything_is_written() {
    let tokens = Expected::read("llama2").tokens;
    let mut model = load_exact(&folder("llama2"));
    let whole = run_in_one_go(&mut model, &tokens);
    run_in_one_go(&mut model, &tokens[..40]);

    let mut bad = tokens[..40].to_vec();
    bad.rotate_left(1);
    bad[39] = 128;
    let bad = batch(&[Piece { tokens: &bad, from: 0, to: 40, blocks: &[0, 1] }]);
    let refused = model.run(&bad, &mut Vec::new());
    assert_eq!(refused, Err(ForwardError::Token { token: 128, vocabulary: 128 }));

    let rest = batch(&[Piece { tokens: &tokens, from: 40, to: 56, blocks: &[0, 1] }]);
    let mut logits = Vec::new();
    model.run(&rest, &mut logits).unwrap();
    assert_eq!(logits, whole[40 * 128..]);
}

#[test]
fn an_arena_that_cannot_be_had_is_refused_with_its_size() {
    let mut model = load(&folder("llama2"));
    for blocks in [usize::MAX, usize::MAX / model.shape().block_bytes, 1 << 50] {
        let refused = model.reserve(blocks);
        assert!(matches!(refused, Err(ForwardError::Reserve { .. })), "{blocks} blocks: {refused:?}");
    }
    model.reserve(BLOCKS).unwrap();
}

#[test]
#[should_panic(expected = "of an arena of 16")]
fn a_block_outside_the_arena_is_a_broken_promise() {
    let mut model = load(&folder("llama2"));
    let piece = Piece { tokens: &[1], from: 0, to: 1, blocks: &[16] };
    let _ = model.run(&batch(&[piece]), &mut Vec::new());
}

#[test]
fn loading_reports_its_progress_and_what_it_took() {
    let checkpoint = weights::open(&folder("qwen3")).unwrap();
    let mut seen = Vec::new();
    let options = LoadOptions { threads: 1, ..LoadOptions::default() };
    let model = Model::load(&checkpoint, &options, &mut |progress| {
        seen.push((progress.tensor.to_string(), progress.done_bytes, progress.total_bytes));
    })
    .unwrap();
    assert_eq!(seen[0].0, "model.embed_tokens.weight");
    assert!(seen.is_sorted_by(|a, b| a.1 < b.1), "progress grows");
    assert!(seen.iter().all(|(_, done, total)| done <= total));

    let report = model.report();
    // 128·64 embedding, 64 last norm; per layer two norms of 64, two of 32, qkv 128·64, output 64·64, feed-forward 3·80·64.
    assert_eq!(report.parameters, 128 * 64 + 64 + 2 * (2 * 64 + 2 * 32 + 128 * 64 + 64 * 64 + 3 * 80 * 64));
    assert_eq!(report.bits_per_weight, report.resident_bytes as f64 * 8.0 / report.parameters as f64);
    // Key and value of one head of 32 dimensions in two layers, two bytes each.
    assert_eq!(report.kv_bytes_per_token, 2 * 2 * 32 * 2);
    assert_eq!(report.context_tokens, 256);
    assert_eq!(report.paths.len(), 5);
}
