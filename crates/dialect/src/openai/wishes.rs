//! In which form shall the answer come, how hard shall the model think, and how urgent is it?

use serde_json::Value;

use domain::{AnswerFormat, ReasoningWish, ServiceTier};

use super::tier;
use crate::BadRequest;
use crate::read::{Fields, wrong_type, wrong_value};

/// Reads what `response_format` or `text.format` says. `is_flat`: the schema stands beside the type, as in the Responses API.
pub(super) fn read_format(place: &str, format: Value, is_flat: bool) -> Result<AnswerFormat, BadRequest> {
    if !format.is_object() {
        return Err(wrong_type(place, "an object with a 'type'", &format));
    }
    let mut format = Fields::of(place, format)?;
    match format.required_text("type")?.as_str() {
        "text" => Ok(AnswerFormat::Text),
        "json_object" => Ok(AnswerFormat::JsonObject),
        "json_schema" if is_flat => read_schema(format),
        "json_schema" => {
            read_schema(format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?)
        }
        kind => Err(wrong_value(&format.place("type"), kind, "'text', 'json_object', and 'json_schema'")),
    }
}

fn read_schema(mut fields: Fields) -> Result<AnswerFormat, BadRequest> {
    Ok(AnswerFormat::JsonSchema {
        name: fields.text("name")?.unwrap_or_else(|| "answer".to_owned()),
        description: fields.text("description")?,
        schema: match fields.object("schema")? {
            Some(schema) => Value::Object(schema.into_map()),
            None => return Err(fields.missing("schema")),
        },
        strict: fields.optional_flag("strict")?,
    })
}

/// Takes how hard to think: OpenAI's `reasoning_effort`, routers' `reasoning`, Anthropic's `thinking`.
pub(super) fn take_reasoning(fields: &mut Fields) -> Result<Option<ReasoningWish>, BadRequest> {
    let effort = fields.text("reasoning_effort")?;
    let mut wish = ReasoningWish { effort, ..ReasoningWish::default() };
    if let Some(mut reasoning) = fields.object("reasoning")? {
        wish.effort = wish.effort.or(reasoning.text("effort")?);
        let tokens = reasoning.integer("max_tokens", 0, i64::from(u32::MAX))?;
        wish.budget_tokens = tokens.map(|tokens| tokens as u32);
        wish.summary = reasoning.text("summary")?;
        if reasoning.optional_flag("enabled")? == Some(false) {
            wish.budget_tokens = Some(0);
        }
    }
    if let Some(mut thinking) = fields.object("thinking")? {
        let tokens = thinking.integer("budget_tokens", 0, i64::from(u32::MAX))?;
        match thinking.text("type")?.as_deref() {
            Some("disabled") => wish.budget_tokens = Some(0),
            _ => wish.budget_tokens = tokens.map(|tokens| tokens as u32).or(wish.budget_tokens),
        }
    }
    Ok((wish != ReasoningWish::default()).then_some(wish))
}

/// Takes `service_tier`. Words that have no price here leave it to the route.
pub(super) fn take_tier(fields: &mut Fields) -> Result<Option<ServiceTier>, BadRequest> {
    Ok(fields.text("service_tier")?.as_deref().and_then(tier::read))
}
