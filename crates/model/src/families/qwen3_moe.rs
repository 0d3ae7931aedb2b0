//! What Qwen 3 with experts is: Qwen 3 whose feed-forward parts, all or every so many, are mixtures of narrow experts.

use super::{Family, read_experts};
use crate::config::{ConfigError, Fields, ModelConfig};

pub(crate) const FAMILY: Family =
    Family { name: "qwen3_moe", architecture: "Qwen3MoeForCausalLM", head_dim: None, refine };

fn refine(fields: &Fields<'_>, model: &mut ModelConfig) -> Result<(), ConfigError> {
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    model.qkv_bias = attention_bias;
    model.output_bias = attention_bias;
    model.qk_norm = true;
    // Unlike Qwen 3, all layers have the window, or none.
    if fields.flag("use_sliding_window")?.unwrap_or(false) {
        model.windows.fill(fields.optional_count("sliding_window")?);
    }
    let width = fields.count("moe_intermediate_size")?;
    let renormalised = fields.flag("norm_topk_prob")?.unwrap_or(false);
    let mut experts = read_experts(fields, model, width, renormalised)?;
    let step = fields.optional_count("decoder_sparse_step")?.unwrap_or(1);
    let dense = fields.indices("mlp_only_layers")?.unwrap_or_default();
    for (layer, has_experts) in experts.layers.iter_mut().enumerate() {
        *has_experts = !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
    }
    model.experts = Some(experts);
    Ok(())
}
