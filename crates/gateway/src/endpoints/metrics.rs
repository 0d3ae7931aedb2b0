//! `GET /metrics`: what has been counted and measured?

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::metrics;

/// Where keys are required, also here: which models are busy, and how busy, is not for everyone.
pub async fn print(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], app.metrics.print()).into_response()
}
