//! Which tools may the model ask for?

use domain::{Tool, ToolChoice};
use serde_json::Value;

use super::DIALECT;
use super::content::take_cache;
use super::messages::Notes;
use crate::BadRequest;
use crate::read::{Fields, wrong_value};

/// Coding agents bring a few hundred; each is prompt text that somebody pays for.
const TOOLS_MAX: usize = 1024;

/// The `type` of the tool that stands for all that only this dialect can say; see [`only_here`].
const PASSED_ON: &str = "passed_on";

/// Takes `tools`.
pub(super) fn take_tools(fields: &mut Fields, notes: &mut Notes) -> Result<Vec<Tool>, BadRequest> {
    let tools = fields.list("tools")?.unwrap_or_default();
    if tools.len() > TOOLS_MAX {
        let message = format!(
            "Invalid 'tools': {} tools are more than the {TOOLS_MAX} that a request may have.",
            tools.len()
        );
        return Err(BadRequest::new(message).at("tools").code("array_above_max_length"));
    }
    let read = |(index, tool): (usize, Value)| read_tool(&format!("tools[{index}]"), tool, notes);
    tools.into_iter().enumerate().map(read).collect()
}

/// Takes `tool_choice`, and whether several tools may be asked for at once.
pub(super) fn take_choice(fields: &mut Fields) -> Result<(ToolChoice, Option<bool>), BadRequest> {
    let Some(mut choice) = fields.object("tool_choice")? else {
        return Ok((ToolChoice::Auto, None));
    };
    let parallel = choice.optional_flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    let tool_choice = match choice.required_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        other => {
            return Err(wrong_value(&choice.place("type"), other, "'auto', 'any', 'tool', and 'none'"));
        }
    };
    Ok((tool_choice, parallel))
}

/// Returns a tool that no other dialect's upstream can offer. It keeps a request with such fields or blocks from upstreams that
/// would answer another question than was asked.
pub(super) fn only_here(places: &[String]) -> Tool {
    let tool = serde_json::json!({"type": PASSED_ON, "name": places.join(", ")});
    Tool::Native { dialect: DIALECT, tool }
}

/// Returns the places that [`only_here`] keeps.
pub(super) fn kept_here(tool: &Value) -> Option<&str> {
    (tool["type"] == PASSED_ON).then(|| tool["name"].as_str()).flatten()
}

fn read_tool(place: &str, tool: Value, notes: &mut Notes) -> Result<Tool, BadRequest> {
    let whole = tool.clone();
    let mut fields = Fields::of(place, tool)?;
    match fields.text("type")?.as_deref() {
        None | Some("custom") => {}
        Some(_) => return Ok(Tool::Native { dialect: DIALECT, tool: whole }),
    }
    let name = fields.required_text("name")?;
    if !is_name(&name) {
        let place = fields.place("name");
        let message =
            format!("Invalid '{place}': expected 1 to 128 letters, digits, underscores and dashes.");
        return Err(BadRequest::new(message).at(place).code("invalid_value"));
    }
    let schema = fields.object("input_schema")?.ok_or_else(|| fields.missing("input_schema"))?;
    let tool = Tool::Function {
        name,
        description: fields.text("description")?,
        parameters: Some(Value::Object(schema.into_map())),
        strict: fields.optional_flag("strict")?,
        cache: take_cache(&mut fields)?,
    };
    notes.ignore_left(fields);
    Ok(tool)
}

pub(super) fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(is_allowed)
}
