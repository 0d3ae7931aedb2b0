//! What does the metadata of a GGUF file say under a key?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::weights::WeightsError;

/// A value, with the format's thirteen types folded into what a reader cares about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    List(List),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum List {
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
    /// Lists of lists have no use in the models we read; they were checked and dropped.
    Nested,
}

/// All keys of one file, asked for with the type that is expected there.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) file: PathBuf,
    pub(crate) values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(crate) fn count(&self, key: &str) -> Result<Option<u64>, WeightsError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(value) => match as_count(value) {
                Some(count) => Ok(Some(count)),
                None => Err(self.wrong(key, "a count", value)),
            },
        }
    }

    pub(crate) fn required_count(&self, key: &str) -> Result<u64, WeightsError> {
        match self.count(key)? {
            Some(count) if count > 0 => Ok(count),
            Some(_) => Err(WeightsError::damaged(&self.file, format!("key {key:?}"), "more than 0", 0)),
            None => Err(WeightsError::damaged(&self.file, format!("key {key:?}"), "a count", "no such key")),
        }
    }

    pub(crate) fn token(&self, key: &str) -> Result<Option<u32>, WeightsError> {
        match self.values.get(key) {
            // Some writers put −1, signed or not, where there is no such token.
            None | Some(Value::Integer(-1 | 0xffff_ffff)) => Ok(None),
            Some(Value::Integer(id)) if u32::try_from(*id).is_ok() => Ok(Some(*id as u32)),
            Some(value) => Err(self.wrong(key, "a token id", value)),
        }
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, WeightsError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if value.is_finite() => Ok(Some(*value)),
            Some(Value::Integer(value)) => Ok(Some(*value as f64)),
            Some(value) => Err(self.wrong(key, "a number", value)),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(value) => Err(self.wrong(key, "true or false", value)),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, WeightsError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(key, "text", value)),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, WeightsError> {
        match self.values.get(key) {
            None => Ok(Vec::new()),
            Some(Value::List(List::Texts(texts))) => Ok(texts.clone()),
            Some(value) => Err(self.wrong(key, "a list of texts", value)),
        }
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Vec<f32>, WeightsError> {
        match self.values.get(key) {
            None => Ok(Vec::new()),
            Some(Value::List(List::Floats(floats))) => Ok(floats.clone()),
            Some(value) => Err(self.wrong(key, "a list of numbers", value)),
        }
    }

    pub(crate) fn integers(&self, key: &str) -> Result<Vec<i32>, WeightsError> {
        let integers = match self.values.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::List(List::Integers(integers))) => integers,
            Some(value) => return Err(self.wrong(key, "a list of integers", value)),
        };
        let narrow: Option<Vec<i32>> = integers.iter().map(|value| i32::try_from(*value).ok()).collect();
        narrow.ok_or_else(|| {
            WeightsError::damaged(&self.file, format!("key {key:?}"), "32-bit integers", "more")
        })
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> WeightsError {
        WeightsError::damaged(&self.file, format!("key {key:?}"), expected, brief(found))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file
    }
}

/// Some writers give one count per layer; that is a count as long as all are the same.
fn as_count(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(count) => u64::try_from(*count).ok(),
        Value::List(List::Integers(counts)) => {
            let first = counts.first()?;
            counts.iter().all(|count| count == first).then(|| u64::try_from(*first).ok())?
        }
        _ => None,
    }
}

fn brief(value: &Value) -> String {
    match value {
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Text(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::List(List::Integers(values)) => format!("a list of {} integers", values.len()),
        Value::List(List::Floats(values)) => format!("a list of {} numbers", values.len()),
        Value::List(List::Bools(values)) => format!("a list of {} flags", values.len()),
        Value::List(List::Texts(values)) => format!("a list of {} texts", values.len()),
        Value::List(List::Nested) => "a list of lists".to_string(),
    }
}
