//! What is worth knowing of the process itself, as structured lines: never a secret.

use std::path::Path;

/// A newer file is in force.
pub struct ConfigurationReplaced<'a> {
    pub file: &'a Path,
    pub generation: u64,
    pub waits_for_restart: &'a [String],
    pub unpriced: &'a [String],
}

impl ConfigurationReplaced<'_> {
    pub fn emit(self) {
        let waits = self.waits_for_restart.join(", ");
        tracing::info!(
            file = %self.file.display(),
            generation = self.generation,
            waits_for_restart = (!waits.is_empty()).then_some(waits),
            unpriced = (!self.unpriced.is_empty()).then(|| self.unpriced.join(", ")),
            "the configuration was replaced; what runs finishes as it began"
        );
    }
}

/// A newer file is wrong; the one before stays in force.
pub struct ConfigurationRefused<'a> {
    pub file: &'a Path,
    pub mistakes: &'a [String],
}

impl ConfigurationRefused<'_> {
    pub fn emit(self) {
        tracing::error!(
            file = %self.file.display(),
            mistakes = self.mistakes.join("\n"),
            "the changed configuration cannot be used; the one before stays in force"
        );
    }
}

/// A model is served all the same, but its packed copy is not as it should be.
pub struct PackedCopyTrouble<'a> {
    pub model: &'a str,
    pub warning: &'a str,
}

impl PackedCopyTrouble<'_> {
    pub fn emit(self) {
        tracing::warn!(model = self.model, "{}", self.warning);
    }
}
