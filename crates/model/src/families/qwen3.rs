//! What Qwen 3 is: Llama whose queries and keys are normed head by head, with heads of 128 unless said otherwise.

use super::{Family, window_from_layer};
use crate::config::{ConfigError, Fields, ModelConfig};

pub(crate) const FAMILY: Family =
    Family { name: "qwen3", architecture: "Qwen3ForCausalLM", head_dim: Some(128), refine };

fn refine(fields: &Fields<'_>, model: &mut ModelConfig) -> Result<(), ConfigError> {
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    model.qkv_bias = attention_bias;
    model.output_bias = attention_bias;
    model.qk_norm = true;
    window_from_layer(fields, model)
}
