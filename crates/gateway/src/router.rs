//! What is found where? The table of contents of the HTTP surface.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::app::App;
use crate::endpoints::{chat, completions, detokenize, metrics, models, probes, tokenize};
use crate::refusal::Refusal;
use crate::visit::{self, shown_path};

pub fn build(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/tokenize", post(tokenize::run))
        .route("/detokenize", post(detokenize::run))
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/metrics", get(metrics::print))
        .route("/", get(probes::hello))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app.clone(), visit::remember))
        .with_state(app)
}

async fn no_such_path(request: Request) -> Refusal {
    Refusal::NoSuchPath { path: shown_path(request.uri().path()) }
}

async fn no_such_method(request: Request) -> Refusal {
    let path = shown_path(request.uri().path());
    Refusal::NoSuchMethod { method: request.method().clone(), path }
}
