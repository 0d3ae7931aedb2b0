//! What stands before the weights in a GGUF file?
//!
//! ```text
//! "GGUF" | version: u32 | tensors: u64 | keys: u64
//! key: text | type: u32 | value                                    × keys
//! name: text | dimensions: u32 | size: u64 … | type: u32 | offset: u64   × tensors
//! padding to general.alignment | data
//! ```
//!
//! Everything is little-endian; a text is a `u64` length and that many bytes. No number that the file states is
//! believed before it was compared with the bytes that are left, so a damaged file costs at most a small multiple
//! of its own size.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::value::{List, Metadata, Value};
use crate::weights::WeightsError;
use crate::weights::tensor::{Encoding, Stored};

/// The largest vocabularies take about 15 MB of metadata.
const METADATA_BYTES_MAX: usize = 256 << 20;
const DIMENSIONS_MAX: u32 = 4;
/// Lists within lists; no known file has any.
const NESTING_MAX: usize = 3;
const ALIGNMENT_DEFAULT: u64 = 32;

pub(crate) struct Header {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorInfo>,
    /// Where the data begins, from which offsets count.
    pub(crate) data: usize,
}

pub(crate) struct TensorInfo {
    pub(crate) name: String,
    /// Slowest first, as Hugging Face writes shapes; the file has them the other way round.
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: Stored,
    pub(crate) offset: u64,
}

pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Header, WeightsError> {
    let end = bytes.len().min(METADATA_BYTES_MAX);
    let mut cursor = Cursor { path, bytes: &bytes[..end], at: 0 };
    check_magic(&mut cursor)?;
    let (tensor_count, key_count) = (cursor.u64("the tensor count")?, cursor.u64("the key count")?);

    let mut values = BTreeMap::new();
    for _ in 0..key_count {
        let key = cursor.text("a key")?;
        let value = cursor.value(&key)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(WeightsError::damaged(path, format!("key {key:?}"), "one value", "two"));
        }
    }
    let metadata = Metadata { file: path.to_path_buf(), values };

    let alignment = metadata.count("general.alignment")?.unwrap_or(ALIGNMENT_DEFAULT);
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        let expected = "a power of two up to 2^20";
        return Err(WeightsError::damaged(path, "key \"general.alignment\"", expected, alignment));
    }
    let (mut tensors, mut names) = (Vec::new(), BTreeSet::new());
    for _ in 0..tensor_count {
        let info = cursor.tensor_info(alignment)?;
        if !names.insert(info.name.clone()) {
            return Err(WeightsError::damaged(path, format!("tensor {:?}", info.name), "one entry", "two"));
        }
        tensors.push(info);
    }
    // A file without tensors (a vocabulary alone) may end without padding.
    let data = cursor.at.next_multiple_of(alignment as usize).min(bytes.len());
    Ok(Header { metadata, tensors, data })
}

fn check_magic(cursor: &mut Cursor<'_>) -> Result<(), WeightsError> {
    let path = cursor.path;
    let magic = cursor.take(4, "the first four bytes")?;
    if magic != b"GGUF" {
        let found = format!("{:?}", String::from_utf8_lossy(magic));
        return Err(WeightsError::damaged(path, "the first four bytes", "\"GGUF\"", found));
    }
    let unsupported = |what: String, advice: &str| {
        Err(WeightsError::Unsupported { file: path.to_path_buf(), what, advice: advice.to_string() })
    };
    match cursor.u32("the version")? {
        2 | 3 => Ok(()),
        version if (1..=9).contains(&version.swap_bytes()) => {
            unsupported("big-endian GGUF".into(), "convert the file with gguf-convert-endian")
        }
        1 => unsupported("GGUF version 1".into(), "convert the original model again with current tools"),
        version => unsupported(format!("GGUF version {version}"), "versions 2 and 3 are read"),
    }
}

struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], WeightsError> {
        let left = &self.bytes[self.at..];
        let Some(taken) = left.get(..count) else {
            return Err(WeightsError::damaged(
                self.path,
                format!("{what} at byte {}", self.at),
                format!("{count} bytes"),
                format!("{} before the end", left.len()),
            ));
        };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], WeightsError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, WeightsError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn text(&mut self, what: &str) -> Result<String, WeightsError> {
        let length = self.u64(what)?;
        let start = self.at;
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX), what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| {
            WeightsError::damaged(self.path, format!("{what} at byte {start}"), "UTF-8", "other bytes")
        })
    }

    fn value(&mut self, key: &str) -> Result<Value, WeightsError> {
        let what = format!("the value of key {key:?}");
        let kind = self.u32(&what)?;
        if kind == LIST {
            return self.list(&what, 0).map(Value::List);
        }
        self.scalar(kind, &what)
    }

    fn scalar(&mut self, kind: u32, what: &str) -> Result<Value, WeightsError> {
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.array(what)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.array(what)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array(what)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array(what)?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.array(what)?).into()),
            5 => Value::Integer(i32::from_le_bytes(self.array(what)?).into()),
            6 => Value::Float(widen(f32::from_le_bytes(self.array(what)?))),
            7 => Value::Bool(u8::from_le_bytes(self.array(what)?) != 0),
            8 => Value::Text(self.text(what)?),
            10 => Value::Integer(u64::from_le_bytes(self.array(what)?).into()),
            11 => Value::Integer(i64::from_le_bytes(self.array(what)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array(what)?)),
            other => {
                let expected = "a type from 0 to 12";
                return Err(WeightsError::damaged(self.path, what, expected, format!("type {other}")));
            }
        })
    }

    fn list(&mut self, what: &str, depth: usize) -> Result<List, WeightsError> {
        let (kind, stated) = (self.u32(what)?, self.u64(what)?);
        let left = self.bytes.len() - self.at;
        let count = match usize::try_from(stated) {
            Ok(count) if count <= left / least_bytes(kind) => count,
            _ => {
                return Err(WeightsError::damaged(
                    self.path,
                    format!("{what} at byte {}", self.at),
                    format!("a list that fits into the {left} bytes left"),
                    format!("{stated} elements"),
                ));
            }
        };
        match kind {
            6 | 12 => self.elements(kind, count, what, as_float).map(List::Floats),
            7 => self.elements(kind, count, what, as_bool).map(List::Bools),
            8 => (0..count).map(|_| self.text(what)).collect::<Result<_, _>>().map(List::Texts),
            LIST if depth < NESTING_MAX => {
                for _ in 0..count {
                    self.list(what, depth + 1)?;
                }
                Ok(List::Nested)
            }
            _ => self.elements(kind, count, what, as_integer).map(List::Integers),
        }
    }

    fn elements<T>(
        &mut self,
        kind: u32,
        count: usize,
        what: &str,
        narrow: fn(Value) -> Option<T>,
    ) -> Result<Vec<T>, WeightsError> {
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            let value = self.scalar(kind, what)?;
            elements.push(narrow(value).ok_or_else(|| {
                WeightsError::damaged(self.path, what, "integers below 2^63 in lists", "a larger one")
            })?);
        }
        Ok(elements)
    }

    fn tensor_info(&mut self, alignment: u64) -> Result<TensorInfo, WeightsError> {
        let name = self.text("a tensor's name")?;
        let damaged = |what: &str, expected: String, found: String| {
            WeightsError::damaged(self.path, format!("{what} of tensor {name:?}"), expected, found)
        };
        let what = format!("the description of tensor {name:?}");
        let dimensions = u32::from_le_bytes(self.array(&what)?);
        if dimensions > DIMENSIONS_MAX {
            return Err(damaged(
                "number of dimensions",
                format!("at most {DIMENSIONS_MAX}"),
                dimensions.to_string(),
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64(&what)?;
            shape.push(usize::try_from(size).map_err(|_| damaged("size", "fewer".into(), size.to_string()))?);
        }
        shape.reverse();
        let stored = stored(self.u32(&what)?);
        let offset = self.u64(&what)?;
        if !offset.is_multiple_of(alignment) {
            return Err(damaged("offset", format!("a multiple of {alignment}"), offset.to_string()));
        }
        Ok(TensorInfo { name, shape, stored, offset })
    }
}

const LIST: u32 = 9;

fn least_bytes(kind: u32) -> usize {
    match kind {
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        LIST => 12,
        _ => 1,
    }
}

/// Widens so that 1e-5 stays 1e-5: through the shortest decimal that is read back as the same f32. Narrowed again,
/// it is the same bits.
fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn as_integer(value: Value) -> Option<i64> {
    match value {
        Value::Integer(value) => i64::try_from(value).ok(),
        _ => None,
    }
}

fn as_float(value: Value) -> Option<f32> {
    match value {
        Value::Float(value) => Some(value as f32),
        _ => None,
    }
}

fn as_bool(value: Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

/// Returns how a ggml type is read, or its name where it is not.
fn stored(kind: u32) -> Stored {
    let name = match kind {
        0 => return Stored::As(Encoding::F32),
        1 => return Stored::As(Encoding::F16),
        2 => return Stored::As(Encoding::Q4_0),
        8 => return Stored::As(Encoding::Q8_0),
        12 => return Stored::As(Encoding::Q4K),
        14 => return Stored::As(Encoding::Q6K),
        30 => return Stored::As(Encoding::Bf16),
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        13 => "Q5_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        other => return Stored::Unknown(format!("an unknown type {other}")),
    };
    Stored::Unknown(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&text(name)[..], &kind.to_le_bytes(), value].concat()
    }

    fn list(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
    }

    fn tensor(name: &str, sizes: &[u64], kind: u32, offset: u64) -> Vec<u8> {
        let mut bytes = [&text(name)[..], &(sizes.len() as u32).to_le_bytes()].concat();
        bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        [&bytes[..], &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
    }

    fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((keys.len() as u64).to_le_bytes());
        bytes.extend(keys.concat());
        bytes.extend(tensors.concat());
        bytes
    }

    fn read_file(keys: &[Vec<u8>], tensors: &[Vec<u8>]) -> Result<Header, String> {
        read(Path::new("x.gguf"), &file(keys, tensors)).map_err(|error| error.to_string())
    }

    #[test]
    fn all_thirteen_types_are_read() {
        let integers = |values: &[i64]| Value::List(List::Integers(values.to_vec()));
        let rows: [(u32, Vec<u8>, Value); 18] = [
            (0, vec![200], Value::Integer(200)),
            (1, vec![200], Value::Integer(-56)),
            (2, 60_000u16.to_le_bytes().to_vec(), Value::Integer(60_000)),
            (3, (-2i16).to_le_bytes().to_vec(), Value::Integer(-2)),
            (4, u32::MAX.to_le_bytes().to_vec(), Value::Integer(u32::MAX.into())),
            (5, (-3i32).to_le_bytes().to_vec(), Value::Integer(-3)),
            (6, 1e-5f32.to_le_bytes().to_vec(), Value::Float(1e-5)),
            (7, vec![1], Value::Bool(true)),
            (8, text("é"), Value::Text("é".into())),
            (10, u64::MAX.to_le_bytes().to_vec(), Value::Integer(u64::MAX.into())),
            (11, (-4i64).to_le_bytes().to_vec(), Value::Integer(-4)),
            (12, 0.1f64.to_le_bytes().to_vec(), Value::Float(0.1)),
            (9, list(1, 2, &[255, 1]), integers(&[-1, 1])),
            (9, list(2, 1, &[255, 1]), integers(&[511])),
            (9, list(6, 1, &0.5f32.to_le_bytes()), Value::List(List::Floats(vec![0.5]))),
            (9, list(7, 2, &[0, 1]), Value::List(List::Bools(vec![false, true]))),
            (
                9,
                list(8, 2, &[text("a"), text("")].concat()),
                Value::List(List::Texts(vec!["a".into(), "".into()])),
            ),
            (9, list(9, 1, &list(0, 3, &[1, 2, 3])), Value::List(List::Nested)),
        ];
        for (kind, bytes, expected) in rows {
            // The second key shows that exactly the bytes of the first were taken.
            let header = read_file(&[key("k", kind, &bytes), key("end", 0, &[7])], &[]).expect("reads");
            assert_eq!(header.metadata.values["k"], expected);
            assert_eq!(header.metadata.values["end"], Value::Integer(7));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let odd_alignment = key("general.alignment", 4, &48u32.to_le_bytes());
        let deep = (0..6).fold(list(0, 0, &[]), |inner, _| list(9, 1, &inner));
        type Parts = Vec<Vec<u8>>;
        let rows: [(Parts, Parts, &str); 10] = [
            (vec![key("k", 13, &[0; 8])], vec![], "key \"k\": expected a type from 0 to 12, found type 13"),
            (vec![key("k", 9, &list(8, 1 << 60, &[]))], vec![], "found 1152921504606846976 elements"),
            (vec![key("k", 9, &list(99, 1, &[0; 8]))], vec![], "found type 99"),
            (vec![key("k", 9, &deep)], vec![], "key \"k\""),
            (vec![key("k", 8, &u64::MAX.to_le_bytes())], vec![], "key \"k\""),
            (vec![key("k", 8, &[&2u64.to_le_bytes()[..], &[0xc3, 0x28]].concat())], vec![], "expected UTF-8"),
            (vec![key("k", 0, &[1]), key("k", 0, &[1])], vec![], "expected one value, found two"),
            (vec![odd_alignment], vec![], "found 48"),
            (
                vec![],
                vec![tensor("t", &[1; 5], 0, 0)],
                "dimensions of tensor \"t\": expected at most 4, found 5",
            ),
            (
                vec![],
                vec![tensor("t", &[1], 0, 8)],
                "offset of tensor \"t\": expected a multiple of 32, found 8",
            ),
        ];
        for (keys, tensors, part) in rows {
            let error = read_file(&keys, &tensors).map(|_| ()).expect_err(part);
            assert!(error.contains(part) && error.contains("x.gguf is damaged"), "{error}");
        }
        let twice = [tensor("t", &[1], 0, 0), tensor("t", &[1], 0, 32)];
        assert!(
            read_file(&[], &twice).is_err_and(|error| error.contains("tensor \"t\": expected one entry"))
        );
    }

    #[test]
    fn shapes_are_turned_round_and_data_begins_aligned() {
        let alignment = key("general.alignment", 4, &64u32.to_le_bytes());
        let mut bytes = file(&[alignment], &[tensor("t", &[8, 3, 2], 0, 64)]);
        let described = bytes.len();
        bytes.resize(described + 1000, 0);
        let header = read(Path::new("x.gguf"), &bytes).expect("reads");
        assert_eq!(header.tensors[0].shape, [2, 3, 8]);
        assert_eq!(header.tensors[0].offset, 64);
        assert!(header.data.is_multiple_of(64) && (0..64).contains(&(header.data - described)));
    }
}
