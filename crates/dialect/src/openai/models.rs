//! Which models are served?

use serde::Serialize;

use domain::ModelName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub name: ModelName,
    /// Seconds since 1970: when it was loaded.
    pub created: u64,
    pub owned_by: String,
    /// Tokens of prompt and answer together; vLLM's extension.
    pub max_model_len: Option<u64>,
}

#[derive(Serialize)]
struct ModelWire<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<u64>,
}

impl Model {
    /// Returns the body of `GET /v1/models/{name}`.
    pub fn to_json(&self) -> Vec<u8> {
        super::stream::json(&self.wire())
    }
    fn wire(&self) -> ModelWire<'_> {
        ModelWire {
            id: self.name.as_str(),
            object: "model",
            created: self.created,
            owned_by: &self.owned_by,
            max_model_len: self.max_model_len,
        }
    }
}

/// Returns the body of `GET /v1/models`.
pub fn list_to_json(models: &[Model]) -> Vec<u8> {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<ModelWire<'a>>,
    }
    super::stream::json(&List { object: "list", data: models.iter().map(Model::wire).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed_with_their_context() {
        let model =
            Model { name: "demo".into(), created: 7, owned_by: "baseload".into(), max_model_len: Some(4096) };
        assert_eq!(
            String::from_utf8(list_to_json(&[model])).unwrap(),
            r#"{"object":"list","data":[{"id":"demo","object":"model","created":7,"owned_by":"baseload","max_model_len":4096}]}"#
        );
    }
}
