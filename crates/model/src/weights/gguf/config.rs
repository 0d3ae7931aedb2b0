//! Which `config.json` would the model of a GGUF file have had?

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::value::Metadata;
use crate::weights::WeightsError;
use crate::weights::tensor::Entry;

/// More layers are a damaged file, which is refused later; here they must not fill memory.
const LAYERS_MOST: u64 = 1 << 16;

pub(crate) const SUPPORTED: &str = "llama (Mistral and Mixtral included), qwen2, qwen3 and qwen3moe are";

/// The keys of one architecture, `llama.block_count` and so on.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn count(&self, name: &str) -> Result<Option<u64>, WeightsError> {
        self.metadata.count(&self.key(name))
    }

    fn required(&self, name: &str) -> Result<u64, WeightsError> {
        self.metadata.required_count(&self.key(name))
    }

    fn float(&self, name: &str) -> Result<Option<f64>, WeightsError> {
        self.metadata.float(&self.key(name))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, WeightsError> {
        self.metadata.text(&self.key(name))
    }

    fn unsupported(&self, what: String, advice: &str) -> WeightsError {
        WeightsError::Unsupported {
            file: self.metadata.path().to_path_buf(),
            what,
            advice: advice.to_string(),
        }
    }
}

/// Returns the configuration; `tensors` have Hugging Face names already.
pub(crate) fn config(
    metadata: &Metadata,
    architecture: &str,
    tensors: &BTreeMap<String, Entry>,
) -> Result<Json, WeightsError> {
    let keys = Keys { metadata, architecture };
    let experts = keys.count("expert_count")?.filter(|experts| *experts > 0);
    let window = keys.count("attention.sliding_window")?.filter(|window| *window > 0);
    let (model_type, class) = family(&keys, window, experts.is_some())?;
    let heads = keys.required("attention.head_count")?;
    let hidden = keys.required("embedding_length")?;
    let head_dim = keys.count("attention.key_length")?.unwrap_or(hidden / heads);

    let mut config = Map::new();
    let mut set = |name: &str, value: Json| config.insert(name.to_string(), value);
    set("architectures", json!([class]));
    set("model_type", json!(model_type));
    set("hidden_size", json!(hidden));
    set("num_hidden_layers", json!(keys.required("block_count")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(keys.count("attention.head_count_kv")?.unwrap_or(heads)));
    set("head_dim", json!(head_dim));
    set("intermediate_size", json!(keys.required("feed_forward_length")?));
    set("vocab_size", json!(vocabulary(&keys, tensors)?));
    set("max_position_embeddings", json!(keys.required("context_length")?));
    set("hidden_act", json!("silu"));
    set("rms_norm_eps", json!(norm_epsilon(&keys)?));
    set("tie_word_embeddings", json!(!tensors.contains_key("lm_head.weight")));
    set("rope_theta", json!(keys.float("rope.freq_base")?.unwrap_or(10_000.0)));
    if let Some(scaling) = rope_scaling(&keys, tensors)? {
        set("rope_scaling", scaling);
    }
    if let Some(rotated) = keys.count("rope.dimension_count")?.filter(|rotated| *rotated != head_dim) {
        set("partial_rotary_factor", json!(rotated as f64 / head_dim as f64));
    }
    if let Some(window) = window {
        set("sliding_window", json!(window));
        if architecture != "llama" {
            set("use_sliding_window", json!(true));
            set("max_window_layers", json!(0));
        }
    }
    // Qwen 2 always has these biases and says nothing of them in its configuration.
    if architecture != "qwen2" {
        set("attention_bias", json!(tensors.contains_key("model.layers.0.self_attn.q_proj.bias")));
        set("mlp_bias", json!(tensors.contains_key("model.layers.0.mlp.up_proj.bias")));
    }
    if let Some(experts) = experts {
        set("num_local_experts", json!(experts));
        set("num_experts_per_tok", json!(keys.required("expert_used_count")?));
        if architecture == "qwen3moe" {
            set("moe_intermediate_size", json!(keys.required("expert_feed_forward_length")?));
            // Files of this architecture do not say it; all of its models do it.
            set("norm_topk_prob", json!(true));
            let is_dense =
                |layer: &u64| !tensors.contains_key(&format!("model.layers.{layer}.mlp.gate.weight"));
            let layers = keys.required("block_count")?.min(LAYERS_MOST);
            set("mlp_only_layers", json!((0..layers).filter(is_dense).collect::<Vec<_>>()));
        }
    }
    special_tokens(metadata, &mut set)?;
    Ok(Json::Object(config))
}

/// Returns what stands in a `generation_config.json`: the tokens that begin and end.
pub(crate) fn generation_config(metadata: &Metadata) -> Result<Option<Json>, WeightsError> {
    let mut config = Map::new();
    special_tokens(metadata, &mut |name, value| config.insert(name.to_string(), value))?;
    Ok((!config.is_empty()).then_some(Json::Object(config)))
}

fn special_tokens(
    metadata: &Metadata,
    set: &mut impl FnMut(&str, Json) -> Option<Json>,
) -> Result<(), WeightsError> {
    if let Some(bos) = metadata.token("tokenizer.ggml.bos_token_id")? {
        set("bos_token_id", json!(bos));
    }
    let mut ends: Vec<u32> = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        if let Some(end) = metadata.token(&format!("tokenizer.ggml.{key}"))?
            && !ends.contains(&end)
        {
            ends.push(end);
        }
    }
    match ends[..] {
        [] => {}
        [only] => drop(set("eos_token_id", json!(only))),
        _ => drop(set("eos_token_id", json!(ends))),
    }
    if let Some(pad) = metadata.token("tokenizer.ggml.padding_token_id")? {
        set("pad_token_id", json!(pad));
    }
    Ok(())
}

