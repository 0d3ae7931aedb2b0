//! What does a Hugging Face folder say about its model, and which files hold its tensors?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::map::MappedFile;
use super::{
    Checkpoint, GgufVocabulary, PACKED, PackedFile, TokenizerSource, WeightsError, gguf, safetensors,
};

/// Index files of the largest models are a few megabytes, templates a few kilobytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// The vocabulary of a GGUF file, in a folder that was quantized from it.
pub(crate) const GGUF_VOCABULARY: &str = "gguf-vocabulary.json";

pub(crate) fn open(folder: &Path) -> Result<Checkpoint, WeightsError> {
    let names = file_names(folder)?;
    if !names.contains("config.json") {
        return open_only_gguf(folder, &names);
    }
    let config = read_json(&folder.join("config.json"))?;
    if names.contains(PACKED) {
        let packed = PackedFile::open(&folder.join(PACKED))?;
        return Ok(Checkpoint {
            name: name_of(folder),
            config,
            generation_config: read_json_if_there(folder, &names, "generation_config.json")?,
            tokenizer: tokenizer(folder, &names)?,
            chat_template: chat_template(folder, &names)?,
            files: vec![packed.path().to_path_buf()],
            file_bytes: packed.file_bytes(),
            packed: Some(packed),
            maps: Vec::new(),
            tensors: BTreeMap::new(),
        });
    }
    let (maps, tensors) = if names.contains(INDEX) {
        open_shards(folder)?
    } else {
        open_single(&folder.join(only_safetensors(folder, &names)?))?
    };
    Ok(Checkpoint {
        name: name_of(folder),
        config,
        generation_config: read_json_if_there(folder, &names, "generation_config.json")?,
        tokenizer: TokenizerSource::Folder(folder.to_path_buf()),
        chat_template: chat_template(folder, &names)?,
        files: maps.iter().map(|map| map.path().to_path_buf()).collect(),
        file_bytes: maps.iter().map(|map| map.bytes().len() as u64).sum(),
        packed: None,
        maps,
        tensors,
    })
}

/// What was quantized from a GGUF file brings its vocabulary in a file of its own.
fn tokenizer(folder: &Path, names: &BTreeSet<String>) -> Result<TokenizerSource, WeightsError> {
    if names.contains("tokenizer.json") || !names.contains(GGUF_VOCABULARY) {
        return Ok(TokenizerSource::Folder(folder.to_path_buf()));
    }
    let path = folder.join(GGUF_VOCABULARY);
    let vocabulary: GgufVocabulary = serde_json::from_value(read_json(&path)?)
        .map_err(|error| WeightsError::damaged(&path, "its text", "a vocabulary", error))?;
    vocabulary.check(&path)?;
    Ok(TokenizerSource::Gguf(Box::new(vocabulary)))
}

/// Downloaded and linked models have names that only the absolute path knows.
pub(crate) fn name_of(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let name = absolute.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".gguf").unwrap_or(&name).to_string()
}

fn file_names(folder: &Path) -> Result<BTreeSet<String>, WeightsError> {
    let entries = fs::read_dir(folder).map_err(WeightsError::io("list", folder))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(WeightsError::io("list", folder))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.insert(name);
        }
    }
    Ok(names)
}

fn open_only_gguf(folder: &Path, names: &BTreeSet<String>) -> Result<Checkpoint, WeightsError> {
    let found: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf")).collect();
    match found[..] {
        [only] => gguf::open(&folder.join(only)),
        [] => Err(WeightsError::NotAModel {
            path: folder.to_path_buf(),
            expected: "config.json with *.safetensors, or one .gguf file",
            found: listed(names.iter()),
        }),
        _ => Err(WeightsError::NotAModel {
            path: folder.to_path_buf(),
            expected: "exactly one .gguf file; give the path of the one you want",
            found: listed(found.into_iter()),
        }),
    }
}

fn only_safetensors(folder: &Path, names: &BTreeSet<String>) -> Result<String, WeightsError> {
    if names.contains(SINGLE) {
        return Ok(SINGLE.to_string());
    }
    let found: Vec<&String> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
    match found[..] {
        [only] => Ok(only.clone()),
        [] => Err(WeightsError::NotAModel {
            path: folder.to_path_buf(),
            expected: "weights in *.safetensors beside config.json (pickled .bin and .pth files can run code and \
                       are not read)",
            found: listed(names.iter()),
        }),
        _ => Err(WeightsError::NotAModel {
            path: folder.to_path_buf(),
            expected: "model.safetensors.index.json, which says what is in which of several *.safetensors",
            found: listed(found.into_iter()),
        }),
    }
}

