//! What Qwen 2 and 2.5 are: Llama with biases on query, key and value, and windows on the upper layers if asked for.

use super::{Family, window_from_layer};
use crate::config::{ConfigError, Fields, ModelConfig};

pub(crate) const FAMILY: Family =
    Family { name: "qwen2", architecture: "Qwen2ForCausalLM", head_dim: None, refine };

fn refine(fields: &Fields<'_>, model: &mut ModelConfig) -> Result<(), ConfigError> {
    model.qkv_bias = true;
    window_from_layer(fields, model)
}