/// GGUF calls Mistral and Mixtral `llama`; what sets them apart is the sliding window, and the experts.
fn family(
    keys: &Keys<'_>,
    window: Option<u64>,
    has_experts: bool,
) -> Result<(&'static str, &'static str), WeightsError> {
    match (keys.architecture, window, has_experts) {
        ("llama", None, false) => Ok(("llama", "LlamaForCausalLM")),
        ("llama", Some(_), false) => Ok(("mistral", "MistralForCausalLM")),
        ("llama", _, true) => Ok(("mixtral", "MixtralForCausalLM")),
        ("qwen2", _, false) => Ok(("qwen2", "Qwen2ForCausalLM")),
        ("qwen3", _, false) => Ok(("qwen3", "Qwen3ForCausalLM")),
        ("qwen3moe", _, true) => Ok(("qwen3_moe", "Qwen3MoeForCausalLM")),
        ("qwen2" | "qwen3", _, true) => {
            Err(keys.unsupported(format!("a mixture of experts in {:?}", keys.architecture), SUPPORTED))
        }
        (other, _, _) => Err(keys.unsupported(format!("architecture {other:?}"), SUPPORTED)),
    }
}

/// The embedding is the truth; the key is often missing and sometimes counts without padding.
fn vocabulary(keys: &Keys<'_>, tensors: &BTreeMap<String, Entry>) -> Result<u64, WeightsError> {
    match tensors.get("model.embed_tokens.weight").map(|entry| &entry.shape[..]) {
        Some([rows, _]) => Ok(*rows as u64),
        _ => keys.required("vocab_size"),
    }
}

fn norm_epsilon(keys: &Keys<'_>) -> Result<f64, WeightsError> {
    let name = "attention.layer_norm_rms_epsilon";
    keys.float(name)?.ok_or_else(|| {
        WeightsError::damaged(
            keys.metadata.path(),
            format!("key {:?}", keys.key(name)),
            "a number",
            "no such key",
        )
    })
}

