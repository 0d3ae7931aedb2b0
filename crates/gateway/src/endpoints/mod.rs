//! What does each endpoint do, in one paragraph each?

pub mod chat;
pub mod completions;
pub mod detokenize;
pub mod embeddings;
pub mod messages;
pub mod metrics;
pub mod models;
pub mod probes;
pub mod responses;
pub mod tokenize;

mod priority;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use dialect::BadRequest;
use domain::ModelName;
use http::header::CONTENT_TYPE;

use crate::app::{App, ServedModel};
use crate::place;
use crate::refusal::Refusal;
use crate::who::Caller;

fn json(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// Returns the model named, or the only one there is.
fn only_model(app: &App, caller: &Caller, named: Option<&ModelName>) -> Result<Arc<ServedModel>, Refusal> {
    match (named, app.models.as_slice()) {
        (Some(name), _) => place::engine(app, caller, name),
        (None, [only]) => place::engine(app, caller, &only.name),
        (None, _) => Err(BadRequest::new("several models are served; name one").at("model").into()),
    }
}
