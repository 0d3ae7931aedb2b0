//! How is a file of weights seen as bytes without reading it?
//!
//! The only place outside `kernels` with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::WeightsError;

/// A file mapped read-only. Pages come in when they are touched and may be dropped by the system at any time, so
/// the file costs address space, not memory.
pub(crate) struct MappedFile {
    path: PathBuf,
    map: Option<Mmap>,
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<MappedFile, WeightsError> {
        let file = File::open(path).map_err(WeightsError::io("open", path))?;
        let metadata = file.metadata().map_err(WeightsError::io("open", path))?;
        if !metadata.is_file() {
            return Err(WeightsError::NotAModel {
                path: path.to_path_buf(),
                expected: "a file of weights",
                found: "something that is not a regular file".into(),
            });
        }
        // Mapping nothing is an error to some systems; an empty file is simply no bytes.
        if metadata.len() == 0 {
            return Ok(MappedFile { path: path.to_path_buf(), map: None });
        }
        // SAFETY: the promise that `Mmap::map` needs is that nobody changes the file while it is mapped. The map is
        // read-only and private to this process, and we never write to a file of weights: downloads go to a `.part`
        // file that is renamed when complete, so a name that can be opened has its final content. A user who
        // overwrites or truncates a model in place under a running server breaks this promise (as with every engine
        // that maps weights); nothing that is read here decides about memory safety: all offsets were checked
        // against the mapped length when the file was opened, and every bit pattern is a valid number.
        let map = unsafe { Mmap::map(&file) }.map_err(WeightsError::io("map", path))?;
        Ok(MappedFile { path: path.to_path_buf(), map: Some(map) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}
