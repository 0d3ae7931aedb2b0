//! What a model is made of: `config.json`, read strictly and put into our own words.
//!
//! A field that would change the arithmetic is either understood or refused by name; a wrong guess would answer fluently
//! and wrongly. Fields that only concern training or generation are passed over.

use serde_json::{Map, Value};

use crate::families::{self, Family};

#[cfg(test)]
mod tests;

/// Larger numbers of layers are a damaged file: the deepest models known have about 130.
const LAYERS_MAX: usize = 4096;
/// Larger counts are a damaged file: vocabularies and contexts end at a few millions. Bounds every product below 2^64.
const COUNT_MAX: u64 = 1 << 24;

/// A decoder, with every default and every family's rule resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family that reads this checkpoint, such as `qwen3`.
    pub family: &'static str,
    /// Rows of the embedding; a tokenizer may use fewer.
    pub vocabulary: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub norm_epsilon: f32,
    /// The output projection is the embedding.
    pub tied_embeddings: bool,
    /// The longest sequence the model was made for, RoPE scaling included.
    pub context_tokens: usize,
    pub rope: Rope,
    /// The products of query, key and value add a bias.
    pub qkv_bias: bool,
    /// The product after attention adds a bias.
    pub output_bias: bool,
    /// Gate, up and down add a bias.
    pub mlp_bias: bool,
    /// Queries and keys are normed head by head before they are rotated.
    pub qk_norm: bool,
    /// How far back each layer looks; `None` is all the way. One entry a layer.
    pub windows: Vec<Option<usize>>,
    /// The layers whose feed-forward part is a mixture of experts; the others, if any, are dense.
    pub experts: Option<ExpertsConfig>,
    pub names: &'static Names,
}

/// How rows choose among several feed-forward parts.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsConfig {
    pub count: usize,
    /// Experts that each row goes to.
    pub chosen: usize,
    /// Values between the two products of one expert.
    pub width: usize,
    /// The weights of a row's chosen experts are made to add up to one.
    pub renormalised: bool,
    /// Whether each layer has experts. One entry a layer.
    pub layers: Vec<bool>,
}

/// Where a family keeps its tensors. Layer parts follow `{layers}.{number}.` and end in `.weight` or `.bias`.
#[derive(Debug, PartialEq)]
pub struct Names {
    pub embedding: &'static str,
    pub norm: &'static str,
    pub head: &'static str,
    pub layers: &'static str,
    pub attention_norm: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub query_norm: &'static str,
    pub key_norm: &'static str,
    pub output: &'static str,
    pub mlp_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub router: &'static str,
    /// Experts follow `{experts}.{number}.`.
    pub experts: &'static str,
    pub expert_gate: &'static str,
    pub expert_up: &'static str,
    pub expert_down: &'static str,
}

/// How positions turn queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pub theta: f64,
    /// Leading dimensions of a head that are rotated.
    pub rotary_dim: usize,
    pub scaling: RopeScaling,
}

/// How a model made for short sequences was stretched to longer ones.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    /// The base grows with the position, past `original` tokens.
    Dynamic {
        factor: f64,
        original: f64,
    },
    Yarn {
        factor: f64,
        original: f64,
        beta_fast: f64,
        beta_slow: f64,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
        /// Whether the borders of the ramp are whole dimensions.
        truncate: bool,
    },
    Llama3 {
        factor: f64,
        original: f64,
        low_frequency_factor: f64,
        high_frequency_factor: f64,
    },
    /// Each frequency is divided by its value in the tensor `rope_freqs.weight`: how GGUF files store Llama 3's rule.
    Divisors,
}

/// The tensor of `rotary_dim / 2` divisors that [`RopeScaling::Divisors`] means.
pub const DIVISORS: &str = "rope_freqs.weight";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("`{field}` is missing; expected {expected}")]
    Missing { field: String, expected: &'static str },
    #[error("`{field}` is {value}; supported: {supported}")]
    Unsupported { field: String, value: String, supported: String },
}

impl ModelConfig {
    /// Reads a `config.json`, in the form of transformers 4 (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`).
    pub fn parse(config: &Value) -> Result<Self, ConfigError> {
        let Value::Object(object) = config else {
            return Err(ConfigError::Unsupported {
                field: "config.json".into(),
                value: kind(config).into(),
                supported: "a JSON object".into(),
            });
        };
        let fields = Fields { object, prefix: "" };
        let family = families::find(&fields)?;
        let mut model = Self::common(&fields, family)?;
        (family.refine)(&fields, &mut model)?;
        Ok(model)
    }

    pub fn layers(&self) -> usize {
        self.windows.len()
    }

    /// Whether the feed-forward part of a layer is a mixture of experts.
    pub fn has_experts(&self, layer: usize) -> bool {
        self.experts.as_ref().is_some_and(|experts| experts.layers[layer])
    }

