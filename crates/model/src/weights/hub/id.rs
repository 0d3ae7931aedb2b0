//! Which model, revision and file does `org/name@revision:file.gguf` mean?

use std::fmt;

use crate::weights::WeightsError;
use crate::weights::folder::is_plain_file_name;

/// A model on a hub, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    pub organisation: String,
    pub name: String,
    pub revision: Option<String>,
    /// One `.gguf` of a repository that holds several; may lie in a folder.
    pub file: Option<String>,
}

impl HubId {
    pub fn parse(given: &str) -> Result<HubId, WeightsError> {
        let refuse = |why| WeightsError::HubId { given: given.to_string(), why };
        let (rest, file) = match given.split_once(':') {
            Some((rest, file)) => (rest, Some(file)),
            None => (given, None),
        };
        let (rest, revision) = match rest.split_once('@') {
            Some((rest, revision)) => (rest, Some(revision)),
            None => (rest, None),
        };
        let Some((organisation, name)) = rest.split_once('/') else {
            return Err(refuse("it has no slash between organisation and name"));
        };
        if !is_word(organisation) || !is_word(name) {
            return Err(refuse("organisation and name are letters, digits, '-', '_' and '.'"));
        }
        if revision.is_some_and(|revision| !revision.split('/').all(is_word)) {
            return Err(refuse("the revision is not the name of a branch, a tag or a commit"));
        }
        if file.is_some_and(|file| !is_gguf_path(file)) {
            return Err(refuse("the file is not the path of a .gguf"));
        }
        Ok(HubId {
            organisation: organisation.to_string(),
            name: name.to_string(),
            revision: revision.map(str::to_string),
            file: file.map(str::to_string),
        })
    }

    /// Returns `org/name`, as the hub's addresses have it.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.organisation, self.name)?;
        if let Some(revision) = &self.revision {
            write!(formatter, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(formatter, ":{file}")?;
        }
        Ok(())
    }
}

/// Words become parts of addresses and of paths on disk, so nothing may climb out of its place.
fn is_word(word: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    (1..=128).contains(&word.len())
        && word.chars().all(plain)
        && !word.starts_with('.')
        && !word.contains("..")
}

fn is_gguf_path(path: &str) -> bool {
    path.ends_with(".gguf") && path.split('/').all(is_plain_file_name)
}
