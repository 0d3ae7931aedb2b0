//! Which tools may the model ask for?

use domain::{Tool, ToolChoice};
use serde_json::Value;

use super::generation::too_long;
use crate::BadRequest;
use crate::read::{Fields, unsupported, wrong_type, wrong_value};

/// OpenAI's own bound.
const TOOLS_MAX: usize = 128;

/// Takes `tools` and `tool_choice`.
pub(super) fn take_tools(fields: &mut Fields) -> Result<(Vec<Tool>, ToolChoice), BadRequest> {
    fields.refuse(&[
        ("functions", "It is deprecated; use 'tools' in its place."),
        ("function_call", "It is deprecated; use 'tool_choice' in its place."),
    ])?;
    let tools = fields.list("tools")?.unwrap_or_default();
    if tools.len() > TOOLS_MAX {
        return Err(too_long("tools", TOOLS_MAX, tools.len()));
    }
    let read = |(index, tool): (usize, Value)| read_tool(&format!("tools[{index}]"), tool);
    let tools = tools.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let choice = match fields.take("tool_choice") {
        None => ToolChoice::Auto,
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => return Err(cannot_force("the value 'required'")),
            other => return Err(wrong_value("tool_choice", other, "'none' and 'auto'")),
        },
        Some(Value::Object(_)) => return Err(cannot_force("a named function")),
        Some(other) => return Err(wrong_type("tool_choice", "a string or an object", &other)),
    };
    Ok((tools, choice))
}

fn cannot_force(what: &str) -> BadRequest {
    let advice = format!(
        "It was {what}, but a call cannot be forced yet; use 'auto' and say in a message which tool to call."
    );
    unsupported("tool_choice", &advice)
}

fn read_tool(place: &str, tool: Value) -> Result<Tool, BadRequest> {
    let mut fields = Fields::of(place, tool)?;
    let kind = fields.required_text("type")?;
    if kind != "function" {
        return Err(wrong_value(&fields.place("type"), &kind, "'function'"));
    }
    let mut function = fields.object("function")?.ok_or_else(|| fields.missing("function"))?;
    let name = function.required_text("name")?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_allowed) {
        let place = function.place("name");
        return Err(BadRequest::new(format!(
            "Invalid '{place}': expected 1 to 64 letters, digits, underscores, dots and dashes."
        ))
        .at(place)
        .code("invalid_value"));
    }
    Ok(Tool::Function {
        name,
        description: function.text("description")?,
        parameters: function.object("parameters")?.map(|parameters| Value::Object(parameters.into_map())),
        strict: function.optional_flag("strict")?,
        cache: None,
    })
}
