//! How are packed weights kept in a file, so that they need only be mapped?
//!
//! ```text
//! | prefix, 128 bytes | data: each array at a multiple of 64 bytes | index: JSON |
//!
//! prefix   magic "BASEPACK" · version: u32 · zero: u32 · file bytes: u64 · index start: u64 · index bytes: u64
//!          · SHA-256 of the index: 32 bytes · SHA-256 of all of this: 32 bytes · zeros
//! index    {"layout", "identity", "parameters", "entries": [{"name", "kind", "outputs", "inputs", "offset", "bytes", "sha256"}]}
//! ```
//!
//! A matrix lies in the file exactly as it lies in memory ([`kernels::Matrix::bytes`]); vectors are little-endian f32. The prefix is
//! written last, so a file that was cut off while it was written has none.
//!
//! What is checked when: prefix, index, sizes and places at every opening, which reads a few kilobytes; the bytes of the weights
//! only when it is asked for ([`PackedFile::verify`]), because reading them all is what a packed file is there to avoid.

mod cache;
mod layout;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::{Mapping, Matrix, Precision, Storage};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) use cache::Identity;
pub use cache::{CacheUse, PackedCache};
pub(crate) use writer::PackedWriter;

use super::WeightsError;

/// The file of a quantized folder.
pub const PACKED: &str = "model.packed";

/// Changes whenever the form of prefix or index does.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"BASEPACK";
const PREFIX_BYTES: usize = 128;
/// Where the SHA-256 of the prefix stands: it covers everything before it.
const PREFIX_HASH_AT: usize = 72;
/// Arrays start on cache lines, as kernels need them.
const ALIGNMENT: u64 = 64;
/// An entry takes some 250 bytes; the largest models have a few ten thousand.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// A file of packed weights, mapped read-only: its pages come as they are touched, and processes that serve it share them.
pub struct PackedFile {
    path: PathBuf,
    mapping: Arc<Mapping>,
    index: Index,
    by_name: BTreeMap<String, usize>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    /// What [`layout::fingerprint`] was where the file was written.
    pub(crate) layout: String,
    /// What the file is a copy of; a file that is the model itself is a copy of nothing.
    pub(crate) identity: Option<Identity>,
    pub(crate) parameters: u64,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Of a vector: 1, and its length.
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Vector,
    F32,
    F16,
    Bf16,
    Int8,
    Int4,
}

impl Kind {
    pub(crate) fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::Bf16,
            Precision::Int8 => Self::Int8,
            Precision::Int4 => Self::Int4,
        }
    }

    pub(crate) fn precision(self) -> Option<Precision> {
        match self {
            Self::Vector => None,
            Self::F32 => Some(Precision::F32),
            Self::F16 => Some(Precision::F16),
            Self::Bf16 => Some(Precision::Bf16),
            Self::Int8 => Some(Precision::Int8),
            Self::Int4 => Some(Precision::Int4),
        }
    }
}

impl PackedFile {
    /// Maps the file and checks everything but the weights themselves.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(WeightsError::io("open", path))?;
        let bytes = file.metadata().map_err(WeightsError::io("open", path))?.len();
        if bytes < PREFIX_BYTES as u64 {
            let expected = format!("a prefix of {PREFIX_BYTES} bytes");
            return Err(WeightsError::damaged(path, "its size", expected, format!("{bytes} bytes")));
        }
        let mapping = Mapping::open(&file).map_err(WeightsError::io("map", path))?;
        let index = read_index(path, mapping.as_slice())?;
        let mut by_name = BTreeMap::new();
        for (number, entry) in index.entries.iter().enumerate() {
            check_entry(path, entry, mapping.as_slice().len() as u64)?;
            if by_name.insert(entry.name.clone(), number).is_some() {
                return Err(WeightsError::damaged(path, format!("{:?}", entry.name), "one entry", "two"));
            }
        }
        Ok(Self { path: path.to_path_buf(), mapping, index, by_name })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file_bytes(&self) -> u64 {
        self.mapping.as_slice().len() as u64
    }

    /// Numbers that the model learned; a tied embedding counts once.
    pub fn parameters(&self) -> u64 {
        self.index.parameters
    }

