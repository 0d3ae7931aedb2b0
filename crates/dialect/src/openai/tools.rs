//! Which tools may the model ask for?

use domain::{Tool, ToolChoice};
use serde_json::{Value, json};

use super::cache_mark;
use super::generation::too_long;
use crate::BadRequest;
use crate::read::{Fields, wrong_type, wrong_value};

/// OpenAI's own bound.
pub(super) const TOOLS_MAX: usize = 128;

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
    let mut tools: Vec<Tool> = tools.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    if let Some(options) = fields.take(super::chat::WEB_SEARCH) {
        let tool = json!({"type": super::chat::WEB_SEARCH, super::chat::WEB_SEARCH: options});
        tools.push(Tool::Native { dialect: super::chat::DIALECT, tool });
    }
    let choice = take_choice(fields, &mut tools)?;
    Ok((tools, choice))
}

fn take_choice(fields: &mut Fields, tools: &mut Vec<Tool>) -> Result<ToolChoice, BadRequest> {
    match fields.take("tool_choice") {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(choice)) => read_mode("tool_choice", &choice),
        Some(choice @ Value::Object(_)) => {
            let mut choice = Fields::of("tool_choice", choice)?;
            match choice.required_text("type")?.as_str() {
                kind @ ("function" | "custom") => {
                    let mut named = choice.object(kind)?.ok_or_else(|| choice.missing(kind))?;
                    named.required_text("name").map(ToolChoice::Named)
                }
                "allowed_tools" => {
                    let mut allowed =
                        choice.object("allowed_tools")?.ok_or_else(|| choice.missing("allowed_tools"))?;
                    let names = allowed.list("tools")?.unwrap_or_default();
                    let name =
                        |tool: &Value| tool[tool["type"].as_str()?]["name"].as_str().map(str::to_owned);
                    keep_allowed(tools, &names.iter().filter_map(name).collect::<Vec<_>>());
                    let mode = allowed.text("mode")?;
                    read_mode("tool_choice.allowed_tools.mode", mode.as_deref().unwrap_or("auto"))
                }
                kind => {
                    let kinds = "'function', 'custom', and 'allowed_tools'";
                    Err(wrong_value("tool_choice.type", kind, kinds))
                }
            }
        }
        Some(other) => Err(wrong_type("tool_choice", "a string or an object", &other)),
    }
}

pub(super) fn read_mode(place: &str, mode: &str) -> Result<ToolChoice, BadRequest> {
    match mode {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        // Mistral's word.
        "required" | "any" => Ok(ToolChoice::Required),
        other => Err(wrong_value(place, other, "'none', 'auto', and 'required'")),
    }
}

/// Tools that must not be called need not be shown.
pub(super) fn keep_allowed(tools: &mut Vec<Tool>, names: &[String]) {
    tools.retain(|tool| tool.name().is_none_or(|known| names.iter().any(|name| name == known)));
}

fn read_tool(place: &str, tool: Value) -> Result<Tool, BadRequest> {
    let mut fields = Fields::of(place, tool)?;
    let kind = fields.required_text("type")?;
    if kind != "function" {
        if !is_word(&kind, 64) {
            return Err(wrong_value(
                &fields.place("type"),
                &kind,
                "'function' and the names of native tools",
            ));
        }
        let mut tool = json!({"type": kind});
        tool.as_object_mut().expect("an object").extend(fields.into_map());
        return Ok(Tool::Native { dialect: super::chat::DIALECT, tool });
    }
    let mut function = fields.object("function")?.ok_or_else(|| fields.missing("function"))?;
    let cache = [fields.take("cache_control"), function.take("cache_control")];
    let cache = cache.iter().flatten().find_map(cache_mark::read);
    read_function(function, cache)
}

/// Reads what a function is called, what it does and what it takes.
pub(super) fn read_function(
    mut function: Fields,
    cache: Option<domain::CacheMark>,
) -> Result<Tool, BadRequest> {
    let name = function.required_text("name")?;
    if !is_word(&name, 64) {
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
        cache,
    })
}

fn is_word(name: &str, bytes_max: usize) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !name.is_empty() && name.len() <= bytes_max && name.bytes().all(is_allowed)
}
