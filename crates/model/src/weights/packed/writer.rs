//! How is a file of packed weights written, so that it is whole or not there?

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kernels::Matrix;
use sha2::{Digest, Sha256};

use super::{
    ALIGNMENT, Entry, Identity, Index, Kind, MAGIC, PREFIX_BYTES, PREFIX_HASH_AT, VERSION, hex, layout,
    write_error,
};
use crate::weights::WeightsError;

/// Writes beside the target, array by array, and renames when all is on disk. Dropped before that, it leaves nothing.
pub(crate) struct PackedWriter {
    target: PathBuf,
    part: PathBuf,
    /// `None` once the file is finished.
    file: Option<BufWriter<File>>,
    /// The next free byte.
    end: u64,
    bytes_max: u64,
    index: Index,
}

impl PackedWriter {
    /// Begins a file of at most `bytes_max` bytes.
    pub(crate) fn create(
        target: &Path,
        identity: Option<Identity>,
        bytes_max: u64,
    ) -> Result<Self, WeightsError> {
        /// Two threads of one process may write the same model.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(WeightsError::io("create", folder))?;
        let mut part = target.as_os_str().to_owned();
        part.push(format!(".{}-{}.part", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(write_error("create", &part, 0))?;
        let index =
            Index { layout: layout::fingerprint().to_string(), identity, parameters: 0, entries: Vec::new() };
        let target = target.to_path_buf();
        let mut writer = Self { target, part, file: Some(BufWriter::new(file)), end: 0, bytes_max, index };
        writer.put(&[0; PREFIX_BYTES])?;
        Ok(writer)
    }

    pub(crate) fn matrix(&mut self, name: &str, matrix: &Matrix) -> Result<(), WeightsError> {
        let kind = Kind::of(matrix.precision());
        self.array(name, kind, matrix.outputs(), matrix.inputs(), matrix.bytes())
    }

    pub(crate) fn vector(&mut self, name: &str, values: &[f32]) -> Result<(), WeightsError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(name, Kind::Vector, 1, values.len(), &bytes)
    }

    fn array(
        &mut self,
        name: &str,
        kind: Kind,
        outputs: usize,
        inputs: usize,
        bytes: &[u8],
    ) -> Result<(), WeightsError> {
        let offset = self.end.next_multiple_of(ALIGNMENT);
        self.put(&[0; ALIGNMENT as usize][..(offset - self.end) as usize])?;
        self.put(bytes)?;
        self.index.entries.push(Entry {
            name: name.to_string(),
            kind,
            outputs,
            inputs,
            offset,
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(bytes)),
        });
        Ok(())
    }

    /// Makes the file durable, gives it its name, and returns its size.
    pub(crate) fn finish(mut self, parameters: u64) -> Result<u64, WeightsError> {
        self.index.parameters = parameters;
        let index = serde_json::to_vec(&self.index).expect("an index has text for keys");
        let start = self.end;
        self.put(&index)?;
        let mut prefix = Vec::with_capacity(PREFIX_BYTES);
        prefix.extend_from_slice(MAGIC);
        prefix.extend_from_slice(&u64::from(VERSION).to_le_bytes());
        for number in [self.end, start, index.len() as u64] {
            prefix.extend_from_slice(&number.to_le_bytes());
        }
        prefix.extend_from_slice(&Sha256::digest(&index));
        assert_eq!(prefix.len(), PREFIX_HASH_AT, "the prefix's hash stands behind what it covers");
        let hash = Sha256::digest(&prefix);
        prefix.extend_from_slice(&hash);
        let file = self.file.as_mut().expect("a file is finished once");
        let written = file
            .flush()
            .and_then(|()| file.get_mut().sync_data())
            .and_then(|()| file.get_mut().seek(SeekFrom::Start(0)))
            .and_then(|_| file.get_mut().write_all(&prefix))
            .and_then(|()| file.get_mut().sync_all())
            .and_then(|()| fs::rename(&self.part, &self.target));
        written.map_err(write_error("write", &self.target, self.end))?;
        self.file = None;
        Ok(self.end)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.end += bytes.len() as u64;
        if self.end > self.bytes_max {
            return Err(WeightsError::Unsupported {
                file: self.target.clone(),
                what: format!("a copy of more than {} bytes", self.bytes_max),
                advice: "allow more with packed_cache_gib in [engine]".into(),
            });
        }
        let file = self.file.as_mut().expect("nothing is written after the end");
        file.write_all(bytes).map_err(write_error("write", &self.part, self.end))
    }
}

impl Drop for PackedWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Whoever gave up has said why; a part that stays is removed by the next start.
            let _ = fs::remove_file(&self.part);
        }
    }
}
