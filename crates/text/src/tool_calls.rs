//! Which tools does an answer ask for, in the `<tool_call>` notation of Hermes and Qwen?

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolPart {
    Text(String),
    Call { name: String, arguments: String },
}

/// Finds `<tool_call>{"name": …, "arguments": {…}}</tool_call>` in a growing text.
#[derive(Clone, Debug, Default)]
pub struct ToolCallReader {}
