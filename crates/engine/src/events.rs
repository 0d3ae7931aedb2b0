//! What of an engine's life is worth knowing outside it?

use domain::{Priority, WorkKey};

/// A sequence lost its blocks to another and will be computed again.
pub(crate) struct Preempted<'a> {
    pub(crate) key: &'a WorkKey,
    pub(crate) priority: Priority,
    pub(crate) computed_tokens: usize,
    pub(crate) blocks_total: usize,
}

impl Preempted<'_> {
    pub(crate) fn emit(self) {
        tracing::warn!(
            request = %self.key.request,
            choice = self.key.choice,
            priority = ?self.priority,
            computed_tokens = self.computed_tokens,
            blocks_total = self.blocks_total,
            "preempted: the key-value cache is too small for all that runs; what was computed may have to be again"
        );
    }
}

/// One sequence ended in failure; the others go on.
pub(crate) struct Failed<'a> {
    pub(crate) key: &'a WorkKey,
    pub(crate) reason: &'a str,
}

impl Failed<'_> {
    pub(crate) fn emit(self) {
        tracing::error!(
            request = %self.key.request,
            choice = self.key.choice,
            reason = self.reason,
            "a sequence failed"
        );
    }
}

/// A whole batch failed and its sequences are tried one by one.
pub(crate) struct BatchFailed<'a> {
    pub(crate) sequences: usize,
    pub(crate) reason: &'a str,
}

impl BatchFailed<'_> {
    pub(crate) fn emit(self) {
        tracing::error!(
            sequences = self.sequences,
            reason = self.reason,
            "a forward pass failed; its sequences are tried one by one"
        );
    }
}

/// The draft model failed; the target goes on without it.
pub(crate) struct DraftBroken<'a> {
    pub(crate) reason: &'a str,
}

impl DraftBroken<'_> {
    pub(crate) fn emit(self) {
        tracing::error!(reason = self.reason, "the draft model failed; nothing is drafted any more");
    }
}

/// The cache is smaller than the longest sequence of the model.
pub(crate) struct ContextCut {
    pub(crate) model_tokens: usize,
    pub(crate) context_tokens: usize,
}

impl ContextCut {
    pub(crate) fn emit(self) {
        tracing::warn!(
            model_tokens = self.model_tokens,
            context_tokens = self.context_tokens,
            "the key-value cache holds less than the model's longest sequence; give the engine more memory to use it all"
        );
    }
}

/// The engine's thread has ended in a panic.
pub(crate) struct EngineDied<'a> {
    pub(crate) reason: &'a str,
}

impl EngineDied<'_> {
    pub(crate) fn emit(self) {
        tracing::error!(reason = self.reason, "the engine has died; all its work has failed");
    }
}