    /// Widths of one row's queries, keys and values together.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// What most decoders share: the shape, SiLU-gated feed-forward, RMS norms, no biases, no windows.
    fn common(fields: &Fields<'_>, family: &Family) -> Result<Self, ConfigError> {
        refuse_what_changes_the_arithmetic(fields)?;
        let (hidden, heads) = (fields.count("hidden_size")?, fields.count("num_attention_heads")?);
        let (kv_heads, head_dim) = read_heads(fields, family, hidden, heads)?;
        let layers = fields.count("num_hidden_layers")?;
        if layers > LAYERS_MAX {
            return Err(fields.unsupported("num_hidden_layers", format!("at most {LAYERS_MAX} layers")));
        }
        let positions = fields.count("max_position_embeddings")?;
        let (rope, context_tokens) = read_rope(fields, head_dim, positions)?;
        Ok(Self {
            family: family.name,
            vocabulary: fields.count("vocab_size")?,
            hidden,
            intermediate: fields.count("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            norm_epsilon: fields.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            context_tokens,
            rope,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            windows: vec![None; layers],
            experts: None,
            names: &families::LLAMA_NAMES,
        })
    }
}

/// Returns the number of key-value heads and the width of a head.
fn read_heads(
    fields: &Fields<'_>,
    family: &Family,
    hidden: usize,
    heads: usize,
) -> Result<(usize, usize), ConfigError> {
    let kv_heads = fields.optional_count("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let supported = format!("a divisor of num_attention_heads ({heads})");
        return Err(fields.unsupported("num_key_value_heads", supported));
    }
    let head_dim = fields.optional_count("head_dim")?.or(family.head_dim).unwrap_or(hidden / heads);
    if head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(ConfigError::Unsupported {
            field: "head_dim".into(),
            value: head_dim.to_string(),
            supported: "an even number; without it, hidden_size / num_attention_heads".into(),
        });
    }
    Ok((kv_heads, head_dim))
}

/// Fields that no family here has, and that mean other arithmetic when they are set.
fn refuse_what_changes_the_arithmetic(fields: &Fields<'_>) -> Result<(), ConfigError> {
    match fields.text("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(_) => return Err(fields.unsupported("hidden_act", "\"silu\"".into())),
    }
    for field in ["quantization_config", "compression_config"] {
        if fields.get(field).is_some() {
            let supported = "weights in f32, f16 or bf16 (or a GGUF file); quantize while loading instead";
            return Err(ConfigError::Unsupported {
                field: field.into(),
                value: quantization_name(fields.get(field)),
                supported: supported.into(),
            });
        }
    }
    if fields.flag("use_mrope")?.unwrap_or(false) {
        return Err(fields.unsupported("use_mrope", "false".into()));
    }
    Ok(())
}

fn quantization_name(config: Option<&Value>) -> String {
    let method = config.and_then(|config| config.get("quant_method")).and_then(Value::as_str);
    method.map_or_else(|| "set".to_string(), |method| format!("\"{method}\""))
}

/// Returns the rotation, and the context that its scaling gives.
fn read_rope(fields: &Fields<'_>, head_dim: usize, positions: usize) -> Result<(Rope, usize), ConfigError> {
    let scaling = match fields.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => fields.object("rope_parameters")?,
    };
    let empty = Map::new();
    let rope = scaling.unwrap_or(Fields { object: &empty, prefix: "rope_scaling." });
    refuse_other_ropes(&rope)?;

    let theta = rope.positive("rope_theta")?.or(fields.positive("rope_theta")?).unwrap_or(10_000.0);
    let partial = match rope.positive("partial_rotary_factor")? {
        Some(partial) => partial,
        None => fields.positive("partial_rotary_factor")?.unwrap_or(1.0),
    };
    let rotary_dim = (head_dim as f64 * partial) as usize;
    if partial > 1.0 || rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
        return Err(ConfigError::Unsupported {
            field: "partial_rotary_factor".into(),
            value: partial.to_string(),
            supported: format!("a fraction that leaves an even number of head_dim ({head_dim}) dimensions"),
        });
    }

    let kind = rope.text("rope_type")?.or(rope.text("type")?).unwrap_or("default");
    // Transformers lets a field beside `rope_scaling` win over the one within.
    let original = || -> Result<f64, ConfigError> {
        let outside = fields.optional_count("original_max_position_embeddings")?;
        let within = rope.optional_count("original_max_position_embeddings")?;
        Ok(outside.or(within).unwrap_or(positions) as f64)
    };
    let stretched = |tokens: f64, factor: f64| (tokens * factor) as usize;
    let (scaling, context_tokens) = match kind {
        "default" => (RopeScaling::None, positions),
        "llama3-factors" => (RopeScaling::Divisors, positions),
        "linear" => {
            let factor = rope.factor("factor")?;
            (RopeScaling::Linear { factor }, stretched(positions as f64, factor))
        }
        "dynamic" if rotary_dim > 2 => {
            let (factor, original) = (rope.factor("factor")?, positions as f64);
            (RopeScaling::Dynamic { factor, original }, stretched(original, factor))
        }
        "yarn" => {
            let original = original()?;
            let factor = match rope.get("factor") {
                Some(_) => rope.factor("factor")?,
                None => positions as f64 / original,
            };
            let scaling = RopeScaling::Yarn {
                factor,
                original,
                beta_fast: rope.positive("beta_fast")?.unwrap_or(32.0),
                beta_slow: rope.positive("beta_slow")?.unwrap_or(1.0),
                attention_factor: yarn_attention_factor(&rope, factor)?,
                truncate: rope.flag("truncate")?.unwrap_or(true),
            };
            (scaling, positions.max(stretched(original, factor)))
        }
        "llama3" => {
            let scaling = RopeScaling::Llama3 {
                factor: rope.factor("factor")?,
                original: original()?,
                low_frequency_factor: rope.factor("low_freq_factor")?,
                high_frequency_factor: rope.factor("high_freq_factor")?,
            };
            (scaling, positions)
        }
        _ => {
            let field = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
            let supported = "\"default\", \"linear\", \"dynamic\", \"yarn\", \"llama3\"";
            return Err(rope.unsupported(field, supported.into()));
        }
    };
    Ok((Rope { theta, rotary_dim, scaling }, context_tokens))
}

