//! Which files does a repository hold, and which of them does a model need?

use serde::Deserialize;

use super::id::HubId;
use crate::weights::WeightsError;
use crate::weights::folder::{is_plain_file_name, listed};

/// Everything beside the weights that loading may read; all are small.
const TEXTS: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
];
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// The hub's answer to "what is in this revision?".
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "sha")]
    pub(super) commit: String,
    #[serde(rename = "siblings", default)]
    files: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Debug, Deserialize)]
struct LargeFile {
    size: Option<u64>,
    sha256: Option<String>,
}

/// A file of the repository, with what the hub promises about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub(super) name: String,
    pub(super) bytes: Option<u64>,
    pub(super) sha256: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Weights {
    File(RemoteFile),
    /// The shards are what this file says.
    Index(RemoteFile),
}

impl Listing {
    /// Returns the weights, and the texts that go with them.
    pub(super) fn select(&self, id: &HubId) -> Result<(Weights, Vec<RemoteFile>), WeightsError> {
        if let Some(file) = &id.file {
            return Ok((Weights::File(self.whole_gguf(id, file)?), Vec::new()));
        }
        let safetensors = self.top_level(".safetensors");
        let gguf = self.top_level(".gguf");
        match (&safetensors[..], &gguf[..]) {
            ([], [only]) => Ok((Weights::File(self.whole_gguf(id, only)?), Vec::new())),
            ([], []) => Err(self.unfit(
                id,
                "weights in *.safetensors or .gguf (pickled .bin and .pth files can run code and are not read)",
                self.files.iter().map(|file| file.name.as_str()),
            )),
            ([], several) => Err(self.unfit(
                id,
                "one .gguf file; choose with org/name:file.gguf",
                several.iter().copied(),
            )),
            (several, _) => {
                let weights = self.safetensors(id, several)?;
                self.file(id, "config.json")?;
                let texts = TEXTS.iter().filter_map(|name| self.find(name)).collect();
                Ok((weights, texts))
            }
        }
    }

    /// Returns the file of this name, which the model cannot do without.
    pub(super) fn file(&self, id: &HubId, name: &str) -> Result<RemoteFile, WeightsError> {
        self.find(name).ok_or_else(|| WeightsError::HubFiles {
            id: id.to_string(),
            expected: "all files that belong to the model",
            found: format!("no {name}"),
        })
    }

    fn safetensors(&self, id: &HubId, names: &[&str]) -> Result<Weights, WeightsError> {
        if let Some(index) = self.find(INDEX) {
            return Ok(Weights::Index(index));
        }
        match self.find(SINGLE) {
            Some(single) => Ok(Weights::File(single)),
            None => match names {
                [only] => Ok(Weights::File(self.file(id, only)?)),
                _ => Err(self.unfit(
                    id,
                    "model.safetensors.index.json, which says what is in which of several *.safetensors",
                    names.iter().copied(),
                )),
            },
        }
    }

    /// Parts of a split file cannot be loaded, so they are not downloaded either.
    fn whole_gguf(&self, id: &HubId, name: &str) -> Result<RemoteFile, WeightsError> {
        let found = self.find(name).ok_or_else(|| {
            let names = self.files.iter().map(|file| file.name.as_str());
            self.unfit(id, "the .gguf file of this name", names.filter(|name| name.ends_with(".gguf")))
        })?;
        if is_part_of_several(name) {
            return Err(self.unfit(id, "a model in one .gguf file", std::iter::once(name)));
        }
        Ok(found)
    }

    fn find(&self, name: &str) -> Option<RemoteFile> {
        let file = self.files.iter().find(|file| file.name == name)?;
        let large = file.lfs.as_ref();
        Some(RemoteFile {
            name: file.name.clone(),
            bytes: large.and_then(|large| large.size).or(file.size),
            sha256: large.and_then(|large| large.sha256.clone()).map(|hash| hash.to_ascii_lowercase()),
        })
    }

    fn top_level(&self, ending: &str) -> Vec<&str> {
        let names = self.files.iter().map(|file| file.name.as_str());
        names.filter(|name| name.ends_with(ending) && is_plain_file_name(name)).collect()
    }

    fn unfit<'a>(
        &self,
        id: &HubId,
        expected: &'static str,
        found: impl Iterator<Item = &'a str>,
    ) -> WeightsError {
        WeightsError::HubFiles { id: id.to_string(), expected, found: listed(found) }
    }
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// `…-00001-of-00003.gguf`
fn is_part_of_several(name: &str) -> bool {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let Some((head, count)) = stem.rsplit_once("-of-") else { return false };
    let Some((_, number)) = head.rsplit_once('-') else { return false };
    [number, count].iter().all(|part| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(id: &str, names: &[&str]) -> Result<Vec<String>, String> {
        let files =
            names.iter().map(|name| Sibling { name: name.to_string(), size: Some(1), lfs: None }).collect();
        let listing = Listing { commit: "0".repeat(40), files };
        let id = HubId::parse(id).expect("an id");
        let (weights, texts) = listing.select(&id).map_err(|error| error.to_string())?;
        let weights = match weights {
            Weights::File(file) => file.name,
            Weights::Index(file) => format!("index {}", file.name),
        };
        Ok(std::iter::once(weights).chain(texts.into_iter().map(|file| file.name)).collect())
    }

    #[test]
    fn a_model_needs_its_weights_once_and_its_texts() {
        let rows: [(&str, &[&str], &[&str]); 5] = [
            (
                "a/b",
                &["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"],
                &["model.safetensors", "config.json", "tokenizer.json"],
            ),
            (
                "a/b",
                &["consolidated.safetensors", "config.json", INDEX, "model-00001-of-00002.safetensors"],
                &["index model.safetensors.index.json", "config.json"],
            ),
            ("a/b", &["config.json", "odd.safetensors"], &["odd.safetensors", "config.json"]),
            ("a/b", &["config.json", "only.gguf", "README.md"], &["only.gguf"]),
            ("a/b:dir/x.gguf", &["dir/x.gguf", "y.gguf", "model.safetensors"], &["dir/x.gguf"]),
        ];
        for (id, names, expected) in rows {
            assert_eq!(selected(id, names).expect("can be loaded"), expected);
        }
    }

    #[test]
    fn what_cannot_be_loaded_is_refused_before_it_is_downloaded() {
        let rows: [(&str, &[&str], &str); 6] = [
            ("a/b", &["pytorch_model.bin", "config.json"], "pickled"),
            (
                "a/b",
                &["x-Q4_0.gguf", "x-Q8_0.gguf"],
                "choose with org/name:file.gguf, found x-Q4_0.gguf, x-Q8_0.gguf",
            ),
            ("a/b", &["adapter_model.safetensors"], "no config.json"),
            ("a/b", &["config.json", "x.safetensors", "y.safetensors"], "index.json"),
            ("a/b:z.gguf", &["x.gguf", "config.json"], "of this name, found x.gguf"),
            ("a/b:x-00001-of-00002.gguf", &["x-00001-of-00002.gguf"], "a model in one .gguf file"),
        ];
        for (id, names, part) in rows {
            let error = selected(id, names).expect_err("refused");
            assert!(error.contains(part) && error.contains("a/b"), "{error}");
        }
    }
}
