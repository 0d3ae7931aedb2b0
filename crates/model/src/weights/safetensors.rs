//! Which tensors does one `.safetensors` file hold, and is it whole?
//!
//! ```text
//! | header length: u64 | header: JSON | data                         |
//!                        {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …}
//! ```
//!
//! Read by hand rather than by the `safetensors` crate, because a refusal must name the tensor with both numbers,
//! and because an encoding that we do not know must not spoil the tensors beside it.

use std::path::Path;

use serde_json::Value;

use super::WeightsError;
use super::tensor::{Encoding, Entry, RowOrder, Stored, refuse_overlaps};

/// As in the reference implementation: headers of the largest models are below 10 MB.
const HEADER_BYTES_MAX: usize = 100_000_000;
const LENGTH_BYTES: usize = 8;

/// Returns the tensors of the file that is number `file` of its checkpoint, after checking each one's place.
pub(crate) fn entries(file: usize, path: &Path, bytes: &[u8]) -> Result<Vec<(String, Entry)>, WeightsError> {
    let header_end = header_end(path, bytes)?;
    let data_bytes = bytes.len() - header_end;
    let header: Value = serde_json::from_slice(&bytes[LENGTH_BYTES..header_end])
        .map_err(|error| WeightsError::damaged(path, "its header", "JSON", error))?;
    let Value::Object(header) = header else {
        return Err(WeightsError::damaged(path, "its header", "a JSON object", "something else"));
    };
    let mut entries = Vec::with_capacity(header.len());
    for (name, description) in header {
        if name == "__metadata__" {
            continue;
        }
        let entry = entry(file, path, &name, &description, header_end, data_bytes)?;
        entries.push((name, entry));
    }
    refuse_overlaps(path, &entries, header_end)?;
    Ok(entries)
}

fn header_end(path: &Path, bytes: &[u8]) -> Result<usize, WeightsError> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(WeightsError::damaged(
            path,
            "its header",
            "at least 8 bytes",
            format!("{} bytes", bytes.len()),
        ));
    };
    let length = u64::from_le_bytes(*length);
    let most = HEADER_BYTES_MAX.min(bytes.len() - LENGTH_BYTES);
    match usize::try_from(length) {
        Ok(length) if length <= most => Ok(LENGTH_BYTES + length),
        _ => Err(WeightsError::damaged(
            path,
            "its header",
            format!("at most {most} bytes in a file of {}", bytes.len()),
            format!("a length of {length} bytes"),
        )),
    }
}

fn entry(
    file: usize,
    path: &Path,
    name: &str,
    description: &Value,
    header_end: usize,
    data_bytes: usize,
) -> Result<Entry, WeightsError> {
    let damaged = |what: &str, expected: String, found: String| {
        WeightsError::damaged(path, format!("{what} of tensor {name:?}"), expected, found)
    };
    let dtype = description["dtype"]
        .as_str()
        .ok_or_else(|| damaged("dtype", "text".into(), description["dtype"].to_string()))?;
    let shape = sizes(&description["shape"])
        .ok_or_else(|| damaged("shape", "a list of sizes".into(), description["shape"].to_string()))?;
    let offsets = sizes(&description["data_offsets"]);
    let Some(&[begin, end]) = offsets.as_deref() else {
        return Err(damaged("data_offsets", "[begin, end]".into(), description["data_offsets"].to_string()));
    };
    if begin > end || end > data_bytes {
        return Err(damaged(
            "place",
            format!("begin ≤ end ≤ {data_bytes} bytes of data"),
            format!("{begin}..{end}"),
        ));
    }
    let stored = stored(dtype);
    if let Stored::As(encoding) = stored
        && encoding.tensor_bytes(&shape) != Some(end - begin)
    {
        let expected = encoding.tensor_bytes(&shape).map_or("fewer".into(), |bytes| bytes.to_string());
        return Err(damaged(
            "size",
            format!("{expected} bytes for {shape:?} of {dtype}"),
            format!("{} bytes", end - begin),
        ));
    }
    let bytes = header_end + begin..header_end + end;
    Ok(Entry { file, shape, stored, bytes, order: RowOrder::AsStored })
}

fn stored(dtype: &str) -> Stored {
    match dtype {
        "F32" => Stored::As(Encoding::F32),
        "F16" => Stored::As(Encoding::F16),
        "BF16" => Stored::As(Encoding::Bf16),
        other => Stored::Unknown(other.to_string()),
    }
}

fn sizes(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|size| usize::try_from(size.as_u64()?).ok()).collect()
}