    pub(crate) fn weight_bytes(&self) -> u64 {
        self.index.entries.iter().map(|entry| entry.bytes).sum()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Reads all weights and compares their checksums.
    pub fn verify(&self) -> Result<(), WeightsError> {
        for entry in &self.index.entries {
            let found = hex(&Sha256::digest(self.bytes_of(entry)));
            if found != entry.sha256 {
                let what = format!("the checksum of {:?}", entry.name);
                return Err(WeightsError::damaged(&self.path, what, &entry.sha256, found));
            }
        }
        Ok(())
    }

    pub(crate) fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<Matrix, WeightsError> {
        let entry = self.entry(name, outputs, inputs)?;
        let Some(precision) = entry.kind.precision() else {
            return Err(WeightsError::damaged(&self.path, format!("{name:?}"), "a matrix", "a vector"));
        };
        Storage::mapped(Arc::clone(&self.mapping), entry.offset as usize, entry.bytes as usize)
            .and_then(|storage| Matrix::from_storage(precision, outputs, inputs, storage))
            .map_err(|error| WeightsError::damaged(&self.path, format!("{name:?}"), "a whole matrix", error))
    }

    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, WeightsError> {
        let entry = self.entry(name, 1, length)?;
        if entry.kind != Kind::Vector || entry.bytes != 4 * length as u64 {
            let found = format!("{:?} of {} bytes", entry.kind, entry.bytes);
            let expected = format!("a vector of {} bytes", 4 * length);
            return Err(WeightsError::damaged(&self.path, format!("{name:?}"), expected, found));
        }
        Ok(self.bytes_of(entry).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn entry(&self, name: &str, outputs: usize, inputs: usize) -> Result<&Entry, WeightsError> {
        let Some(number) = self.by_name.get(name) else {
            return Err(WeightsError::MissingTensor { file: self.path.clone(), tensor: name.to_string() });
        };
        let entry = &self.index.entries[*number];
        if (entry.outputs, entry.inputs) != (outputs, inputs) {
            return Err(WeightsError::Shape {
                file: self.path.clone(),
                tensor: name.to_string(),
                expected: vec![outputs, inputs],
                found: vec![entry.outputs, entry.inputs],
            });
        }
        Ok(entry)
    }

    fn bytes_of(&self, entry: &Entry) -> &[u8] {
        &self.mapping.as_slice()[entry.offset as usize..][..entry.bytes as usize]
    }
}

fn read_index(path: &Path, bytes: &[u8]) -> Result<Index, WeightsError> {
    let damaged =
        |what: &str, expected: String, found: String| WeightsError::damaged(path, what, expected, found);
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    if &bytes[..8] != MAGIC {
        return Err(damaged("its first bytes", "BASEPACK".into(), format!("{:02x?}", &bytes[..8])));
    }
    let version = number(8);
    if version != u64::from(VERSION) {
        return Err(WeightsError::Unsupported {
            file: path.to_path_buf(),
            what: format!("version {version} of packed weights (this program writes and reads {VERSION})"),
            advice: "make the file again from the original model with `baseload quantize`".into(),
        });
    }
    let found = Sha256::digest(&bytes[..PREFIX_HASH_AT]);
    if found[..] != bytes[PREFIX_HASH_AT..PREFIX_HASH_AT + 32]
        || bytes[PREFIX_HASH_AT + 32..PREFIX_BYTES].iter().any(|byte| *byte != 0)
    {
        return Err(damaged("its prefix", "one that fits its checksum".into(), "another".into()));
    }
    let (file_bytes, start, length) = (number(16), number(24), number(32));
    if file_bytes != bytes.len() as u64 {
        return Err(damaged("its size", format!("{file_bytes} bytes"), format!("{} bytes", bytes.len())));
    }
    if length > INDEX_BYTES_MAX || start.checked_add(length) != Some(file_bytes) {
        let found = format!("{length} bytes at {start}");
        return Err(damaged("the place of its index", format!("an end at {file_bytes}"), found));
    }
    let text = &bytes[start as usize..];
    if Sha256::digest(text)[..] != bytes[40..PREFIX_HASH_AT] {
        return Err(damaged("its index", "one that fits its checksum".into(), "another".into()));
    }
    let index: Index = serde_json::from_slice(text)
        .map_err(|error| damaged("its index", "a list of entries".into(), error.to_string()))?;
    if index.layout != layout::fingerprint() {
        return Err(WeightsError::Unsupported {
            file: path.to_path_buf(),
            what: "the way in which another version of this program laid the weights out".into(),
            advice: "make the file again from the original model with `baseload quantize`".into(),
        });
    }
    Ok(index)
}

fn check_entry(path: &Path, entry: &Entry, file_bytes: u64) -> Result<(), WeightsError> {
    let expected = match entry.kind.precision() {
        Some(precision) => Matrix::storage_bytes(precision, entry.outputs, entry.inputs),
        None => entry.inputs.checked_mul(4).filter(|_| entry.outputs == 1),
    };
    let end = entry.offset.checked_add(entry.bytes);
    let is_sound = entry.offset.is_multiple_of(ALIGNMENT)
        && end.is_some_and(|end| end <= file_bytes)
        && expected.is_some_and(|expected| expected as u64 == entry.bytes);
    if is_sound {
        return Ok(());
    }
    let what = format!("the place of {:?}", entry.name);
    let shape = format!("{} × {} {:?} within {file_bytes} bytes", entry.outputs, entry.inputs, entry.kind);
    Err(WeightsError::damaged(path, what, shape, format!("{} bytes at {}", entry.bytes, entry.offset)))
}

/// A full disk has a message of its own.
pub(crate) fn write_error(
    verb: &'static str,
    path: &Path,
    bytes: u64,
) -> impl FnOnce(io::Error) -> WeightsError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            WeightsError::DiskFull { path: path.to_path_buf(), bytes }
        }
        _ => WeightsError::io(verb, path)(error),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
