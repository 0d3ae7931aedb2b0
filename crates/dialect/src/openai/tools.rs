//! Which tools may the model ask for?

use serde_json::Value;

use super::generation::too_long;
use crate::BadRequest;
use crate::read::{Fields, unsupported, wrong_type, wrong_value};

/// OpenAI's own bound.
const TOOLS_MAX: usize = 128;

/// Takes `tools` and `tool_choice`, and returns the definitions that the template shall print.
///
/// `"none"` prints none: a model that sees no tools calls none. `"required"` and a named function would need the answer to
/// be constrained, which is not available yet.
pub(super) fn take_tools(fields: &mut Fields) -> Result<Vec<Value>, BadRequest> {
    fields.refuse(&[
        ("functions", "It is deprecated; use 'tools' in its place."),
        ("function_call", "It is deprecated; use 'tool_choice' in its place."),
    ])?;
    let tools = fields.list("tools")?.unwrap_or_default();
    if tools.len() > TOOLS_MAX {
        return Err(too_long("tools", TOOLS_MAX, tools.len()));
    }
    for (index, tool) in tools.iter().enumerate() {
        check_tool(&format!("tools[{index}]"), tool)?;
    }
    match fields.take("tool_choice") {
        None => Ok(tools),
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => Ok(tools),
            "none" => Ok(Vec::new()),
            "required" => Err(cannot_force("the value 'required'")),
            other => Err(wrong_value("tool_choice", other, "'none' and 'auto'")),
        },
        Some(Value::Object(_)) => Err(cannot_force("a named function")),
        Some(other) => Err(wrong_type("tool_choice", "a string or an object", &other)),
    }
}

fn cannot_force(what: &str) -> BadRequest {
    let advice = format!(
        "It was {what}, but a call cannot be forced yet; use 'auto' and say in a message which tool to call."
    );
    unsupported("tool_choice", &advice)
}

/// The definition itself goes to the template as it is; only what every template relies on is checked.
fn check_tool(place: &str, tool: &Value) -> Result<(), BadRequest> {
    let mut fields = Fields::of(place, tool.clone())?;
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
    function.text("description")?;
    function.object("parameters")?;
    Ok(())
}
