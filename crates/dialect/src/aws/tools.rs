//! How are tools offered through Converse, and when must the model call one, or none, or one at a time?
//!
//! Converse has words for "some" and "this one". A Claude is told the rest in its maker's own, beside them: there the choice must
//! then stand alone, for the model is refused two of them.

use domain::{Chat, Tool, ToolChoice};
use serde_json::{Map, Value, json};

use super::conversation::cache_point;
use super::family::Family;
use super::{NAME, untellable};
use crate::Untellable;

/// What is offered.
#[derive(Default)]
pub(super) struct Offer {
    /// `toolConfig`.
    pub config: Option<Value>,
    /// `additionalModelRequestFields.tool_choice`.
    pub choice: Option<Value>,
}

pub(super) fn said(chat: &Chat, family: Family) -> Result<Offer, Untellable> {
    let called = called(chat);
    let must_be_silent = chat.tools.is_empty() || chat.tool_choice == ToolChoice::None;
    if must_be_silent && called.is_empty() {
        return Ok(Offer::default());
    }
    if must_be_silent && !family.is_claude() {
        let what = if chat.tools.is_empty() { "tools" } else { "tool_choice" };
        let why = "with calls in the conversation Converse wants tools offered, and this model cannot be told to call none";
        return Err(untellable(what, why));
    }
    let mut tools = Vec::new();
    for tool in &chat.tools {
        offer(tool, family, &mut tools)?;
    }
    if chat.tools.is_empty() {
        // The client offers none any more: those that were called stand there by name, and none may be called.
        tools.extend(
            called
                .into_iter()
                .map(|name| json!({"toolSpec": {"name": name, "inputSchema": {"json": nothing()}}})),
        );
    }
    let mut config = Map::from_iter([("tools".to_owned(), Value::from(tools))]);
    let is_one_by_one = chat.parallel_tool_calls == Some(false);
    let choice = match (must_be_silent, is_one_by_one) {
        (true, _) => Some(json!({"type": "none"})),
        (false, true) if family.is_claude() => Some(one_by_one(&chat.tool_choice)),
        (false, true) => {
            return Err(untellable(
                "parallel_tool_calls",
                "this model on Bedrock calls as many tools at once as it likes",
            ));
        }
        (false, false) => {
            config.extend(forced(&chat.tool_choice).map(|choice| ("toolChoice".to_owned(), choice)));
            None
        }
    };
    Ok(Offer { config: Some(config.into()), choice })
}

/// Returns the names of the calls so far, each once.
fn called(chat: &Chat) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for call in chat.messages.iter().flat_map(|message| message.tool_calls()) {
        if !names.contains(&&*call.name) {
            names.push(&call.name);
        }
    }
    names
}

fn forced(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto | ToolChoice::None => None,
        ToolChoice::Required => Some(json!({"any": {}})),
        ToolChoice::Named(name) => Some(json!({"tool": {"name": name}})),
    }
}

fn one_by_one(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto | ToolChoice::None => json!({"type": "auto", "disable_parallel_tool_use": true}),
        ToolChoice::Required => json!({"type": "any", "disable_parallel_tool_use": true}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name, "disable_parallel_tool_use": true}),
    }
}

fn nothing() -> Value {
    json!({"type": "object", "properties": {}})
}

fn offer(tool: &Tool, family: Family, offered: &mut Vec<Value>) -> Result<(), Untellable> {
    match tool {
        Tool::Function { name, description, parameters, strict, cache } => {
            let schema = parameters.clone().unwrap_or_else(nothing);
            let mut spec = Map::from_iter([
                ("name".to_owned(), json!(name)),
                ("inputSchema".to_owned(), json!({"json": schema})),
            ]);
            let description = description.as_ref().filter(|text| !text.is_empty());
            spec.extend(description.map(|text| ("description".to_owned(), json!(text))));
            spec.extend(strict.filter(|strict| *strict).map(|strict| ("strict".to_owned(), json!(strict))));
            offered.push(json!({"toolSpec": spec}));
            // Nova keeps messages, not tools.
            offered.extend(cache.filter(|_| family.is_claude()).map(|mark| cache_point(mark, family)));
        }
        Tool::Native { dialect: NAME, tool } => offered.push(tool.clone()),
        Tool::Native { dialect, .. } => {
            return Err(untellable(
                "tools",
                format!("one of them is a tool of {dialect}, which Bedrock does not run"),
            ));
        }
    }
    Ok(())
}
