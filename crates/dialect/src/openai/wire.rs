//! How do requests in OpenAI's dialects differ from one server to the next?

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::{Target, Untellable, WireRequest};

/// What one server does otherwise than OpenAI. [`Manner::default`] is OpenAI itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Azure's older surface: paths name the deployment, and a version. Its newer one (`…/openai/v1`) needs nothing special.
    pub azure_api_version: Option<String>,
    /// It is not OpenAI's own: `max_tokens` is what it knows, `system` in place of `developer`, fields of vLLM's are welcome.
    pub is_compatible: bool,
}

impl Manner {
    /// What many servers understand that speak OpenAI's dialect.
    pub fn compatible() -> Self {
        Self { is_compatible: true, ..Self::default() }
    }

    /// Returns the path below a base URL that ends as OpenAI's does, in `/v1` (for Azure's older surface: in the host).
    pub(super) fn path(&self, model: &str, endpoint: &str) -> String {
        match &self.azure_api_version {
            None => format!("/{endpoint}"),
            // Responses name their model in the body.
            Some(version) if endpoint == "responses" => format!("/openai/responses?api-version={version}"),
            Some(version) => format!("/openai/deployments/{model}/{endpoint}?api-version={version}"),
        }
    }

    pub(super) fn request(&self, model: &str, endpoint: &str, body: Vec<u8>) -> WireRequest {
        let headers = vec![("content-type", "application/json".to_owned())];
        WireRequest { path: self.path(model, endpoint), headers, body }
    }
}

/// A request's top level, each field's value as it came.
struct Original<'a>(Vec<(String, &'a RawValue)>);

/// Fields by which clients name a session or a trace for the gateway: OpenAI refuses what it does not know.
const OF_GATEWAYS: [&str; 3] = ["litellm_session_id", "litellm_trace_id", "session_id"];

/// Returns the client's own request: only the model and what belongs to streaming are replaced. `asks_usage`: this endpoint
/// reports a stream's usage only where it is asked for.
pub(super) fn passed(
    original: &[u8],
    target: &Target<'_>,
    is_compatible: bool,
    asks_usage: bool,
) -> Result<Vec<u8>, Untellable> {
    let untellable = |why: String| Untellable { what: "body".to_owned(), why };
    let Original(mut fields) =
        serde_json::from_slice(original).map_err(|error| untellable(error.to_string()))?;
    let raw = |value: serde_json::Value| to_raw_value(&value).expect("plain JSON");
    let (model, stream) = (raw(target.model.into()), raw(target.stream.into()));
    let options = asks_usage.then(|| stream_options(&fields)).filter(|_| target.stream).map(raw);
    fields.retain(|(name, _)| match name.as_str() {
        "model" | "stream" => false,
        "stream_options" => target.stream && !asks_usage,
        name => is_compatible || !OF_GATEWAYS.contains(&name),
    });
    fields.insert(0, ("model".to_owned(), &model));
    if target.stream {
        fields.push(("stream".to_owned(), &stream));
    }
    fields.extend(options.as_deref().map(|options| ("stream_options".to_owned(), options)));
    Ok(super::stream::json(&Original(fields)))
}

/// Returns the client's `stream_options`, with usage asked for.
fn stream_options(fields: &[(String, &RawValue)]) -> serde_json::Value {
    let said = fields.iter().rev().find(|(name, _)| name == "stream_options");
    let said = said.and_then(|(_, value)| serde_json::from_str(value.get()).ok());
    let mut options = match said {
        Some(serde_json::Value::Object(options)) => options,
        _ => serde_json::Map::new(),
    };
    options.insert("include_usage".to_owned(), true.into());
    options.into()
}

impl<'de: 'a, 'a> Deserialize<'de> for Original<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(Original)
    }
}

impl Serialize for Original<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
