//! Which model families there are. Adding one is adding a file, a line in [`FAMILIES`] and a fixture.

mod llama;
mod mistral;
mod mixtral;
mod qwen2;
mod qwen3;
mod qwen3_moe;

pub(crate) use llama::NAMES as LLAMA_NAMES;

use crate::config::{ConfigError, ExpertsConfig, Fields, ModelConfig};

/// What a family says about itself.
pub(crate) struct Family {
    /// The `model_type` of its `config.json`.
    pub name: &'static str,
    /// The entry of `architectures` that this family answers to.
    pub architecture: &'static str,
    /// The width of a head where `head_dim` is absent; without it, `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Changes what most decoders share into what this family does.
    pub refine: fn(&Fields<'_>, &mut ModelConfig) -> Result<(), ConfigError>,
}

const FAMILIES: [&Family; 6] =
    [&llama::FAMILY, &mistral::FAMILY, &mixtral::FAMILY, &qwen2::FAMILY, &qwen3::FAMILY, &qwen3_moe::FAMILY];

/// Larger counts are a damaged file: the most that is known is 512.
const EXPERTS_MAX: usize = 4096;

/// Finds the family of a checkpoint: by `architectures` where it is said, else by `model_type`.
pub(crate) fn find(fields: &Fields<'_>) -> Result<&'static Family, ConfigError> {
    if let Some(&[architecture]) = fields.texts("architectures")?.as_deref() {
        let family = FAMILIES.into_iter().find(|family| family.architecture == architecture);
        return family.ok_or_else(|| ConfigError::Unsupported {
            field: "architectures".into(),
            value: format!("{architecture:?}"),
            supported: supported(|family| family.architecture),
        });
    }
    match fields.text("model_type")? {
        Some(name) => FAMILIES
            .into_iter()
            .find(|family| family.name == name)
            .ok_or_else(|| fields.unsupported("model_type", supported(|family| family.name))),
        None => Err(ConfigError::Missing {
            field: "architectures".into(),
            expected: "a list with the model's one architecture, such as [\"LlamaForCausalLM\"]",
        }),
    }
}

fn supported(word: impl Fn(&Family) -> &'static str) -> String {
    FAMILIES.map(|family| format!("{:?}", word(family))).join(", ")
}

/// The layers that look back only `sliding_window` tokens, as Qwen 2 and 3 have it: none unless `use_sliding_window`,
/// then those that `layer_types` says, or those from `max_window_layers` on.
fn window_from_layer(fields: &Fields<'_>, model: &mut ModelConfig) -> Result<(), ConfigError> {
    let wanted = fields.flag("use_sliding_window")?.unwrap_or(false);
    let window = fields.optional_count("sliding_window")?.filter(|_| wanted);
    if let Some(types) = fields.texts("layer_types")? {
        return windows_by_type(fields, &types, window, model);
    }
    if let Some(window) = window {
        let full = fields.optional_index("max_window_layers")?.unwrap_or(28);
        model.windows.iter_mut().skip(full).for_each(|layer| *layer = Some(window));
    }
    Ok(())
}

/// How many experts there are, and how many of them each row goes to; all layers have them.
fn read_experts(
    fields: &Fields<'_>,
    model: &ModelConfig,
    width: usize,
    renormalised: bool,
) -> Result<ExpertsConfig, ConfigError> {
    // Transformers 5 writes the second name for all families.
    let field = if fields.get("num_experts").is_some() { "num_experts" } else { "num_local_experts" };
    let (count, chosen) = (fields.count(field)?, fields.count("num_experts_per_tok")?);
    if count > EXPERTS_MAX {
        return Err(fields.unsupported(field, format!("at most {EXPERTS_MAX} experts")));
    }
    if chosen > count {
        return Err(fields.unsupported("num_experts_per_tok", format!("at most {field} ({count})")));
    }
    Ok(ExpertsConfig { count, chosen, width, renormalised, layers: vec![true; model.layers()] })
}

fn windows_by_type(
    fields: &Fields<'_>,
    types: &[&str],
    window: Option<usize>,
    model: &mut ModelConfig,
) -> Result<(), ConfigError> {
    let supported = |what: String| ConfigError::Unsupported {
        field: "layer_types".into(),
        value: format!("a list of {}", types.len()),
        supported: what,
    };
    if types.len() != model.layers() {
        return Err(supported(format!("one entry for each of the {} layers", model.layers())));
    }
    for (layer, kind) in model.windows.iter_mut().zip(types) {
        *layer = match *kind {
            "full_attention" => None,
            "sliding_attention" if window.is_some() => window,
            "sliding_attention" => {
                return Err(fields.unsupported("sliding_window", "a number of tokens".into()));
            }
            other => {
                return Err(ConfigError::Unsupported {
                    field: "layer_types".into(),
                    value: format!("{other:?}"),
                    supported: "\"full_attention\", \"sliding_attention\"".into(),
                });
            }
        }
    }
    Ok(())
}