type Opened = (Vec<MappedFile>, BTreeMap<String, super::tensor::Entry>);

fn open_single(path: &Path) -> Result<Opened, WeightsError> {
    let map = MappedFile::open(path)?;
    let tensors = safetensors::entries(0, path, map.bytes())?.into_iter().collect();
    Ok((vec![map], tensors))
}

/// The index decides: a tensor is read from the shard that it names, and must be there.
fn open_shards(folder: &Path) -> Result<Opened, WeightsError> {
    let index_path = folder.join(INDEX);
    let places = shard_of_tensor(&index_path)?;
    let shards: BTreeSet<&String> = places.values().collect();
    let (mut maps, mut tensors) = (Vec::new(), BTreeMap::new());
    for (number, shard) in shards.into_iter().enumerate() {
        let path = folder.join(shard);
        if !path.exists() {
            return Err(WeightsError::damaged(
                &index_path,
                "its list of shards",
                format!("{shard} in the same folder"),
                "no such file",
            ));
        }
        let map = MappedFile::open(&path)?;
        for (name, entry) in safetensors::entries(number, &path, map.bytes())? {
            if places.get(&name) == Some(shard) {
                tensors.insert(name, entry);
            }
        }
        maps.push(map);
    }
    match places.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        None => Ok((maps, tensors)),
        Some((name, shard)) => Err(WeightsError::damaged(
            &folder.join(shard),
            format!("tensor {name:?}"),
            format!("to be here, as {INDEX} says"),
            "nothing of that name",
        )),
    }
}

/// Returns the index: which shard holds which tensor.
pub(crate) fn shard_of_tensor(index_path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let index = read_json(index_path)?;
    let Some(map) = index["weight_map"].as_object() else {
        return Err(WeightsError::damaged(
            index_path,
            "its weight_map",
            "an object from tensor to file",
            brief(&index),
        ));
    };
    let mut places = BTreeMap::new();
    for (name, shard) in map {
        match shard.as_str() {
            Some(shard) if is_plain_file_name(shard) => places.insert(name.clone(), shard.to_string()),
            _ => {
                return Err(WeightsError::damaged(
                    index_path,
                    format!("the file of tensor {name:?}"),
                    "the name of a file in the same folder",
                    shard,
                ));
            }
        };
    }
    Ok(places)
}

/// A name that stays in its folder, whoever wrote it.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// Newer models bring the template as a file of its own, which wins; older ones keep it in `tokenizer_config.json`,
/// as text or as a list of named templates.
fn chat_template(folder: &Path, names: &BTreeSet<String>) -> Result<Option<String>, WeightsError> {
    if names.contains("chat_template.jinja") {
        return read_text(&folder.join("chat_template.jinja")).map(Some);
    }
    for name in ["chat_template.json", "tokenizer_config.json"] {
        if let Some(json) = read_json_if_there(folder, names, name)?
            && let Some(template) = template_in(&json["chat_template"])
        {
            return Ok(Some(template));
        }
    }
    Ok(None)
}

fn template_in(value: &Value) -> Option<String> {
    match value {
        Value::String(template) => Some(template.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|template| template["name"] == "default")?;
            default["template"].as_str().map(str::to_string)
        }
        _ => None,
    }
}

fn read_json_if_there(
    folder: &Path,
    names: &BTreeSet<String>,
    name: &str,
) -> Result<Option<Value>, WeightsError> {
    if names.contains(name) { read_json(&folder.join(name)).map(Some) } else { Ok(None) }
}

fn read_json(path: &Path) -> Result<Value, WeightsError> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| WeightsError::damaged(path, "its text", "JSON", error))
}

fn read_text(path: &Path) -> Result<String, WeightsError> {
    let mut text = String::new();
    let mut file = fs::File::open(path).map_err(WeightsError::io("open", path))?.take(TEXT_BYTES_MAX + 1);
    match file.read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > TEXT_BYTES_MAX => {
            Err(WeightsError::damaged(path, "its size", format!("at most {TEXT_BYTES_MAX} bytes"), "more"))
        }
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(WeightsError::damaged(path, "its text", "UTF-8", "other bytes"))
        }
        Err(error) => Err(WeightsError::io("read", path)(error)),
    }
}

/// Names for an error message: enough to recognise the place, not a page.
pub(crate) fn listed<T: AsRef<str>>(names: impl Iterator<Item = T>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = names.map(|name| name.as_ref().to_string()).collect();
    match names.len() {
        0 => "nothing".to_string(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
