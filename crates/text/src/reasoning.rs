//! Which part of an answer did the model only think?

use crate::AnswerPart;
use crate::marks::{MARK_NEWLINES_MAX, held_start, without_newlines};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// White space that may stand before `<think>`; more is an answer.
const SPACE_BYTES_MAX: usize = 64;

/// Splits `<think>…</think>` at the start of an answer from the text after it. The newlines around the marks belong to
/// the marks, as templates that print old reasoning have it.
#[derive(Clone, Debug)]
pub struct ReasoningSplitter {
    place: Place,
    /// Text whose kind is not known yet; a mark and the newlines before it at most.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing but white space so far.
    Start,
    /// After `<think>`, only newlines so far.
    InsideStart,
    Inside,
    /// After `</think>`, only newlines so far.
    AfterMark,
    Text,
}

impl ReasoningSplitter {
    /// `prompt` is what the model continues: some templates open the reasoning themselves.
    pub fn new(prompt: &str) -> Self {
        let is_open = prompt.trim_end_matches('\n').ends_with(OPEN);
        Self { place: if is_open { Place::InsideStart } else { Place::Start }, held: String::new() }
    }
    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while !self.held.is_empty() && self.step(&mut parts) {}
        parts
    }
    /// Returns what was held back, when no more text comes.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        let held = std::mem::take(&mut self.held);
        match self.place {
            _ if held.is_empty() => Vec::new(),
            Place::InsideStart | Place::Inside => vec![AnswerPart::Reasoning(held)],
            Place::Start | Place::AfterMark | Place::Text => vec![AnswerPart::Text(held)],
        }
    }
    /// Moves over one border; returns whether there may be another.
    fn step(&mut self, parts: &mut Vec<AnswerPart>) -> bool {
        match self.place {
            Place::Start => {
                let begun = self.held.trim_start();
                let is_near = self.held.len() - begun.len() <= SPACE_BYTES_MAX;
                if let Some(after) = begun.strip_prefix(OPEN).filter(|_| is_near) {
                    self.held = after.to_owned();
                    self.place = Place::InsideStart;
                    return true;
                }
                if is_near && OPEN.starts_with(begun) {
                    return false;
                }
                self.place = Place::Text;
                true
            }
            Place::InsideStart | Place::AfterMark => {
                self.held.drain(..self.held.len() - self.held.trim_start_matches('\n').len());
                if self.held.is_empty() {
                    return false;
                }
                self.place = if self.place == Place::InsideStart { Place::Inside } else { Place::Text };
                true
            }
            Place::Inside => {
                let end = self.held.find(CLOSE);
                let border = end.map_or_else(
                    || held_start(&self.held, CLOSE),
                    |end| without_newlines(&self.held[..end], MARK_NEWLINES_MAX),
                );
                if border > 0 {
                    parts.push(AnswerPart::Reasoning(self.held[..border].to_owned()));
                }
                self.held.drain(..end.map_or(border, |end| end + CLOSE.len()));
                if end.is_some() {
                    self.place = Place::AfterMark;
                }
                end.is_some()
            }
            Place::Text => {
                parts.push(AnswerPart::Text(std::mem::take(&mut self.held)));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::tests::{cut, joined};
    use proptest::prelude::*;

    fn split<'a>(prompt: &str, pieces: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let mut splitter = ReasoningSplitter::new(prompt);
        let mut parts: Vec<AnswerPart> = pieces.into_iter().flat_map(|piece| splitter.push(piece)).collect();
        parts.extend(splitter.finish());
        let (reasoning, text, calls) = joined(&parts);
        assert!(calls.is_empty());
        (reasoning, text)
    }

    #[test]
    fn reasoning_is_told_from_the_answer() {
        let rows = [
            ("", "<think>\nhm, 2 < 3\n</think>\n\nyes", "hm, 2 < 3", "yes"),
            ("", "\n\n<think></think>yes", "", "yes"),
            ("", "plain <think>no</think>", "", "plain <think>no</think>"),
            ("…<think>\n", "hm\n</think>\nyes", "hm", "yes"),
            ("…<think>\n\n</think>\n\n", "yes", "", "yes"),
            ("", "<think>cut off </thi", "cut off </thi", ""),
            ("", "<thin", "", "<thin"),
            ("", "  ", "", "  "),
        ];
        for (prompt, answer, reasoning, text) in rows {
            assert_eq!(split(prompt, [answer]), (reasoning.to_owned(), text.to_owned()), "{answer:?}");
        }
    }

    #[test]
    fn an_answer_without_reasoning_is_not_held_back() {
        let mut splitter = ReasoningSplitter::new("");
        assert_eq!(splitter.push("a"), [AnswerPart::Text("a".into())]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_parts(
            pieces in prop::collection::vec("<think>|</think>|\n{1,20}|<|a|é| {1,50}", 0..12),
            is_open: bool,
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let answer = pieces.concat();
            let prompt = if is_open { "<think>\n" } else { "" };
            prop_assert_eq!(split(prompt, cut(&answer, &cuts)), split(prompt, [answer.as_str()]));
        }
    }
}
