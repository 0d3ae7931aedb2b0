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
        // Two hyphens separate the two in the cache; hubs do not allow them in either.
        if ![organisation, name].iter().all(|word| is_word(word) && !word.contains("--")) {
            return Err(refuse("organisation and name are letters, digits, and single '-', '_' and '.'"));
        }
        if revision.is_some_and(|revision| !is_revision(revision)) {
            return Err(refuse(NO_REVISION));
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

    /// Completes an id without a revision by this one.
    pub(crate) fn or_revision(mut self, revision: Option<&str>) -> Result<HubId, WeightsError> {
        if self.revision.is_none() {
            if let Some(given) = revision.filter(|revision| !is_revision(revision)) {
                return Err(WeightsError::HubId { given: given.to_string(), why: NO_REVISION });
            }
            self.revision = revision.map(str::to_string);
        }
        Ok(self)
    }

    /// Returns the revision as one part of an address or a path: a slash in it is escaped.
    pub(crate) fn revision_part(&self) -> String {
        self.revision.as_deref().unwrap_or("main").replace('/', "%2F")
    }

    /// Returns `org/name`, as the hub's addresses have it.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }
}

const NO_REVISION: &str = "the revision is not the name of a branch, a tag or a commit";

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

fn is_revision(revision: &str) -> bool {
    revision.split('/').all(is_word)
}

fn is_gguf_path(path: &str) -> bool {
    path.ends_with(".gguf") && path.split('/').all(is_plain_file_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_an_organisation_a_name_and_perhaps_a_revision_and_a_file() {
        let rows: [(&str, &str, Option<&str>, Option<&str>); 5] = [
            ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", None, None),
            ("Qwen/Qwen3-0.6B@v1.0", "Qwen/Qwen3-0.6B", Some("v1.0"), None),
            ("a/b@refs/pr/7", "a/b", Some("refs/pr/7"), None),
            ("a/b:c-Q4_K_M.gguf", "a/b", None, Some("c-Q4_K_M.gguf")),
            ("a/b@dev:folder/c.gguf", "a/b", Some("dev"), Some("folder/c.gguf")),
        ];
        for (given, repository, revision, file) in rows {
            let id = HubId::parse(given).expect(given);
            assert_eq!(id.repository(), repository);
            assert_eq!((id.revision.as_deref(), id.file.as_deref()), (revision, file));
            assert_eq!(id.to_string(), given);
        }
    }

    #[test]
    fn nothing_that_could_leave_its_folder_or_address_is_an_id() {
        for given in [
            "",
            "gpt2",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "a/.b",
            "a/b c",
            "a/b?x",
            "a/b#x",
            "a/b%2F",
            "ä/b",
            "a/b@",
            "a/b@../x",
            "a/b@x//y",
            "a/b@x y",
            "a/b:",
            "a/b:c.bin",
            "a/b:../c.gguf",
            "a/b:/c.gguf",
            "a/b:x/../c.gguf",
            "a/b:.gguf",
            "a/b:c\\d.gguf",
            "https://host/a/b",
        ] {
            let error = HubId::parse(given).expect_err(given).to_string();
            assert!(error.contains("org/name@revision"), "{error}");
        }
        let id = HubId::parse("a/b").expect("an id");
        assert!(id.clone().or_revision(Some("../x")).is_err());
        assert_eq!(id.clone().or_revision(Some("refs/pr/1")).expect("fine").revision_part(), "refs%2Fpr%2F1");
        assert_eq!(id.or_revision(None).expect("fine").revision_part(), "main");
    }
}
