//! What must lie beside packed weights, so that the folder can be served?

use std::fs;
use std::path::Path;

use crate::weights::{Checkpoint, GGUF_VOCABULARY, TokenizerSource, WeightsError};

/// What tokenizers and templates of Hugging Face folders are read from.
const COPIED: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Writes configuration, tokenizer and chat template into the folder. Weights are written by [`crate::Model::quantize`].
pub fn write_folder(checkpoint: &Checkpoint, folder: &Path) -> Result<(), WeightsError> {
    fs::create_dir_all(folder).map_err(WeightsError::io("create", folder))?;
    write_json(&folder.join("config.json"), &checkpoint.config)?;
    match &checkpoint.tokenizer {
        TokenizerSource::Folder(source) => {
            for name in COPIED {
                let (from, to) = (source.join(name), folder.join(name));
                if from.exists() {
                    fs::copy(&from, &to).map_err(WeightsError::io("copy", &from))?;
                }
            }
        }
        TokenizerSource::Gguf(vocabulary) => {
            let vocabulary = serde_json::to_value(vocabulary).expect("a vocabulary has text for keys");
            write_json(&folder.join(GGUF_VOCABULARY), &vocabulary)?;
            if let Some(generation) = &checkpoint.generation_config {
                write_json(&folder.join("generation_config.json"), generation)?;
            }
            if let Some(template) = &checkpoint.chat_template {
                let path = folder.join("chat_template.jinja");
                fs::write(&path, template).map_err(WeightsError::io("write", &path))?;
            }
        }
    }
    Ok(())
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), WeightsError> {
    let text = serde_json::to_string_pretty(value).expect("values have text for keys");
    fs::write(path, text + "\n").map_err(WeightsError::io("write", path))
}
