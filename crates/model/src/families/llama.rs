//! What Llama 2 and 3 are: the plain decoder, with biases where the configuration asks for them.

use super::Family;
use crate::config::{ConfigError, Fields, ModelConfig, Names};

pub(crate) const FAMILY: Family =
    Family { name: "llama", architecture: "LlamaForCausalLM", head_dim: None, refine };

/// The names that Llama gave its tensors, and that most families took over.
pub(crate) const NAMES: Names = Names {
    embedding: "model.embed_tokens",
    norm: "model.norm",
    head: "lm_head",
    layers: "model.layers",
    attention_norm: "input_layernorm",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    query_norm: "self_attn.q_norm",
    key_norm: "self_attn.k_norm",
    output: "self_attn.o_proj",
    mlp_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    router: "mlp.gate",
    experts: "mlp.experts",
    expert_gate: "gate_proj",
    expert_up: "up_proj",
    expert_down: "down_proj",
};

fn refine(fields: &Fields<'_>, model: &mut ModelConfig) -> Result<(), ConfigError> {
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    model.qkv_bias = attention_bias;
    model.output_bias = attention_bias;
    model.mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    Ok(())
}
