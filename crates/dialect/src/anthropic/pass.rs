//! How is a client's own request passed on?

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::upstream::wire_request;
use crate::{Target, Untellable, WireRequest};

/// Returns the client's request with the upstream's name of the model. Every other field keeps its bytes.
pub(super) fn passed(original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
    let broken = |error: serde_json::Error| Untellable { what: "body".into(), why: error.to_string() };
    let mut members: Members = serde_json::from_slice(original).map_err(broken)?;
    members.put("model", to_raw_value(target.model).map_err(broken)?);
    // Absent is false, and stays absent.
    if target.stream || members.has("stream") {
        members.put("stream", to_raw_value(&target.stream).map_err(broken)?);
    }
    Ok(wire_request(super::wire::json(&members), None))
}

/// A JSON object's fields in their order, each value as it came.
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Puts a value where the field stands, or else at the end.
    fn put(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            /// Of a field that comes twice the last one counts, as it did when the request was checked.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members(Vec::new());
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.put(&name, value);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
