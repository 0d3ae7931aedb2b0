//! How do the files of a model arrive whole, whatever happens on the way?

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::HubProgress;
use super::cache::create_folder;
use super::client::{Client, Content, Trouble};
use super::listing::RemoteFile;
use crate::weights::WeightsError;

const BUFFER_BYTES: usize = 256 << 10;

/// Brings files of one commit into one folder.
pub(super) struct Download<'a> {
    client: &'a Client,
    commit: &'a str,
    folder: &'a Path,
    progress: &'a mut dyn FnMut(HubProgress<'_>),
    /// Bytes of the files that are whole.
    whole_bytes: u64,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        client: &'a Client,
        commit: &'a str,
        folder: &'a Path,
        progress: &'a mut dyn FnMut(HubProgress<'_>),
    ) -> Download<'a> {
        Download { client, commit, folder, progress, whole_bytes: 0 }
    }

    pub(super) fn all(&mut self, files: &[RemoteFile]) -> Result<(), WeightsError> {
        let bytes = files.iter().filter_map(|file| file.bytes).sum();
        (self.progress)(HubProgress::Planned { files: files.len(), bytes });
        self.whole_bytes = 0;
        files.iter().try_for_each(|file| self.one(file))
    }

    /// Returns when the file is there under its name. Continues what an earlier try, or process, has left.
    pub(super) fn one(&mut self, file: &RemoteFile) -> Result<(), WeightsError> {
        let path = self.folder.join(&file.name);
        if let Ok(metadata) = path.metadata()
            && file.bytes.is_none_or(|bytes| bytes == metadata.len())
        {
            self.whole_bytes += metadata.len();
            (self.progress)(HubProgress::Bytes { there: self.whole_bytes });
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        (self.progress)(HubProgress::File { name: &file.name, bytes: file.bytes.unwrap_or(0) });
        let mut arriving = Arriving::new(file.clone(), &path);
        self.receive(&mut arriving)?;
        (self.progress)(HubProgress::Checking { name: &file.name });
        arriving.check(&self.client.id.to_string())?;
        self.whole_bytes += arriving.there();
        arriving.name_it()
    }

    /// Tries until all bytes are there. A try that brought something does not count against the limit: a bad line
    /// is slow, not hopeless.
    fn receive(&mut self, arriving: &mut Arriving) -> Result<(), WeightsError> {
        let (mut failures, mut furthest) = (0, arriving.there());
        while !arriving.is_whole() {
            let Err(trouble) = self.receive_once(arriving) else { continue };
            if matches!(trouble, Trouble::NoSuchRange) {
                arriving.discard()?;
            }
            failures = if arriving.there() > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(arriving.there());
            let what = format!("downloading {} of {}", arriving.file.name, self.client.id);
            self.client.wait_or_give_up(&what, trouble, failures, self.progress)?;
        }
        Ok(())
    }

    fn receive_once(&mut self, arriving: &mut Arriving) -> Result<(), Trouble> {
        if arriving.file.bytes.is_some_and(|bytes| arriving.there() > bytes) {
            arriving.discard()?;
        }
        let content = self.client.content(self.commit, &arriving.file.name, arriving.there())?;
        let mut part = arriving.accept(&content, &self.client.id.to_string())?;
        let mut body = content.body.into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut there, expected) = (content.begins_at, arriving.expected());
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) if there == expected => break,
                Ok(0) => {
                    return Err(passing(format!("the connection ended after {there} of {expected} bytes")));
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(passing(format!("{error} after {there} of {expected} bytes"))),
            };
            there += count as u64;
            if there > expected {
                let found = "more".to_string();
                return Err(arriving
                    .broken(&self.client.id.to_string(), format!("{expected} bytes"), found)
                    .into());
            }
            part.write_all(&buffer[..count]).map_err(|error| arriving.cannot_write(error))?;
            (self.progress)(HubProgress::Bytes { there: self.whole_bytes + there });
        }
        part.sync_all().map_err(|error| arriving.cannot_write(error))?;
        arriving.received = true;
        Ok(())
    }
}

fn passing(cause: String) -> Trouble {
    Trouble::Passing { cause, wait: None }
}

/// A file on its way, under a name that nobody opens.
struct Arriving {
    file: RemoteFile,
    path: PathBuf,
    part: PathBuf,
    /// A try ended where the file does. Needed for empty files, which are whole before they exist.
    received: bool,
}

impl Arriving {
    fn new(file: RemoteFile, path: &Path) -> Arriving {
        Arriving { file, path: path.to_path_buf(), part: path.with_added_extension("part"), received: false }
    }

    fn there(&self) -> u64 {
        self.part.metadata().map_or(0, |metadata| metadata.len())
    }

    fn expected(&self) -> u64 {
        self.file.bytes.expect("the size was learnt from the listing or the answer")
    }

    fn is_whole(&self) -> bool {
        self.received || self.file.bytes.is_some_and(|bytes| bytes > 0 && self.there() == bytes)
    }

    /// Takes from the answer what the listing did not say, and returns the file to write to.
    fn accept(&mut self, content: &Content, id: &str) -> Result<File, WeightsError> {
        let bytes = self.file.bytes.or(content.bytes).ok_or_else(|| WeightsError::HubAnswer {
            what: format!("the request for {} of {id}", self.file.name),
            expected: "its size, in the list of files or as content-length",
            found: "neither".into(),
        })?;
        self.file.bytes = Some(bytes);
        self.file.sha256 = self.file.sha256.take().or(content.sha256.clone());
        let mut options = File::options();
        options.create(true);
        // A server that does not know ranges begins anew, and so do we.
        if content.begins_at == 0 {
            options.write(true).truncate(true)
        } else {
            options.append(true)
        };
        options.open(&self.part).map_err(|error| self.cannot_write(error))
    }

    /// Compares with what the hub promised; what is not so is deleted.
    fn check(&self, id: &str) -> Result<(), WeightsError> {
        let Some(expected) = &self.file.sha256 else { return Ok(()) };
        let found = sha256(&self.part).map_err(WeightsError::io("read", &self.part))?;
        if &found == expected {
            return Ok(());
        }
        Err(self.broken(id, format!("SHA-256 {expected}"), found))
    }

    fn broken(&self, id: &str, expected: String, found: String) -> WeightsError {
        match self.discard() {
            Err(error) => error,
            Ok(()) => {
                WeightsError::HubChecksum { id: id.to_string(), file: self.path.clone(), expected, found }
            }
        }
    }

    fn discard(&self) -> Result<(), WeightsError> {
        match fs::remove_file(&self.part) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(WeightsError::io("delete", &self.part)(error))
            }
            _ => Ok(()),
        }
    }

    fn name_it(&self) -> Result<(), WeightsError> {
        fs::rename(&self.part, &self.path).map_err(WeightsError::io("rename", &self.part))
    }

    fn cannot_write(&self, error: io::Error) -> WeightsError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                WeightsError::DiskFull { path: self.part.clone(), bytes: self.file.bytes.unwrap_or(0) }
            }
            _ => WeightsError::io("write", &self.part)(error),
        }
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BUFFER_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}
