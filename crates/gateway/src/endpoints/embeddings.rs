//! `POST /v1/embeddings`: where do texts stand in a space where near means alike?

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dialect::openai::embeddings;
use http::HeaderMap;

use crate::app::App;
use crate::refusal::Refusal;
use crate::router::CurrentCaller;
use crate::visit::CurrentVisit;
use crate::{body, embedding};

pub async fn create(
    State(app): State<Arc<App>>,
    Extension(visit): CurrentVisit,
    Extension(caller): CurrentCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let heard = body::read(&app, &headers, body).await?.understood(&app, embeddings::read).await?;
    embedding::answer(app, visit, caller, &headers, heard).await
}
