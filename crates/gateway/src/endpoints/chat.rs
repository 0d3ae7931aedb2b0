//! `POST /v1/chat/completions`: how does a chat go on?

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dialect::openai::chat;
use http::HeaderMap;

use super::priority;
use crate::app::App;
use crate::body;
use crate::passage::{self, Spoken};
use crate::refusal::Refusal;
use crate::router::CurrentCaller;
use crate::visit::CurrentVisit;

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
    let heard = body.understood(&app, chat::read).await?;
    let spoken = Spoken { heard, original, passed_headers: Vec::new() };
    passage::answer(app, visit, caller, &headers, priority, spoken).await
}
