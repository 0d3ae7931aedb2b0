//! Does each field mean what it means to transformers, and is what we do not do refused by name?

use serde_json::{Value, json};

use super::*;

/// A sound Llama configuration with changes; `null` takes a field away.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 4096,
    });
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

fn parse(changes: Value) -> ModelConfig {
    ModelConfig::parse(&config(changes)).unwrap()
}

#[test]
fn what_is_not_said_has_the_usual_value() {
    let model = parse(json!({}));
    assert_eq!((model.family, model.heads, model.kv_heads, model.head_dim), ("llama", 4, 4, 16));
    assert_eq!(model.rope, Rope { theta: 10_000.0, rotary_dim: 16, scaling: RopeScaling::None });
    assert_eq!((model.norm_epsilon, model.context_tokens, model.tied_embeddings), (1e-6, 4096, false));
    assert_eq!(model.windows, [None; 4]);
    assert!(!(model.qkv_bias || model.output_bias || model.mlp_bias || model.qk_norm));
}

#[test]
fn a_family_is_known_by_its_architecture_or_else_by_its_type() {
    for (changes, family) in [
        (json!({"architectures": ["MistralForCausalLM"]}), "mistral"),
        (json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "nonsense"}), "qwen2"),
        (json!({"architectures": null, "model_type": "qwen3"}), "qwen3"),
        (json!({"architectures": [], "model_type": "llama"}), "llama"),
    ] {
        assert_eq!(parse(changes).family, family);
    }
}

#[test]
fn families_have_their_own_biases_norms_and_heads() {
    let row = |architecture: &str, changes: Value| {
        let mut changes = changes;
        changes["architectures"] = json!([architecture]);
        let model = parse(changes);
        (model.qkv_bias, model.output_bias, model.mlp_bias, model.qk_norm, model.head_dim)
    };
    let both = json!({"attention_bias": true, "mlp_bias": true});
    assert_eq!(row("LlamaForCausalLM", both.clone()), (true, true, true, false, 16));
    assert_eq!(row("MistralForCausalLM", both), (false, false, false, false, 16));
    assert_eq!(row("MistralForCausalLM", json!({"head_dim": 32})), (false, false, false, false, 32));
    assert_eq!(row("Qwen2ForCausalLM", json!({})), (true, false, false, false, 16));
    assert_eq!(row("Qwen3ForCausalLM", json!({})), (false, false, false, true, 128));
    assert_eq!(row("Qwen3ForCausalLM", json!({"attention_bias": true})), (true, true, false, true, 128));
}

#[test]
fn windows_follow_each_familys_rule() {
    let full = [None; 4];
    let upper = [None, None, Some(8), Some(8)];
    let rows = [
        ("LlamaForCausalLM", json!({"sliding_window": 8}), full),
        ("MistralForCausalLM", json!({"sliding_window": 8}), [Some(8); 4]),
        ("MistralForCausalLM", json!({"sliding_window": null}), full),
        ("MistralForCausalLM", json!({}), [Some(4096); 4]),
        ("Qwen2ForCausalLM", json!({"sliding_window": 8, "max_window_layers": 2}), full),
        (
            "Qwen2ForCausalLM",
            json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2}),
            upper,
        ),
        (
            "Qwen2ForCausalLM",
            json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0}),
            [Some(8); 4],
        ),
        ("Qwen2ForCausalLM", json!({"use_sliding_window": true, "sliding_window": 8}), full),
        (
            "Qwen3ForCausalLM",
            json!({
                "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0,
                "layer_types": ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]
            }),
            upper,
        ),
    ];
    for (architecture, changes, expected) in rows {
        let mut changes = changes;
        changes["architectures"] = json!([architecture]);
        assert_eq!(parse(changes.clone()).windows, expected, "{changes}");
    }
}

#[test]
fn rotations_are_read_in_the_old_form_and_the_new() {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        original: 8192.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
    };
    let yarn = |factor, attention_factor| RopeScaling::Yarn {
        factor,
        original: 4096.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor,
        truncate: true,
    };
    let llama3_fields = json!({"factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192});
    let with = |mut fields: Value, more: Value| {
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    let rows = [
        (json!({"rope_theta": 5e5, "rope_scaling": null}), 5e5, RopeScaling::None, 4096),
        (
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
            1e6,
            RopeScaling::None,
            4096,
        ),
        (
            json!({"rope_theta": 5e5, "rope_scaling": with(llama3_fields.clone(), json!({"rope_type": "llama3"}))}),
            5e5,
            llama3.clone(),
            4096,
        ),
        (
            json!({"rope_parameters": with(llama3_fields, json!({"rope_type": "llama3", "rope_theta": 5e5}))}),
            5e5,
            llama3,
            4096,
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 4}}),
            1e4,
            RopeScaling::Linear { factor: 4.0 },
            16384,
        ),
        (
            json!({"rope_scaling": {"type": "dynamic", "factor": 2}}),
            1e4,
            RopeScaling::Dynamic { factor: 2.0, original: 4096.0 },
            8192,
        ),
        (json!({"rope_scaling": {"type": "yarn", "factor": 1.0}}), 1e4, yarn(1.0, 1.0), 4096),
        // The length before stretching may be said outside, and then the factor may be left out.
        (
            json!({
                "rope_scaling": {"type": "yarn", "attention_factor": 0.5},
                "original_max_position_embeddings": 4096, "max_position_embeddings": 8192
            }),
            1e4,
            yarn(2.0, 0.5),
            8192,
        ),
        (json!({"rope_scaling": {"rope_type": "llama3-factors"}}), 1e4, RopeScaling::Divisors, 4096),
    ];
    for (changes, theta, scaling, context_tokens) in rows {
        let model = parse(changes.clone());
        assert_eq!(model.rope, Rope { theta, rotary_dim: 16, scaling }, "{changes}");
        assert_eq!(model.context_tokens, context_tokens, "{changes}");
    }
    assert_eq!(parse(json!({"partial_rotary_factor": 0.5})).rope.rotary_dim, 8);
}

