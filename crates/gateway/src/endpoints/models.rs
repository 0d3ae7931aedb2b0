//! `GET /v1/models`, `GET /v1/models/{name}`: which models are served?

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use dialect::openai::models::{Model, list_to_json};
use domain::ModelName;

use super::json;
use crate::app::{App, ServedModel};
use crate::place;
use crate::refusal::Refusal;
use crate::router::CurrentCaller;

/// A key that is narrowed to some models sees only those.
pub async fn list(State(app): State<Arc<App>>, Extension(caller): CurrentCaller) -> Response {
    let models: Vec<Model> = place::seen(&app, &caller).map(|model| described(model, &model.name)).collect();
    json(list_to_json(&models))
}

pub async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let name = ModelName::new(name);
    let model = place::model(&app, &caller, &name)?;
    Ok(json(described(&model, &name).to_json()))
}

/// A model is described under the name that it was asked by.
fn described(model: &ServedModel, name: &ModelName) -> Model {
    Model {
        name: name.clone(),
        created: model.created,
        owned_by: "baseload".to_owned(),
        max_model_len: Some(model.context_tokens as u64),
    }
}
