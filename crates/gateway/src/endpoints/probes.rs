//! `GET /health`, `GET /ready`, `GET /`: does the server live, may it be sent work, and what is it?

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::json;
use crate::app::App;
use crate::refusal::Refusal;

/// The process answers. Whoever restarts what fails here must not restart a server that only drains.
pub async fn health() -> Response {
    json(json!({ "status": "ok" }).to_string().into_bytes())
}

/// New work will be taken: every engine lives, and no shutdown has begun.
pub async fn ready(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    if app.drain.is_cancelled() {
        return Err(Refusal::Draining { retry_after: app.limits.retry_after });
    }
    for model in &app.models {
        if let Some(why) = model.upstream.death() {
            return Err(Refusal::EngineDown { model: model.name.clone(), why });
        }
    }
    Ok(json(json!({ "status": "ready" }).to_string().into_bytes()))
}

pub async fn hello() -> Response {
    let hello = json!({
        "name": "baseload",
        "version": env!("CARGO_PKG_VERSION"),
        "api": "OpenAI-compatible; the base URL is this address followed by /v1",
    });
    json(hello.to_string().into_bytes())
}
