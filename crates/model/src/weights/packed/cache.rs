//! Where are packed copies of models kept, which is the right one, and how many may there be?

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{PackedFile, PackedWriter, hex};
use crate::weights::{Checkpoint, WeightsError};

/// A folder of packed copies, so that the second start of a model maps what the first one packed.
///
/// There is one file for each model and way of keeping it. A newer version of the model overwrites it; when all files together
/// would pass `bytes_max`, those that were not used for the longest time go first. Anybody may delete any of them at any time.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedCache {
    pub folder: PathBuf,
    /// What all files in the folder may take together.
    pub bytes_max: u64,
    /// Models whose files are smaller than this are not copied: they load in a moment anyway.
    pub bytes_least: u64,
    /// Whether all weights are read and compared with their checksums before they are used.
    pub verify: bool,
}

/// What became of the packed copy of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CacheUse {
    /// None was asked for, or the model is too small for one.
    #[default]
    None,
    /// The weights are those of this file, mapped.
    Mapped(PathBuf),
    /// The weights were packed now, and the next start will find them here.
    Written { path: PathBuf, bytes: u64 },
    /// No copy could be written; the weights were packed now, and will be at the next start.
    Failed,
}

/// What a packed copy is a copy of. Whatever differs makes the copy stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// Files of weights, in order.
    pub(crate) files: Vec<SourceFile>,
    /// SHA-256 of the configuration, and of every tensor's name, shape, encoding and place: what headers say. The weights themselves
    /// are not read; who changes them in place without changing the time of the file deceives `make`, too.
    pub(crate) headers: String,
    /// How the weights are kept.
    pub(crate) kept: String,
    /// Another version may round or lay out in another way.
    pub(crate) program: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) modified_ns: u64,
}

/// A part that nobody has written to for so long belongs to a process that died.
const PART_AGE: Duration = Duration::from_secs(3600);

impl PackedCache {
    /// Returns the copy of this model, if there is one that can be trusted; an error is one that cannot.
    pub(crate) fn find(&self, identity: &Identity, name: &str) -> Result<Option<PackedFile>, WeightsError> {
        let path = self.path(identity, name);
        if !path.exists() {
            return Ok(None);
        }
        let packed = PackedFile::open(&path)?;
        let Some(found) = &packed.index().identity else {
            return Err(WeightsError::damaged(&path, "its identity", "what it is a copy of", "nothing"));
        };
        if let Some((what, expected, found)) = identity.difference(found) {
            return Err(WeightsError::Stale { file: path, what, expected, found });
        }
        if self.verify {
            packed.verify()?;
        }
        // The order of use; a folder that cannot be written has none, which is as good.
        let _ = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(packed))
    }

    /// Begins the copy of a model.
    pub(crate) fn begin(&self, identity: &Identity, name: &str) -> Result<PackedWriter, WeightsError> {
        PackedWriter::create(&self.path(identity, name), Some(identity.clone()), self.bytes_max)
    }

    pub(crate) fn path(&self, identity: &Identity, name: &str) -> PathBuf {
        let mut hash = Sha256::new();
        for file in &identity.files {
            hash.update(&file.path);
            hash.update([0]);
        }
        hash.update(&identity.kept);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = name.chars().take(80).map(plain).collect();
        self.folder.join(format!("{name}-{}-{}.packed", identity.kept, hex(&hash.finalize()[..6])))
    }

    /// Removes parts that were left behind, and copies that were not used for the longest time, until all take at most
    /// `bytes_max`. The one at `newest` stays.
    pub(crate) fn make_room(&self, newest: &Path) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut copies = Vec::new();
        for entry in entries.flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            let used = metadata.modified().unwrap_or(UNIX_EPOCH);
            let ends_in = |ending: &str| path.extension().is_some_and(|found| found == ending);
            if ends_in("part") && used.elapsed().is_ok_and(|age| age > PART_AGE) {
                let _ = fs::remove_file(&path);
            } else if ends_in("packed") {
                copies.push((used, path, metadata.len()));
            }
        }
        copies.sort();
        let mut total: u64 = copies.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in copies {
            if total <= self.bytes_max {
                return;
            }
            // A process that has it mapped keeps its pages.
            if path != newest && fs::remove_file(&path).is_ok() {
                total -= bytes;
            }
        }
    }
}

impl Identity {
    /// Returns what a copy of this checkpoint, kept in this way, is a copy of.
    pub(crate) fn of(checkpoint: &Checkpoint, kept: String) -> Result<Self, WeightsError> {
        let mut files = Vec::new();
        for path in &checkpoint.files {
            let metadata = path.metadata().map_err(WeightsError::io("open", path))?;
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            files.push(SourceFile {
                path: path.to_string_lossy().into_owned(),
                bytes: metadata.len(),
                modified_ns: modified.map_or(0, |time| time.as_nanos() as u64),
            });
        }
        let mut hash = Sha256::new();
        hash.update(checkpoint.config.to_string());
        for (name, entry) in &checkpoint.tensors {
            hash.update(format!("{name} {entry:?}"));
        }
        let program = env!("CARGO_PKG_VERSION").to_string();
        Ok(Self { files, headers: hex(&hash.finalize()), kept, program })
    }

    /// Returns what differs first, what was expected and what `other` has.
    fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        if let Some((mine, theirs)) = self.files.iter().zip(&other.files).find(|(a, b)| a != b) {
            let told =
                |file: &SourceFile| format!("{} bytes, changed at {} ns", file.bytes, file.modified_ns);
            return Some((mine.path.clone(), told(mine), told(theirs)));
        }
        let rows = [
            ("the number of files", self.files.len().to_string(), other.files.len().to_string()),
            ("what the headers say", self.headers.clone(), other.headers.clone()),
            ("how weights are kept", self.kept.clone(), other.kept.clone()),
            ("the program's version", self.program.clone(), other.program.clone()),
        ];
        rows.into_iter().find(|(_, a, b)| a != b).map(|(what, a, b)| (what.to_string(), a, b))
    }
}
