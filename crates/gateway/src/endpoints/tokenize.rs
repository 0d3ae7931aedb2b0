//! `POST /tokenize`: which tokens does a text or a chat become?

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dialect::openai::tokenize::{Source, TokenizeReply, TokenizeRequest};
use domain::TokenId;
use http::HeaderMap;
use text::{PromptError, RenderInput, Special, TextModel};

use super::{json, only_model};
use crate::app::App;
use crate::body;
use crate::guard::{self, bad_prompt, check_bytes, off_thread};
use crate::refusal::Refusal;
use crate::router::CurrentCaller;

pub async fn run(
    State(app): State<Arc<App>>,
    Extension(caller): CurrentCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let request = body::read(&app, &headers, body).await?.understood(&app, TokenizeRequest::read).await?;
    let model = only_model(&app, &caller, request.model.as_ref())?;
    let bytes = match &request.source {
        Source::Text(text) => text.len(),
        Source::Chat { chat, .. } => guard::chat_bytes(chat),
    };
    check_bytes(&app, bytes)?;
    let (text, max_model_len) = (model.text.clone(), model.context_tokens as u64);
    let reply = off_thread(&app, bytes > app.limits.tokenize_inline_bytes, move || {
        reply(&text, &request, max_model_len)
    })
    .await?;
    Ok(json(reply.map_err(bad_prompt)?.to_json()))
}

fn reply(
    text: &TextModel,
    request: &TokenizeRequest,
    max_model_len: u64,
) -> Result<TokenizeReply, PromptError> {
    let tokens = tokens(text, request)?;
    let tokenizer = text.tokenizer();
    let token_strs = || tokens.iter().map(|token| tokenizer.token_text(*token)).collect();
    let token_strs = request.return_token_strs.then(token_strs);
    Ok(TokenizeReply { count: tokens.len(), max_model_len, tokens, token_strs })
}

fn tokens(text: &TextModel, request: &TokenizeRequest) -> Result<Vec<TokenId>, PromptError> {
    let encode = |source: &str| text.tokenizer().encode(source, Special::Parsed, request.add_special_tokens);
    match &request.source {
        Source::Text(source) => Ok(encode(source)?),
        Source::Chat { chat, add_generation_prompt } => {
            let input = RenderInput {
                messages: &chat.messages,
                tools: &chat.shown_tools(),
                variables: &chat.template_variables,
                add_generation_prompt: *add_generation_prompt,
                now_seconds: guard::unix_seconds() as i64,
            };
            let prompt = text.chat_prompt(&input)?;
            if request.add_special_tokens { Ok(encode(&prompt.text)?) } else { Ok(prompt.tokens) }
        }
    }
}
