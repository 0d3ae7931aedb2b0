//! Which named tensors, and which configuration, does a model on disk hold?
//!
//! [`open`] reads a Hugging Face folder or a GGUF file into one form, a [`Checkpoint`] with Hugging Face's names, so
//! that nothing behind it knows which of the two it was; a folder that holds packed weights instead of tensors is a [`Checkpoint`],
//! too. [`hub`] brings such a folder or file onto the disk.

#[forbid(unsafe_code)]
mod dequantize;
#[forbid(unsafe_code)]
mod error;
#[forbid(unsafe_code)]
mod fingerprint;
#[forbid(unsafe_code)]
mod folder;
#[forbid(unsafe_code)]
mod gguf;
#[forbid(unsafe_code)]
pub mod hub;
mod map;
#[forbid(unsafe_code)]
mod packed;
#[forbid(unsafe_code)]
mod safetensors;
#[forbid(unsafe_code)]
mod tensor;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use error::WeightsError;
pub(crate) use folder::GGUF_VOCABULARY;
pub use gguf::GgufVocabulary;
pub use packed::{CacheUse, PACKED, PackedCache, PackedFile};
pub(crate) use packed::{Identity, PackedWriter};
pub use tensor::{Encoding, Tensor};

use map::MappedFile;
use tensor::Entry;

/// A model on disk: its configuration, where its tokenizer is, and its tensors, still in their files.
pub struct Checkpoint {
    /// The folder's name, or the file's without its extension.
    pub name: String,
    /// In the form of Hugging Face's `config.json`. For GGUF it is made from the metadata.
    ///
    /// One addition: Llama 3's frequency factors come as a tensor in GGUF. Then `rope_scaling` is
    /// `{"rope_type": "llama3-factors"}` and the tensor `rope_freqs.weight` holds what each frequency is divided by.
    pub config: serde_json::Value,
    pub generation_config: Option<serde_json::Value>,
    pub tokenizer: TokenizerSource,
    /// The Jinja text of the model's own chat template.
    pub chat_template: Option<String>,
    /// The files of weights, and their sizes together.
    pub files: Vec<PathBuf>,
    pub file_bytes: u64,
    /// Where the weights are packed already, as `baseload quantize` leaves them; then there are no tensors.
    pub packed: Option<PackedFile>,
    maps: Vec<MappedFile>,
    tensors: BTreeMap<String, Entry>,
}

/// Where the vocabulary of a checkpoint is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerSource {
    /// A folder with `tokenizer.json` and mostly `tokenizer_config.json`.
    Folder(PathBuf),
    Gguf(Box<GgufVocabulary>),
}

/// Opens a Hugging Face folder, a quantized folder, a `.gguf` file, or a folder that holds exactly one `.gguf` file.
///
/// Reads headers and checks that every tensor lies in its file and fits its shape; the weights themselves are mapped
/// and stay on disk until they are read.
pub fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let metadata = path.metadata().map_err(WeightsError::io("open", path))?;
    if metadata.is_dir() { folder::open(path) } else { gguf::open(path) }
}

impl Checkpoint {
    /// Returns the tensor with this Hugging Face name.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, WeightsError> {
        let Some((name, entry)) = self.tensors.get_key_value(name) else {
            let file = self.files.first().cloned().unwrap_or_default();
            return Err(WeightsError::MissingTensor { file, tensor: name.to_string() });
        };
        let map = &self.maps[entry.file];
        Tensor::new(map.path(), name, entry, map.bytes())
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns all names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Checkpoint")
            .field("name", &self.name)
            .field("files", &self.files)
            .field("file_bytes", &self.file_bytes)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
