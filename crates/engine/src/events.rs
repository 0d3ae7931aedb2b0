//! What of an engine's life is worth knowing outside it?

use std::io;
use std::time::Duration;

use domain::{Priority, WorkKey};

use crate::kv::DiskPlace;

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

/// The tier below memory is ready.
pub(crate) struct DiskOpened<'a> {
    pub(crate) place: &'a DiskPlace,
    pub(crate) bytes_max: u64,
    pub(crate) blocks: usize,
    pub(crate) emptied: bool,
    pub(crate) unread: usize,
}

impl DiskOpened<'_> {
    pub(crate) fn emit(self) {
        if self.emptied {
            tracing::warn!(
                place = ?self.place,
                "the disk tier held blocks of another model or precision, and was emptied"
            );
        }
        tracing::info!(
            place = ?self.place,
            bytes_max = self.bytes_max,
            blocks = self.blocks,
            slots_unread = self.unread,
            "the disk tier is ready; what was computed from prompts is written there"
        );
    }
}

/// The disk failed; everything goes on without it for a while.
pub(crate) struct DiskFailed<'a> {
    pub(crate) place: &'a DiskPlace,
    pub(crate) error: &'a io::Error,
    pub(crate) rest: Duration,
}

impl DiskFailed<'_> {
    pub(crate) fn emit(self) {
        tracing::warn!(
            place = ?self.place,
            error = %self.error,
            rest_seconds = self.rest.as_secs(),
            "the disk tier failed and is left alone for a while; prompts are computed again meanwhile"
        );
    }
}

/// There will be no tier below memory until the next start.
pub(crate) struct DiskOff<'a> {
    pub(crate) place: &'a DiskPlace,
    pub(crate) error: &'a io::Error,
}

impl DiskOff<'_> {
    pub(crate) fn emit(self) {
        tracing::warn!(
            place = ?self.place,
            error = %self.error,
            "there is no disk tier until the next start; prompts that memory has no room for are computed again"
        );
    }
}

/// Reading took longer than computing would have.
pub(crate) struct DiskLate {
    pub(crate) blocks: usize,
}

impl DiskLate {
    pub(crate) fn emit(self) {
        tracing::warn!(
            blocks = self.blocks,
            "the disk tier was too slow: what was waited for is computed, and it is left alone for a while"
        );
    }
}

/// A block on disk is not what was written.
pub(crate) struct DiskDamaged {
    pub(crate) slot: u32,
}

impl DiskDamaged {
    pub(crate) fn emit(self) {
        tracing::warn!(
            slot = self.slot,
            "a block on disk has a wrong checksum; it is dropped and computed again"
        );
    }
}
