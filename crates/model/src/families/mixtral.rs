//! What Mixtral is: Mistral whose every feed-forward part is a mixture of experts with weights that add up to one.

use super::{Family, read_experts};
use crate::config::{ConfigError, Fields, ModelConfig, Names};

pub(crate) const FAMILY: Family =
    Family { name: "mixtral", architecture: "MixtralForCausalLM", head_dim: None, refine };

const NAMES: Names = Names {
    router: "block_sparse_moe.gate",
    experts: "block_sparse_moe.experts",
    expert_gate: "w1",
    expert_up: "w3",
    expert_down: "w2",
    ..super::LLAMA_NAMES
};

fn refine(fields: &Fields<'_>, model: &mut ModelConfig) -> Result<(), ConfigError> {
    let says_theta = fields.get("rope_theta").is_some()
        || fields.get("rope_parameters").is_some_and(|rope| rope.get("rope_theta").is_some());
    if !says_theta {
        model.rope.theta = 1_000_000.0;
    }
    if fields.get("rms_norm_eps").is_none() {
        model.norm_epsilon = 1e-5;
    }
    model.windows.fill(fields.optional_count("sliding_window")?);
    model.experts = Some(read_experts(fields, model, model.intermediate, true)?);
    model.names = &NAMES;
    Ok(())
}
