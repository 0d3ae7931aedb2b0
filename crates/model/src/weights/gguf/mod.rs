//! What does a GGUF file hold, in Hugging Face's words?

use std::collections::BTreeMap;
use std::path::Path;

use super::folder::name_of;
use super::map::MappedFile;
use super::tensor::{Encoding, Entry, RowOrder, Stored, refuse_overlaps};
use super::{Checkpoint, TokenizerSource, WeightsError};

mod config;
mod header;
mod names;
mod value;
mod vocabulary;

pub use vocabulary::GgufVocabulary;

use header::{Header, TensorInfo};
use value::Metadata;

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let map = MappedFile::open(path)?;
    let header = header::read(path, map.bytes())?;
    let architecture = architecture(&header.metadata)?;
    refuse_part_of_several(&header.metadata)?;
    let mut tensors = entries(path, &header, map.bytes().len())?;
    let config = config::config(&header.metadata, &architecture, &tensors)?;
    if architecture == "llama" {
        order_rotated_rows(path, &config, &mut tensors)?;
    }
    Ok(Checkpoint {
        name: name_of(path),
        config,
        generation_config: config::generation_config(&header.metadata)?,
        tokenizer: TokenizerSource::Gguf(Box::new(GgufVocabulary::read(&header.metadata)?)),
        chat_template: header.metadata.text("tokenizer.chat_template")?.map(str::to_string),
        files: vec![path.to_path_buf()],
        file_bytes: map.bytes().len() as u64,
        packed: None,
        maps: vec![map],
        tensors,
    })
}

fn architecture(metadata: &Metadata) -> Result<String, WeightsError> {
    let kind = metadata.text("general.type")?.unwrap_or("model");
    if kind != "model" {
        return Err(WeightsError::NotAModel {
            path: metadata.path().to_path_buf(),
            expected: "a GGUF file with a whole model",
            found: format!("one of type {kind:?}"),
        });
    }
    let key = "general.architecture";
    let architecture = metadata.text(key)?.ok_or_else(|| {
        WeightsError::damaged(metadata.path(), format!("key {key:?}"), "text", "no such key")
    })?;
    Ok(architecture.to_string())
}

fn refuse_part_of_several(metadata: &Metadata) -> Result<(), WeightsError> {
    match metadata.count("split.count")? {
        Some(count) if count > 1 => Err(WeightsError::Unsupported {
            file: metadata.path().to_path_buf(),
            what: format!("a model split into {count} GGUF files"),
            advice: "join them with `llama-gguf-split --merge FIRST-PART WHOLE.gguf`".to_string(),
        }),
        _ => Ok(()),
    }
}

/// Returns all tensors under their Hugging Face names, each checked to lie in the file.
fn entries(path: &Path, header: &Header, file_bytes: usize) -> Result<BTreeMap<String, Entry>, WeightsError> {
    let mut entries = Vec::with_capacity(header.tensors.len());
    for info in &header.tensors {
        let entry = entry(path, info, header.data, file_bytes - header.data)?;
        entries.push((names::hugging_face(&info.name), entry));
    }
    refuse_overlaps(path, &entries, header.data)?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        if tensors.insert(name.clone(), entry).is_some() {
            return Err(WeightsError::damaged(path, format!("tensor {name:?}"), "one tensor", "two"));
        }
    }
    Ok(tensors)
}

fn entry(path: &Path, info: &TensorInfo, data: usize, data_bytes: usize) -> Result<Entry, WeightsError> {
    let TensorInfo { name, shape, stored, offset } = info;
    let bytes = match stored {
        // Of an unknown type only the beginning is known; nobody can read it, so nothing more is needed.
        Stored::Unknown(_) => 0,
        Stored::As(encoding) => encoding.tensor_bytes(shape).ok_or_else(|| {
            let what = format!("shape of tensor {name:?}");
            WeightsError::damaged(path, what, whole_blocks(*encoding), format!("{shape:?}"))
        })?,
    };
    let begin = usize::try_from(*offset).unwrap_or(usize::MAX);
    match begin.checked_add(bytes) {
        Some(end) if end <= data_bytes => Ok(Entry {
            file: 0,
            shape: shape.clone(),
            stored: stored.clone(),
            bytes: data + begin..data + end,
            order: RowOrder::AsStored,
        }),
        _ => Err(WeightsError::damaged(
            path,
            format!("tensor {name:?}"),
            format!("{bytes} bytes at {offset} of the data"),
            format!("only {data_bytes} bytes of data"),
        )),
    }
}

fn whole_blocks(encoding: Encoding) -> String {
    format!("rows of whole blocks of {} values ({encoding})", encoding.block_values())
}

/// Files of the llama architecture keep the rows of queries and keys in another order than Hugging Face.
fn order_rotated_rows(
    path: &Path,
    config: &serde_json::Value,
    tensors: &mut BTreeMap<String, Entry>,
) -> Result<(), WeightsError> {
    for (name, entry) in tensors.iter_mut() {
        let heads = if name.contains(".self_attn.q_proj.") {
            &config["num_attention_heads"]
        } else if name.contains(".self_attn.k_proj.") {
            &config["num_key_value_heads"]
        } else {
            continue;
        };
        let heads = heads.as_u64().unwrap_or(0) as usize;
        let rows = entry.shape.first().copied().unwrap_or(0);
        if heads == 0 || !rows.is_multiple_of(2 * heads) {
            return Err(WeightsError::damaged(
                path,
                format!("shape of tensor {name:?}"),
                format!("rows in pairs for each of {heads} heads"),
                format!("{:?}", entry.shape),
            ));
        }
        if rows > 0 {
            entry.order = RowOrder::PairsWithin { head_rows: rows / heads };
        }
    }
    Ok(())
}
