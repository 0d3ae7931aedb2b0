//! How much shall the model think, and in which shape shall it answer?

use serde_json::Value;

use domain::{AnswerFormat, ReasoningWish};

use super::messages::Notes;
use crate::BadRequest;
use crate::read::{Fields, wrong_value};

/// Anthropic names no format; other dialects must.
const FORMAT_NAME: &str = "answer";

/// Takes `thinking`, `output_config` and the older `output_format`.
///
/// `{"type": "disabled"}` is the effort `none`. An effort without `thinking` is a wish all the same: on other providers it is
/// the only word there is.
pub(super) fn take_reasoning(
    fields: &mut Fields,
    notes: &mut Notes,
) -> Result<(Option<ReasoningWish>, Option<AnswerFormat>), BadRequest> {
    let mut format = fields.object("output_format")?;
    let mut effort = None;
    if let Some(mut config) = fields.object("output_config")? {
        effort = config.text("effort")?;
        format = config.object("format")?.or(format);
        notes.ignore_left(config);
    }
    let mut wish = take_thinking(fields, notes)?;
    if let Some(effort) = effort {
        let wish = wish.get_or_insert_default();
        wish.effort = wish.effort.take().or(Some(effort));
    }
    Ok((wish, format.map(read_format).transpose()?))
}

fn take_thinking(fields: &mut Fields, notes: &mut Notes) -> Result<Option<ReasoningWish>, BadRequest> {
    let Some(mut thinking) = fields.object("thinking")? else {
        return Ok(None);
    };
    let mut wish = ReasoningWish::default();
    match thinking.required_text("type")?.as_str() {
        "enabled" => {
            let budget = thinking.integer("budget_tokens", 1024, i64::from(u32::MAX))?;
            let budget = budget.ok_or_else(|| thinking.missing("budget_tokens"))?;
            wish.budget_tokens = Some(budget as u32);
        }
        "adaptive" => {}
        "between_tools" => notes.ignore(thinking.place("type")),
        "disabled" => wish.effort = Some("none".into()),
        kind => {
            let known = "'adaptive', 'enabled', 'between_tools', and 'disabled'";
            return Err(wrong_value(&thinking.place("type"), kind, known));
        }
    }
    match thinking.text("display")?.as_deref() {
        // To omit it is what a client asks for that does not look at it.
        None | Some("omitted") => {}
        Some("summarized") => wish.summary = Some("auto".into()),
        Some(display) => {
            return Err(wrong_value(&thinking.place("display"), display, "'summarized' and 'omitted'"));
        }
    }
    notes.ignore_left(thinking);
    Ok(Some(wish))
}

fn read_format(mut format: Fields) -> Result<AnswerFormat, BadRequest> {
    match format.required_text("type")?.as_str() {
        "json_schema" => {
            let schema = format.object("schema")?.ok_or_else(|| format.missing("schema"))?;
            let schema = Value::Object(schema.into_map());
            // What Anthropic promises is what others call strict.
            let strict = Some(true);
            Ok(AnswerFormat::JsonSchema { name: FORMAT_NAME.into(), description: None, schema, strict })
        }
        kind => Err(wrong_value(&format.place("type"), kind, "'json_schema'")),
    }
}
