//! What Mistral is: Llama whose every layer looks back `sliding_window` tokens, where that is set.

use super::Family;
use crate::config::{ConfigError, Fields, ModelConfig};

pub(crate) const FAMILY: Family =
    Family { name: "mistral", architecture: "MistralForCausalLM", head_dim: None, refine };

fn refine(fields: &Fields<'_>, model: &mut ModelConfig) -> Result<(), ConfigError> {
    let window = match fields.optional_count("sliding_window")? {
        // Mistral 7B 0.1 was made with this window; files that mean "none" say `null`.
        None if !fields.is_null("sliding_window") => Some(4096),
        window => window,
    };
    model.windows.fill(window);
    Ok(())
}
