//! `GET /v1/models`, `GET /v1/models/{name}`: which models are served?

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use dialect::openai::models::{Model, list_to_json};
use domain::ModelName;

use super::json;
use crate::app::App;
use crate::place;
use crate::refusal::Refusal;
use crate::router::CurrentCaller;
use crate::supply::{Supply, UnitKind};

/// A key that is narrowed to some models sees only those.
pub async fn list(State(app): State<Arc<App>>, Extension(caller): CurrentCaller) -> Response {
    let supply = app.supply.load();
    let names = place::seen(&app, &caller);
    let models: Vec<Model> = names.iter().map(|name| described(&supply, name)).collect();
    json(list_to_json(&models))
}

pub async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let name = ModelName::new(name);
    place::check_seen(&app, &caller, &name)?;
    Ok(json(described(&app.supply.load(), &name).to_json()))
}

/// A model is described under the name that it was asked by.
fn described(supply: &Supply, name: &ModelName) -> Model {
    let units = supply.meaning(name).map_or(Vec::new(), |(units, _)| units);
    let context = units.iter().filter_map(|unit| match &unit.kind {
        UnitKind::Local(model) => Some(model.context_tokens as u64),
        UnitKind::Remote { .. } => unit.facts.context_tokens,
    });
    let owner = match units.as_slice() {
        [only] => match &only.kind {
            UnitKind::Remote { provider, .. } => provider.vendor.as_str().to_owned(),
            UnitKind::Local(_) => "baseload".to_owned(),
        },
        _ => "baseload".to_owned(),
    };
    Model {
        name: name.clone(),
        created: units.iter().map(|unit| unit.created).min().unwrap_or_default(),
        owned_by: owner,
        max_model_len: context.max(),
    }
}
