//! `POST /v1/completions`: how does a text go on?

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dialect::openai::completion::Request;
use http::HeaderMap;

use super::priority;
use crate::app::App;
use crate::guard::{self, Draft};
use crate::refusal::Refusal;
use crate::reply::{self, Surface};
use crate::router::CurrentCaller;
use crate::visit::CurrentVisit;
use crate::{admit, body, task};

pub async fn create(
    State(app): State<Arc<App>>,
    Extension(visit): CurrentVisit,
    Extension(caller): CurrentCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let priority = priority::read(&headers)?;
    let request = body::read(&app, &headers, body).await?.understood(&app, Request::read).await?;
    let place = admit::place(&app)?;
    let task = task::enter(&app, &caller, &headers, request.labels(), &[]).await?;
    let model = task::model(&app, &caller, task.as_ref(), request.model())?;
    visit.model(&model.name);
    let ignored = request.ignored().to_vec();
    let ask = request.into_ask(&model.sampling_defaults);
    let draft = Draft { surface: Surface::Completion, model, caller, priority, ask, task, ignored };
    let order = guard::check(&app, draft).await?;
    reply::answer(app, visit, order, place).await
}
