//! What does a request say of itself that changes no answer, but says where it belongs?

use serde_json::Value;

use crate::read::Fields;

/// The few fields of a body by which clients name a session, a trace or a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(&'static str, String)>);

/// OpenAI's `metadata` is the client's own room; of it, only these are looked at.
const OF_METADATA: [(&str, &str); 3] = [
    ("task", "metadata.task"),
    ("parent_task", "metadata.parent_task"),
    ("session_id", "metadata.session_id"),
];
const OF_BODY: [&str; 3] = ["litellm_session_id", "litellm_trace_id", "session_id"];

/// A label is a name; what is longer is something else.
const LABEL_BYTES_MAX: usize = 1024;

impl Labels {
    /// Returns the label at this place, such as `metadata.task`.
    pub fn get(&self, place: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == place).map(|(_, value)| value.as_str())
    }

    /// Adds a label; places that no label has are ignored.
    pub fn insert(&mut self, place: &str, value: &str) {
        let mut places = OF_METADATA.iter().map(|(_, place)| *place).chain(OF_BODY);
        if let Some(place) = places.find(|known| *known == place) {
            self.0.push((place, value.to_owned()));
        }
    }

    /// Reads what there is. Nothing here is ever refused: these fields belong to the client, in whatever form.
    pub(crate) fn take(fields: &mut Fields) -> Self {
        let mut labels = Self::default();
        for (name, place) in OF_METADATA {
            if let Some(text) = fields.peek("metadata").and_then(|metadata| text(metadata.get(name)?)) {
                labels.insert(place, text);
            }
        }
        if !labels.0.is_empty() {
            // It had an effect, so it is not among the fields that had none.
            fields.take("metadata");
        }
        for name in OF_BODY {
            if let Some(value) = fields.peek(name).and_then(text).map(str::to_owned) {
                labels.insert(name, &value);
                fields.take(name);
            }
        }
        labels
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty() && text.len() <= LABEL_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> (Labels, Vec<String>) {
        let mut fields = Fields::parse(body.as_bytes()).unwrap();
        let labels = Labels::take(&mut fields);
        (labels, fields.left())
    }

    #[test]
    fn labels_are_read_and_then_have_had_an_effect() {
        let (labels, left) =
            read(r#"{"metadata":{"task":"run-42","team":"x"},"session_id":"s1","store":true}"#);
        assert_eq!((labels.get("metadata.task"), labels.get("session_id")), (Some("run-42"), Some("s1")));
        assert_eq!(left, ["store"]);
    }

    #[test]
    fn what_is_no_label_is_left_alone() {
        let (labels, left) = read(r#"{"metadata":{"team":"x"},"session_id":7,"litellm_trace_id":""}"#);
        assert_eq!(labels, Labels::default());
        assert_eq!(left, ["metadata", "session_id", "litellm_trace_id"]);
        assert_eq!(read(r#"{"metadata":"free text"}"#).0, Labels::default());
    }
}