fn rope_scaling(keys: &Keys<'_>, tensors: &BTreeMap<String, Entry>) -> Result<Option<Json>, WeightsError> {
    let factors = tensors.contains_key("rope_freqs.weight");
    let factor = keys.float("rope.scaling.factor")?.or(keys.float("rope.scale_linear")?);
    let kind = match (keys.text("rope.scaling.type")?, factor) {
        (Some(kind), _) => kind,
        (None, Some(factor)) if factor != 0.0 && factor != 1.0 => "linear",
        _ => "none",
    };
    let missing = || {
        let key = keys.key("rope.scaling.factor");
        WeightsError::damaged(keys.metadata.path(), format!("key {key:?}"), "a number", "no such key")
    };
    match kind {
        "none" if factors => Ok(Some(json!({ "rope_type": "llama3-factors" }))),
        "none" => Ok(None),
        _ if factors => {
            let what = format!("{kind:?} RoPE scaling together with frequency factors");
            Err(keys.unsupported(what, "convert the original model again"))
        }
        "linear" => Ok(Some(json!({ "rope_type": "linear", "factor": factor.ok_or_else(missing)? }))),
        "yarn" => yarn(keys, factor.ok_or_else(missing)?).map(Some),
        other => Err(keys.unsupported(format!("{other:?} RoPE scaling"), "none, linear and yarn are")),
    }
}

fn yarn(keys: &Keys<'_>, factor: f64) -> Result<Json, WeightsError> {
    let mut scaling = Map::new();
    scaling.insert("rope_type".into(), json!("yarn"));
    scaling.insert("factor".into(), json!(factor));
    if let Some(original) = keys.count("rope.scaling.original_context_length")? {
        scaling.insert("original_max_position_embeddings".into(), json!(original));
    }
    for (key, name) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
        if let Some(beta) = keys.float(&format!("rope.scaling.{key}"))? {
            scaling.insert(name.into(), json!(beta));
        }
    }
    // Here it multiplies what YaRN prescribes; in config.json it stands in its place.
    if let Some(attention) = keys.float("rope.scaling.attn_factor")?.filter(|attention| *attention != 1.0) {
        scaling.insert("attention_factor".into(), json!(attention * (0.1 * factor.ln() + 1.0)));
    }
    Ok(Json::Object(scaling))
}

#[cfg(test)]
mod tests {
    use super::super::value::{List, Value};
    use super::*;
    use crate::weights::tensor::{Encoding, RowOrder, Stored};

