//! `POST /v1/messages`, `POST /v1/messages/count_tokens`: how does a conversation of Anthropic's clients go on, and how long is it?

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dialect::anthropic;
use http::HeaderMap;
use http::header::HeaderName;

use super::{json, priority};
use crate::app::App;
use crate::passage::{self, Spoken};
use crate::refusal::Refusal;
use crate::router::CurrentCaller;
use crate::visit::CurrentVisit;
use crate::{body, place};

/// Headers of the client's that Anthropic's own servers shall see.
const PASSED: [HeaderName; 2] =
    [HeaderName::from_static("anthropic-beta"), HeaderName::from_static("anthropic-version")];

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
    let heard = body.understood(&app, anthropic::read).await?;
    let passed_headers =
        PASSED.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
    let spoken = Spoken { heard, original, passed_headers, continuation: None };
    passage::answer(app, visit, caller, &headers, priority, spoken).await
}

/// Counts exactly where an engine of ours would read the prompt, and guesses where a provider would.
pub async fn count(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let heard = body::read(&app, &headers, body).await?.understood(&app, anthropic::read_count).await?;
    let tokens = place::count(&app, &caller, &heard.ask).await?;
    Ok(json(anthropic::count_to_json(tokens)))
}
