//! What is remembered of one request from its first header to its last byte, so that it leaves exactly one line?

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use domain::{Account, ModelName, RequestId, Usage};
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{HeaderMap, Version};
use parking_lot::Mutex;

use crate::admit;
use crate::app::App;
use crate::events;
use crate::keeping::Keeping;
use crate::refusal::Reason;

/// The header that names a request, in every response.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client's own name for its request is logged up to this many characters.
const CLIENT_REQUEST_CHARACTERS: usize = 128;
/// A path is logged, and told in a refusal, up to this many characters.
const PATH_CHARACTERS: usize = 256;

/// Shared by everything that works for one request; when the last of them is done, the line is written.
pub struct Visit {
    pub id: RequestId,
    pub arrived: Instant,
    method: String,
    path: String,
    client_request: Option<String>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// 0: the client left before there was an answer.
    status: u16,
    model: Option<ModelName>,
    account: Option<Account>,
    usage: Option<Usage>,
    ttft: Option<Duration>,
    end: Option<&'static str>,
}

pub type CurrentVisit = Extension<Arc<Visit>>;

impl Visit {
    fn new(request: &Request) -> Self {
        Self {
            id: RequestId::at(admit::now().millis().unsigned_abs(), rand::random()),
            arrived: Instant::now(),
            method: request.method().as_str().chars().take(16).collect(),
            path: shown_path(request.uri().path()),
            client_request: client_request(request.headers()),
            notes: Mutex::default(),
        }
    }

    pub fn model(&self, model: &ModelName) {
        self.notes.lock().model = Some(model.clone());
    }
    pub fn account(&self, account: &Account) {
        self.notes.lock().account = Some(account.clone());
    }
    pub fn first_token(&self) -> Duration {
        let ttft = self.arrived.elapsed();
        self.notes.lock().ttft = Some(ttft);
        ttft
    }
    pub fn used(&self, usage: Usage) {
        self.notes.lock().usage = Some(usage);
    }
    /// The first end told is the cause; what follows from it is not.
    pub fn ended(&self, end: &'static str) {
        self.notes.lock().end.get_or_insert(end);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let notes = self.notes.get_mut();
        events::Access {
            request: self.id.as_str(),
            client_request: self.client_request.as_deref(),
            method: &self.method,
            path: &self.path,
            status: notes.status,
            model: notes.model.as_ref().map(ModelName::as_str),
            account: notes.account.as_ref().map(Account::as_str),
            prompt_tokens: notes.usage.map(|usage| usage.input()),
            cached_tokens: notes.usage.map(|usage| usage.cache_read),
            output_tokens: notes.usage.map(|usage| usage.output),
            ttft_ms: notes.ttft.map(|ttft| ttft.as_millis() as u64),
            e2e_ms: self.arrived.elapsed().as_millis() as u64,
            end: notes.end,
        }
        .emit();
    }
}

/// Gives every request its name and its line, and every response its `x-request-id`.
pub async fn remember(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let visit = Arc::new(Visit::new(&request));
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let version = request.version();
    request.extensions_mut().insert(visit.clone());
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    visit.notes.lock().status = status;
    app.metrics.answered(&route, status);
    if let Some(Reason(code)) = response.extensions().get() {
        visit.ended(code);
        app.metrics.refused(code);
    }
    let name = HeaderValue::from_str(visit.id.as_str()).expect("a request's name is printable");
    response.headers_mut().insert(REQUEST_ID, name);
    if app.drain.is_cancelled() && version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // The line is written when the body is sent or given up.
    response.map(|body| Body::new(Keeping::new(body, visit)))
}

/// Returns the path as it may be shown: bounded, and without the query, where people put secrets.
pub fn shown_path(path: &str) -> String {
    path.chars().take(PATH_CHARACTERS).collect()
}

fn client_request(headers: &HeaderMap) -> Option<String> {
    let name = headers.get(&REQUEST_ID)?.to_str().ok()?;
    Some(name.chars().take(CLIENT_REQUEST_CHARACTERS).collect())
}
