//! How much of a growing text may belong to a mark that is not complete yet?

/// Newlines before a mark that belong to it. More than a model writes, and a bound on what is held back.
pub(crate) const MARK_NEWLINES_MAX: usize = 16;

/// Returns where the end of `text` begins that may be newlines and the beginning of `mark`.
pub(crate) fn held_start(text: &str, mark: &str) -> usize {
    let longest = (1..mark.len().min(text.len() + 1)).rev().find(|length| text.ends_with(&mark[..*length]));
    let begun = text.len() - longest.unwrap_or(0);
    without_newlines(&text[..begun], MARK_NEWLINES_MAX)
}

/// Returns the length of `text` without its last newlines, of which at most `max` are taken off.
pub(crate) fn without_newlines(text: &str, max: usize) -> usize {
    let newlines = text.bytes().rev().take(max).take_while(|byte| *byte == b'\n').count();
    text.len() - newlines
}
