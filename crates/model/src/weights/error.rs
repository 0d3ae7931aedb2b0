//! What can be wrong with weights on disk or on their way from a hub?

use std::io;
use std::path::{Path, PathBuf};

/// Every message names the file, what was expected, what was found, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("cannot {verb} {}: {source}", path.display())]
    Io { verb: &'static str, path: PathBuf, source: io::Error },

    #[error("{} is not a model that can be loaded: expected {expected}, found {found}", path.display())]
    NotAModel { path: PathBuf, expected: &'static str, found: String },

    /// The bytes contradict themselves or their format.
    #[error("{} is damaged: {what}: expected {expected}, found {found}; copy or download the file again", file.display())]
    Damaged { file: PathBuf, what: String, expected: String, found: String },

    /// A packed copy of a model that has changed since.
    #[error("{} is a copy of another state of the model: {what}: now {expected}, then {found}; it is made again", file.display())]
    Stale { file: PathBuf, what: String, expected: String, found: String },

    /// The file is sound, but is of a kind that is not read here.
    #[error("{}: {what} is not supported; {advice}", file.display())]
    Unsupported { file: PathBuf, what: String, advice: String },

    #[error("{}: there is no tensor {tensor:?}; the model and its configuration do not belong together, or a file is missing", file.display())]
    MissingTensor { file: PathBuf, tensor: String },

    #[error("{}: tensor {tensor:?} is stored as {found}; supported are {}; convert the model to one of these", file.display(), super::Encoding::NAMES)]
    Encoding { file: PathBuf, tensor: String, found: String },

    #[error("{}: tensor {tensor:?} has the wrong shape: expected {expected:?}, found {found:?}; the model and its configuration do not belong together", file.display())]
    Shape { file: PathBuf, tensor: String, expected: Vec<usize>, found: Vec<usize> },

    /// The text given as a hub id is not one.
    #[error("{given:?} is not a hub id: {why}; write org/name, org/name@revision or org/name:file.gguf")]
    HubId { given: String, why: &'static str },

    #[error("the hub refused {id} ({status}): {advice}")]
    HubDenied { id: String, status: u16, advice: String },

    #[error(
        "{id} was not found on {endpoint}: check the spelling of the organisation, name, revision and file"
    )]
    HubNotFound { id: String, endpoint: String },

    /// The hub has the model, but not in a form that is read here.
    #[error("{id} has nothing that can be loaded: expected {expected}, found {found}")]
    HubFiles { id: String, expected: &'static str, found: String },

    #[error("{} of {id} arrived broken and was deleted: expected {expected}, found {found}; try again, and if it repeats the hub's copy or a proxy is at fault", file.display())]
    HubChecksum { id: String, file: PathBuf, expected: String, found: String },

    #[error(
        "{what} failed after {attempts} attempts: {cause}; what has arrived is kept, so trying again continues from there"
    )]
    HubNetwork { what: String, attempts: u32, cause: String },

    #[error(
        "{what} was answered with something that is no hub's answer: expected {expected}, found {found}; is the endpoint right?"
    )]
    HubAnswer { what: String, expected: &'static str, found: String },

    #[error("no space left for {} ({bytes} bytes in all): free some, or choose another cache folder", path.display())]
    DiskFull { path: PathBuf, bytes: u64 },
}

impl WeightsError {
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WeightsError {
        move |source| WeightsError::Io { verb, path: path.to_path_buf(), source }
    }

    pub(crate) fn damaged(
        file: &Path,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> WeightsError {
        WeightsError::Damaged {
            file: file.to_path_buf(),
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