#[test]
fn what_we_do_not_do_is_refused_by_name() {
    let rows: &[(Value, &[&str])] = &[
        (
            json!({"architectures": ["Gemma3ForCausalLM"]}),
            &[
                "`architectures`",
                "Gemma3ForCausalLM",
                "LlamaForCausalLM",
                "MistralForCausalLM",
                "Qwen2",
                "Qwen3",
            ],
        ),
        (json!({"architectures": null, "model_type": "phi3"}), &["`model_type`", "phi3", "llama", "qwen3"]),
        (json!({"architectures": null}), &["`architectures` is missing"]),
        (json!({"hidden_act": "gelu"}), &["`hidden_act`", "gelu", "silu"]),
        (json!({"quantization_config": {"quant_method": "awq"}}), &["`quantization_config`", "awq", "bf16"]),
        (json!({"use_mrope": true}), &["`use_mrope`"]),
        (json!({"vocab_size": null}), &["`vocab_size` is missing", "whole number"]),
        (json!({"vocab_size": "1000"}), &["`vocab_size`", "\"1000\"", "whole number"]),
        (json!({"hidden_size": 0}), &["`hidden_size` is 0"]),
        (json!({"hidden_size": -1}), &["`hidden_size` is -1"]),
        (json!({"hidden_size": 1e30}), &["`hidden_size`"]),
        (json!({"hidden_size": 3}), &["`head_dim` is 0", "even"]),
        (json!({"head_dim": 17}), &["`head_dim` is 17", "even"]),
        (json!({"num_hidden_layers": 5000}), &["`num_hidden_layers` is 5000", "4096"]),
        (json!({"num_key_value_heads": 3}), &["`num_key_value_heads` is 3", "(4)"]),
        (json!({"rms_norm_eps": -1.0}), &["`rms_norm_eps`", "above 0"]),
        (json!({"tie_word_embeddings": "yes"}), &["`tie_word_embeddings`", "true or false"]),
        (json!({"partial_rotary_factor": 0.2}), &["`partial_rotary_factor`", "even"]),
        (json!({"partial_rotary_factor": 2.0}), &["`partial_rotary_factor`"]),
        (json!({"rope_scaling": "linear"}), &["`rope_scaling`", "object"]),
        (
            json!({"rope_scaling": {"rope_type": "longrope", "long_factor": [1]}}),
            &["`rope_scaling.rope_type`", "longrope", "yarn"],
        ),
        (json!({"rope_scaling": {"type": "su"}}), &["`rope_scaling.type`", "su"]),
        (json!({"rope_scaling": {"type": "linear"}}), &["`rope_scaling.factor` is missing"]),
        (json!({"rope_scaling": {"type": "linear", "factor": 0}}), &["`rope_scaling.factor` is 0"]),
        (
            json!({"rope_parameters": {"rope_type": "llama3", "factor": 8}}),
            &["`rope_parameters.low_freq_factor`"],
        ),
        (json!({"rope_parameters": {"full_attention": {}}}), &["`rope_parameters.full_attention`"]),
        (
            json!({"rope_scaling": {"type": "default", "mrope_section": [1, 2]}}),
            &["`rope_scaling.mrope_section`"],
        ),
        (
            json!({"architectures": ["Qwen3ForCausalLM"], "layer_types": ["full_attention"]}),
            &["`layer_types`", "4 layers"],
        ),
        (
            json!({"architectures": ["Qwen2ForCausalLM"], "layer_types": ["linear_attention", "a", "b", "c"]}),
            &["`layer_types`", "linear_attention", "sliding_attention"],
        ),
        (
            json!({"architectures": ["Qwen2ForCausalLM"], "layer_types": vec!["sliding_attention"; 4]}),
            &["`sliding_window` is absent"],
        ),
    ];
    for (changes, words) in rows {
        let found = ModelConfig::parse(&config(changes.clone())).expect_err(&changes.to_string()).to_string();
        for word in *words {
            assert!(found.contains(word), "{changes}: {word:?} is not in {found:?}");
        }
    }
    assert!(ModelConfig::parse(&json!([1])).unwrap_err().to_string().contains("JSON object"));
}

#[test]
fn a_long_value_does_not_fill_the_terminal() {
    let error = ModelConfig::parse(&config(json!({"hidden_act": "x".repeat(1 << 20)}))).unwrap_err();
    assert!(error.to_string().len() < 200);
}