fn refuse_other_ropes(rope: &Fields<'_>) -> Result<(), ConfigError> {
    for field in ["mrope_section", "full_attention", "sliding_attention"] {
        if rope.get(field).is_some() {
            return Err(
                rope.unsupported(field, "one rotation for all layers and one position a token".into())
            );
        }
    }
    Ok(())
}

/// How much sharper attention becomes when positions are squeezed, as the paper and transformers have it.
fn yarn_attention_factor(rope: &Fields<'_>, factor: f64) -> Result<f64, ConfigError> {
    if let Some(factor) = rope.positive("attention_factor")? {
        return Ok(factor);
    }
    let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    match (rope.number("mscale")?, rope.number("mscale_all_dim")?) {
        (Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => Ok(scale(mscale) / scale(all)),
        _ => Ok(scale(1.0)),
    }
}

/// One JSON object whose fields are asked for by name and type. `null` is the same as absent.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// What stands before a field's name in an error.
    prefix: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// Whether the field is there and says `null`, where that differs from being absent.
    pub(crate) fn is_null(&self, field: &str) -> bool {
        self.object.get(field).is_some_and(Value::is_null)
    }

    pub(crate) fn count(&self, field: &str) -> Result<usize, ConfigError> {
        self.optional_count(field)?.ok_or_else(|| ConfigError::Missing {
            field: format!("{}{field}", self.prefix),
            expected: "a positive whole number",
        })
    }

    pub(crate) fn optional_count(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_u64() {
            Some(count) if (1..=COUNT_MAX).contains(&count) => Ok(Some(count as usize)),
            _ => Err(self.unsupported(field, format!("a whole number from 1 to {COUNT_MAX}"))),
        }
    }

    /// Returns a whole number that may be zero.
    pub(crate) fn optional_index(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        match self.get(field).and_then(Value::as_u64) {
            Some(0) => Ok(Some(0)),
            _ => self.optional_count(field),
        }
    }

    /// Returns a list of whole numbers that may be zero.
    pub(crate) fn indices(&self, field: &str) -> Result<Option<Vec<usize>>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let index =
            |value: &Value| value.as_u64().filter(|index| *index <= COUNT_MAX).map(|index| index as usize);
        let indices = value.as_array().and_then(|values| values.iter().map(index).collect());
        indices.map(Some).ok_or_else(|| self.unsupported(field, "a list of whole numbers".into()))
    }

    pub(crate) fn number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.unsupported(field, "a number".into()))
    }

    pub(crate) fn positive(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        match self.number(field)? {
            Some(number) if number <= 0.0 || !number.is_finite() => {
                Err(self.unsupported(field, "a number above 0".into()))
            }
            number => Ok(number),
        }
    }

    fn factor(&self, field: &str) -> Result<f64, ConfigError> {
        let missing =
            ConfigError::Missing { field: format!("{}{field}", self.prefix), expected: "a number above 0" };
        self.positive(field)?.ok_or(missing)
    }

    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.unsupported(field, "true or false".into()))
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.unsupported(field, "a string".into()))
    }

    pub(crate) fn texts(&self, field: &str) -> Result<Option<Vec<&'a str>>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let texts = value.as_array().and_then(|texts| texts.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.unsupported(field, "a list of strings".into()))
    }

    fn object(&self, field: &'static str) -> Result<Option<Fields<'a>>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                let prefix = if field == "rope_parameters" { "rope_parameters." } else { "rope_scaling." };
                Ok(Some(Fields { object, prefix }))
            }
            Some(_) => Err(self.unsupported(field, "an object".into())),
        }
    }

    /// An error about a field that is there, and what it may be instead.
    pub(crate) fn unsupported(&self, field: &str, supported: String) -> ConfigError {
        let value = match self.object.get(field) {
            Some(value @ (Value::Object(_) | Value::Array(_))) => kind(value).to_string(),
            Some(value) => shortened(value.to_string()),
            None => "absent".to_string(),
        };
        ConfigError::Unsupported { field: format!("{}{field}", self.prefix), value, supported }
    }
}

/// A hostile file must not fill the terminal.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(80) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
