//! `POST /v1/embeddings`: how are embeddings asked for?

use serde_json::{Map, Value, json};

use domain::EmbedAsk;

use super::completion::prompt;
use crate::Target;

/// Returns the request for an upstream.
pub(super) fn asked(ask: &EmbedAsk, target: &Target<'_>) -> Vec<u8> {
    let mut body = Map::from_iter([("model".to_owned(), json!(target.model))]);
    body.insert("input".to_owned(), prompt(&ask.inputs));
    body.extend(ask.dimensions.map(|dimensions| ("dimensions".to_owned(), json!(dimensions))));
    body.extend(ask.user.as_ref().map(|user| ("user".to_owned(), json!(user))));
    body.extend(ask.extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(body).to_string().into_bytes()
}
