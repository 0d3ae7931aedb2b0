//! Which parts of a chat answer are reasoning, text and tool calls?

use crate::{ReasoningSplitter, ToolCallReader};

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
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        let _ = (text, &self.reasoning, &self.tools);
        unimplemented!()
    }
    /// Returns what was held back, when no more text comes.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        unimplemented!()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    /// Cuts `text` at `cuts`, each moved to the next border between characters.
    pub fn cut<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a str> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| text.ceil_char_boundary(*cut)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }
}
