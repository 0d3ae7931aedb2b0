//! Which model families there are. Adding one is adding a file, a line in [`FAMILIES`] and a fixture.

mod llama;
mod mistral;
mod qwen2;
mod qwen3;

pub(crate) use llama::NAMES as LLAMA_NAMES;

use crate::config::{ConfigError, Fields, ModelConfig};

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

const FAMILIES: [&Family; 4] = [&llama::FAMILY, &mistral::FAMILY, &qwen2::FAMILY, &qwen3::FAMILY];

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