    /// The least that a llama file says, and then some.
    fn made(more: &[(&str, Value)], tensors: &[(&str, &[usize])]) -> Result<Json, String> {
        let counts = [
            ("embedding_length", 32),
            ("block_count", 2),
            ("feed_forward_length", 64),
            ("context_length", 512),
            ("attention.head_count", 4),
        ];
        let mut values: BTreeMap<String, Value> =
            counts.iter().map(|(name, count)| (format!("llama.{name}"), Value::Integer(*count))).collect();
        values.insert("llama.attention.layer_norm_rms_epsilon".into(), Value::Float(1e-5));
        values.extend(more.iter().map(|(name, value)| (name.to_string(), value.clone())));
        values.retain(|_, value| *value != Value::Bool(false));
        let metadata = Metadata { file: "x.gguf".into(), values };
        let entry = |shape: &[usize]| Entry {
            file: 0,
            shape: shape.to_vec(),
            stored: Stored::As(Encoding::F32),
            bytes: 0..0,
            order: RowOrder::AsStored,
        };
        let mut all = BTreeMap::from([("model.embed_tokens.weight".to_string(), entry(&[40, 32]))]);
        all.extend(tensors.iter().map(|(name, shape)| (name.to_string(), entry(shape))));
        config(&metadata, "llama", &all).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_file_does_not_say_has_the_formats_default() {
        let config = made(&[], &[]).expect("enough");
        assert_eq!(config["num_key_value_heads"], 4);
        assert_eq!(config["head_dim"], 8);
        assert_eq!(config["rope_theta"], 10_000.0);
        assert_eq!(config["vocab_size"], 40);
        assert_eq!(config["tie_word_embeddings"], true);
        assert_eq!(config["model_type"], "llama");
        for absent in ["rope_scaling", "sliding_window", "partial_rotary_factor", "eos_token_id"] {
            assert!(config.get(absent).is_none(), "{absent}");
        }
        let untied = made(&[], &[("lm_head.weight", &[40, 32])]).expect("enough");
        assert_eq!(untied["tie_word_embeddings"], false);
    }

    #[test]
    fn rope_scaling_takes_hugging_faces_form() {
        let text = |text: &str| Value::Text(text.into());
        let kind = "llama.rope.scaling.type";
        let factor = ("llama.rope.scaling.factor", Value::Float(4.0));
        let scaling = |more: &[(&str, Value)]| made(more, &[]).expect("enough")["rope_scaling"].clone();
        assert_eq!(scaling(&[(kind, text("none"))]), Json::Null);
        assert_eq!(
            scaling(&[(kind, text("linear")), factor.clone()]),
            json!({ "rope_type": "linear", "factor": 4.0 })
        );
        // Before types had names.
        assert_eq!(
            scaling(&[("llama.rope.scale_linear", Value::Float(2.0))]),
            json!({ "rope_type": "linear", "factor": 2.0 })
        );
        let yarn = scaling(&[
            (kind, text("yarn")),
            factor.clone(),
            ("llama.rope.scaling.original_context_length", Value::Integer(128)),
            ("llama.rope.scaling.attn_factor", Value::Float(0.5)),
            ("llama.rope.scaling.yarn_beta_fast", Value::Float(16.0)),
        ]);
        assert_eq!((&yarn["rope_type"], &yarn["factor"]), (&json!("yarn"), &json!(4.0)));
        assert_eq!(yarn["original_max_position_embeddings"], 128);
        assert_eq!(yarn["beta_fast"], 16.0);
        // Half of 0.1·ln 4 + 1.
        assert!((yarn["attention_factor"].as_f64().expect("a number") - 0.569_314_718).abs() < 1e-9);
        let factors: &[(&str, &[usize])] = &[("rope_freqs.weight", &[4])];
        assert_eq!(
            made(&[], factors).expect("enough")["rope_scaling"],
            json!({ "rope_type": "llama3-factors" })
        );
        assert!(
            made(&[(kind, text("yarn")), factor], factors)
                .is_err_and(|error| error.contains("frequency factors"))
        );
    }

    #[test]
    fn counts_for_each_layer_are_one_count_when_they_agree() {
        let heads = |counts: &[i64]| {
            let list = Value::List(List::Integers(counts.to_vec()));
            made(&[("llama.attention.head_count_kv", list)], &[])
        };
        assert_eq!(heads(&[2, 2]).expect("the same")["num_key_value_heads"], 2);
        assert!(
            heads(&[2, 4]).is_err_and(|error| error.contains("head_count_kv") && error.contains("a count"))
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        let rows = [
            ("llama.expert_count", Value::Integer(8), "llama.expert_used_count"),
            (
                "llama.block_count",
                Value::Bool(false),
                "\"llama.block_count\": expected a count, found no such key",
            ),
            ("llama.block_count", Value::Integer(0), "expected more than 0"),
            ("llama.block_count", Value::Integer(-1), "found -1"),
            ("llama.context_length", Value::Text("long".into()), "found \"long\""),
            ("llama.attention.layer_norm_rms_epsilon", Value::Float(f64::NAN), "found NaN"),
            ("llama.rope.scaling.type", Value::Text("longrope".into()), "\"longrope\" RoPE scaling"),
            ("llama.rope.scaling.type", Value::Text("linear".into()), "llama.rope.scaling.factor"),
        ];
        for (key, value, part) in rows {
            let error = made(&[(key, value)], &[]).expect_err(part);
            assert!(error.contains(part) && error.contains("x.gguf"), "{error}");
        }
    }
}
