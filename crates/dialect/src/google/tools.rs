//! How are tools offered to Gemini, and when must it call one?

use domain::{Chat, Tool, ToolChoice};
use serde_json::{Map, Value, json};

use super::{NAME, untellable};
use crate::Untellable;

/// Returns `tools` and `toolConfig`, as far as there is anything to say.
pub(super) fn said(chat: &Chat) -> Result<Map<String, Value>, Untellable> {
    let mut said = Map::new();
    if chat.tools.is_empty() {
        return Ok(said);
    }
    if chat.parallel_tool_calls == Some(false) {
        return Err(untellable("parallel_tool_calls", "Gemini calls as many tools at once as it likes"));
    }
    said.insert("tools".into(), tools(&chat.tools)?);
    said.extend(
        calling(chat).map(|config| ("toolConfig".to_owned(), json!({"functionCallingConfig": config}))),
    );
    Ok(said)
}

fn tools(tools: &[Tool]) -> Result<Value, Untellable> {
    let (mut functions, mut natives) = (Vec::new(), Vec::new());
    for tool in tools {
        match tool {
            Tool::Function { name, description, parameters, .. } => {
                functions.push(function(name, description.as_deref(), parameters.as_ref()));
            }
            Tool::Native { dialect: NAME, tool } => natives.push(tool.clone()),
            Tool::Native { dialect, .. } => {
                return Err(untellable(
                    "tools",
                    format!("one of them is a tool of {dialect}, which Gemini does not run"),
                ));
            }
        }
    }
    if !functions.is_empty() {
        natives.insert(0, json!({"functionDeclarations": functions}));
    }
    Ok(natives.into())
}

fn function(name: &str, description: Option<&str>, parameters: Option<&Value>) -> Value {
    let mut function = Map::from_iter([("name".to_owned(), json!(name))]);
    function.extend(description.map(|text| ("description".to_owned(), json!(text))));
    // The older field `parameters` refuses whatever JSON Schema has beyond OpenAPI 3.0 (`$ref`, `additionalProperties`, …);
    // this one takes a schema as it is and leaves alone what it does not enforce.
    function.extend(parameters.map(|schema| ("parametersJsonSchema".to_owned(), without_address(schema))));
    function.into()
}

/// Returns the schema without the address of its own rules, which says nothing about the arguments.
fn without_address(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(fields) = schema.as_object_mut() {
        fields.shift_remove("$schema");
    }
    schema
}

fn calling(chat: &Chat) -> Option<Value> {
    let is_strict = chat.tools.iter().any(|tool| matches!(tool, Tool::Function { strict: Some(true), .. }));
    match &chat.tool_choice {
        // Arguments that must fit their schema; otherwise the model's own choice.
        ToolChoice::Auto => is_strict.then(|| json!({"mode": "VALIDATED"})),
        ToolChoice::None => Some(json!({"mode": "NONE"})),
        ToolChoice::Required => Some(json!({"mode": "ANY"})),
        ToolChoice::Named(name) => Some(json!({"mode": "ANY", "allowedFunctionNames": [name]})),
    }
}
