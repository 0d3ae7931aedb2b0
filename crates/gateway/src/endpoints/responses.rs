//! `/v1/responses`: how does a conversation go on whose turns are kept here?

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use content::{Direction, PageQuery, ResponseId, ResponseStore};
use dialect::BadRequest;
use dialect::openai::responses;
use dialect::openai::responses::stored::{deleted_to_json, input_items_to_json, response_to_json};
use http::HeaderMap;
use serde::Deserialize;

use super::{json, priority};
use crate::admit::now;
use crate::app::App;
use crate::passage::{self, Spoken};
use crate::refusal::Refusal;
use crate::router::CurrentCaller;
use crate::visit::CurrentVisit;
use crate::{body, keeper};

pub async fn create(
    State(app): State<Arc<App>>,
    Extension(visit): CurrentVisit,
    Extension(caller): CurrentCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let priority = priority::read(&headers)?;
    let body = body::read(&app, &headers, body).await?;
    let original = body.bytes();
    let (heard, continuation) = body.understood(&app, responses::read).await?;
    if continuation.conversation.is_some() {
        let message = "Conversations are not kept here; go on with 'previous_response_id', or send the earlier items in 'input'.";
        return Err(BadRequest::new(message).at("conversation").code("unsupported_parameter").into());
    }
    let spoken = Spoken { heard, original, passed_headers: Vec::new(), continuation: Some(continuation) };
    passage::answer(app, visit, caller, &headers, priority, spoken).await
}

pub async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let kept = store(&app, &id)?.get(&caller.account, &ResponseId(id.clone()), now().millis()).await;
    let kept = kept.map_err(|error| keeper::unavailable(&app, &error))?;
    Ok(json(response_to_json(&kept.ok_or_else(|| not_found(&id))?.response)))
}

pub async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let was_there = store(&app, &id)?.delete(&caller.account, &ResponseId(id.clone())).await;
    match was_there.map_err(|error| keeper::unavailable(&app, &error))? {
        true => Ok(json(deleted_to_json(&id))),
        false => Err(not_found(&id)),
    }
}

/// Which page of a list.
#[derive(Deserialize)]
pub struct Page {
    after: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
}

pub async fn input_items(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    Path(id): Path<String>,
    Query(page): Query<Page>,
) -> Result<Response, Refusal> {
    let direction = match page.order.as_deref() {
        None | Some("desc") => Direction::NewestFirst,
        Some("asc") => Direction::OldestFirst,
        Some(other) => {
            let message = format!("Invalid value: '{other}'. Supported values are: 'asc' and 'desc'.");
            return Err(BadRequest::new(message).at("order").code("invalid_value").into());
        }
    };
    let query = PageQuery { after: page.after, limit: page.limit.unwrap_or(20).clamp(1, 100), direction };
    let id = ResponseId(id);
    let items = store(&app, &id.0)?.input_items(&caller.account, &id, &query, now().millis()).await;
    let items = items.map_err(|error| keeper::unavailable(&app, &error))?.ok_or_else(|| not_found(&id.0))?;
    Ok(json(input_items_to_json(&items.items, items.has_more)))
}

fn store<'a>(app: &'a App, id: &str) -> Result<&'a ResponseStore, Refusal> {
    app.responses.as_ref().ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> Refusal {
    Refusal::ResponseUnknown { id: id.chars().take(128).collect() }
}
