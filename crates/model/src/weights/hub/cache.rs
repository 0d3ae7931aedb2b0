//! Where does a downloaded model lie, and is it all there?

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::id::HubId;
use super::listing::{RemoteFile, is_commit};
use crate::weights::WeightsError;

/// One repository's folder in the cache.
pub(super) struct Place {
    root: PathBuf,
    name: String,
}

/// Written when all files are there; what it says is compared with the disk before it is believed.
#[derive(Serialize, Deserialize)]
struct Complete {
    /// The file to open where it is one `.gguf`; otherwise the folder is opened.
    open: Option<String>,
    bytes: BTreeMap<String, u64>,
}

impl Place {
    pub(super) fn new(cache: &Path, id: &HubId) -> Place {
        Place { root: cache.join(format!("{}--{}", id.organisation, id.name)), name: id.name.clone() }
    }

    /// Returns what there is to open, where everything is there already.
    pub(super) fn complete(&self, id: &HubId) -> Option<PathBuf> {
        let commit = match id.revision.as_deref() {
            Some(revision) if is_commit(revision) => revision.to_string(),
            _ => fs::read_to_string(self.reference(id)).ok()?.trim().to_string(),
        };
        if !is_commit(&commit) {
            return None;
        }
        let folder = self.folder(&commit);
        if let Some(file) = &id.file {
            // A file has its name only once it is whole and checked.
            return Some(folder.join(file)).filter(|path| path.is_file());
        }
        let complete: Complete = serde_json::from_slice(&fs::read(self.marker(&commit)).ok()?).ok()?;
        let all_there = complete
            .bytes
            .iter()
            .all(|(name, bytes)| folder.join(name).metadata().is_ok_and(|metadata| metadata.len() == *bytes));
        all_there.then(|| match &complete.open {
            Some(file) => folder.join(file),
            None => folder,
        })
    }

    /// Waits until no other process downloads this model. The lock goes with the returned file.
    pub(super) fn lock(&self, waiting: &mut dyn FnMut()) -> Result<File, WeightsError> {
        create_folder(&self.root)?;
        let path = self.root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(WeightsError::io("open", &path))?;
        if file.try_lock().is_err() {
            waiting();
            file.lock().map_err(WeightsError::io("lock", &path))?;
        }
        Ok(file)
    }

    /// Returns the folder for the files of a commit. It bears the model's name, which is what people then see.
    pub(super) fn create_folder(&self, commit: &str) -> Result<PathBuf, WeightsError> {
        let folder = self.folder(commit);
        create_folder(&folder)?;
        Ok(folder)
    }

    /// Notes that these files are all, and returns what there is to open.
    pub(super) fn finish(
        &self,
        id: &HubId,
        commit: &str,
        files: &[RemoteFile],
    ) -> Result<PathBuf, WeightsError> {
        let folder = self.folder(commit);
        let only_gguf = match files {
            [only] if only.name.ends_with(".gguf") => Some(only.name.clone()),
            _ => None,
        };
        if id.file.is_none() {
            let mut bytes = BTreeMap::new();
            for file in files {
                let path = folder.join(&file.name);
                let metadata = path.metadata().map_err(WeightsError::io("read", &path))?;
                bytes.insert(file.name.clone(), metadata.len());
            }
            let complete = Complete { open: only_gguf.clone(), bytes };
            let text = serde_json::to_string_pretty(&complete).expect("text and numbers become JSON");
            write_whole(&self.marker(commit), &text)?;
        }
        create_folder(&self.root.join("refs"))?;
        write_whole(&self.reference(id), commit)?;
        Ok(match only_gguf {
            Some(file) => folder.join(file),
            None => folder,
        })
    }

    fn reference(&self, id: &HubId) -> PathBuf {
        self.root.join("refs").join(id.revision_part())
    }

    fn folder(&self, commit: &str) -> PathBuf {
        self.root.join(commit).join(&self.name)
    }

    fn marker(&self, commit: &str) -> PathBuf {
        self.root.join(commit).join("complete.json")
    }
}

pub(super) fn create_folder(path: &Path) -> Result<(), WeightsError> {
    fs::create_dir_all(path).map_err(WeightsError::io("create", path))
}

/// A reader sees the old content or the new, never half of it.
fn write_whole(path: &Path, text: &str) -> Result<(), WeightsError> {
    let part = path.with_added_extension("part");
    fs::write(&part, text).map_err(WeightsError::io("write", &part))?;
    fs::rename(&part, path).map_err(WeightsError::io("rename", &part))
}
