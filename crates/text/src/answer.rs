//! Which parts of a chat answer are reasoning, text and tool calls?

use crate::{ReasoningSplitter, ToolCallReader, ToolPart};

/// A piece of an answer. Pieces of the same kind that follow each other belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    Reasoning(String),
    Text(String),
    /// A whole call; `arguments` is JSON text as the model wrote it.
    ToolCall {
        name: String,
        arguments: String,
    },
}

/// Reads one chat answer as it grows.
#[derive(Clone, Debug)]
pub struct AnswerReader {
    reasoning: Option<ReasoningSplitter>,
    tools: Option<ToolCallReader>,
}

impl AnswerReader {
    /// A reader without either part gives every text back as it came.
    pub fn new(reasoning: Option<ReasoningSplitter>, tools: Option<ToolCallReader>) -> Self {
        Self { reasoning, tools }
    }
    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        let parts = match &mut self.reasoning {
            Some(reasoning) => reasoning.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![AnswerPart::Text(text.to_owned())],
        };
        self.with_tools(parts)
    }
    /// Returns what was held back, when no more text comes.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        let parts = self.reasoning.as_mut().map_or_else(Vec::new, ReasoningSplitter::finish);
        let mut parts = self.with_tools(parts);
        if let Some(tools) = &mut self.tools {
            parts.extend(tools.finish().into_iter().map(AnswerPart::from));
        }
        parts
    }
    /// Looks for tool calls in what is text: a call that was only thought about is none.
    fn with_tools(&mut self, parts: Vec<AnswerPart>) -> Vec<AnswerPart> {
        let Some(tools) = &mut self.tools else { return parts };
        let read = |part| match part {
            AnswerPart::Text(text) => tools.push(&text).into_iter().map(AnswerPart::from).collect(),
            other => vec![other],
        };
        parts.into_iter().flat_map(read).collect()
    }
}

impl From<ToolPart> for AnswerPart {
    fn from(part: ToolPart) -> Self {
        match part {
            ToolPart::Text(text) => AnswerPart::Text(text),
            ToolPart::Call { name, arguments } => AnswerPart::ToolCall { name, arguments },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Cuts `text` at `cuts`, each moved to the next border between characters.
    pub fn cut<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a str> {
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| text.ceil_char_boundary((*cut).min(text.len()))).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }
    /// Returns all reasoning, all text, and the calls.
    pub fn joined(parts: &[AnswerPart]) -> (String, String, Vec<String>) {
        let (mut reasoning, mut text, mut calls) = (String::new(), String::new(), Vec::new());
        for part in parts {
            match part {
                AnswerPart::Reasoning(more) => reasoning += more,
                AnswerPart::Text(more) => text += more,
                AnswerPart::ToolCall { name, arguments } => calls.push(format!("{name}{arguments}")),
            }
        }
        (reasoning, text, calls)
    }

    #[test]
    fn thinking_speaking_and_calling_are_told_apart() {
        let answer = "<think>\nmaybe <tool_call>{\"name\": \"no\"}</tool_call>\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
        let mut reader = AnswerReader::new(Some(ReasoningSplitter::new("")), Some(ToolCallReader::new()));
        let mut parts: Vec<AnswerPart> =
            answer.chars().flat_map(|c| reader.push(c.encode_utf8(&mut [0; 4]))).collect();
        parts.extend(reader.finish());
        let (reasoning, text, calls) = joined(&parts);
        assert_eq!(reasoning, "maybe <tool_call>{\"name\": \"no\"}</tool_call>");
        assert_eq!((text.as_str(), calls), ("Let me see.", vec!["f{}".to_owned()]));
    }

    #[test]
    fn a_reader_that_looks_for_nothing_changes_nothing() {
        let mut reader = AnswerReader::new(None, None);
        assert_eq!(reader.push("<think>\n"), [AnswerPart::Text("<think>\n".into())]);
        assert!(reader.finish().is_empty());
    }
}
