//! What does a GGUF file hold, in Hugging Face's words?

use std::path::Path;

use super::{Checkpoint, WeightsError};

mod vocabulary;

pub use vocabulary::GgufVocabulary;

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    Err(WeightsError::Unsupported {
        file: path.to_path_buf(),
        what: "GGUF".into(),
        advice: "use the safetensors form".into(),
    })
}
