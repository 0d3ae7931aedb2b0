//! Which part of an answer did the model only think?

/// Splits `<think>…</think>` from the text around it.
#[derive(Clone, Debug, Default)]
pub struct ReasoningSplitter {}
