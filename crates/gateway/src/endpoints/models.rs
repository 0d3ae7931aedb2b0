//! `GET /v1/models`, `GET /v1/models/{name}`: which models are served?

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use dialect::openai::models::{Model, list_to_json};
use domain::ModelName;
use http::HeaderMap;

use super::json;
use crate::app::{App, ServedModel};
use crate::refusal::Refusal;
use crate::{place, who};

pub async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    who::caller(&app, &headers).await?;
    let models: Vec<Model> = app.models.iter().map(|model| described(model, &model.name)).collect();
    Ok(json(list_to_json(&models)))
}

pub async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    who::caller(&app, &headers).await?;
    let name = ModelName::new(name);
    let model = place::model(&app, &name)?;
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
