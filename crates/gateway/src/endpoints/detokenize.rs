//! `POST /detokenize`: which text do tokens stand for?

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dialect::openai::tokenize::{DetokenizeRequest, detokenized_to_json};
use http::HeaderMap;
use text::PromptError;

use super::{json, only_model};
use crate::app::App;
use crate::body;
use crate::guard::{bad_prompt, check_bytes, off_thread};
use crate::refusal::Refusal;
use crate::router::CurrentCaller;

pub async fn run(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let request = body::read(&app, &headers, body).await?.understood(&app, DetokenizeRequest::read).await?;
    let model = only_model(&app, &caller, request.model.as_ref())?;
    let vocabulary_size = model.text.tokenizer().vocabulary_size();
    if let Some(token) = request.tokens.iter().copied().find(|token| *token as usize >= vocabulary_size) {
        return Err(bad_prompt(PromptError::UnknownToken { token, vocabulary_size }));
    }
    let text = model.text.clone();
    let bytes = size_of_val(request.tokens.as_slice());
    check_bytes(&app, bytes)?;
    let detokenize = move || text.tokenizer().decode(&request.tokens, true);
    let prompt = off_thread(&app, bytes > app.limits.tokenize_inline_bytes, detokenize).await?;
    Ok(json(detokenized_to_json(&prompt)))
}
