//! `GET /metrics`: what has been counted and measured?

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::metrics;
use crate::refusal::Refusal;
use crate::who;

/// Where keys are required, also here: which models are busy, and how busy, is not for everyone.
pub async fn print(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    who::caller(&app, &headers).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], app.metrics.print()).into_response())
}
