//! What is found where, and what must a request bring? The table of contents of the HTTP surface.
//!
//! Every route is a row with its admission, and rows are the only way into the router: an endpoint behind no door cannot be
//! written. Rows of other rooms (the admin API) come through [`crate::App::mounting`] and pass the same door.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, Router};
use http::{Method, Uri};

use crate::app::App;
use crate::endpoints::{
    chat, completions, detokenize, embeddings, messages, metrics, models, probes, responses, tokenize,
};
use crate::refusal::{self, Refusal};
use crate::visit::{self, Visit, shown_path};
use crate::who::{self, Caller};

/// What a request must bring before its endpoint sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing: the endpoint says nothing of models, callers or money.
    Open,
    /// A key that reaches this endpoint, where keys are required.
    Key,
    /// As `Key`, and the key may call models. What is used costs, so a hold is in the book before any work starts.
    Held,
    /// A key, also on loopback. What its role allows, the endpoint decides by what is asked of it.
    Role,
}

/// One row of the table of contents.
#[derive(Clone)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub admission: Admission,
    /// Whose words an error is told in.
    shape: Shape,
    handler: MethodRouter,
}

/// The dialect that an endpoint's errors are told in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    Openai,
    Anthropic,
}

/// Set for every endpoint that is not open.
pub type CurrentCaller = Extension<Caller>;

fn contents(app: &Arc<App>) -> Vec<Route> {
    use Admission::{Held, Key, Open};
    let app = || app.clone();
    vec![
        Route::new(Method::POST, "/v1/chat/completions", Held, chat::create, app()),
        Route::new(Method::POST, "/v1/completions", Held, completions::create, app()),
        Route::new(Method::POST, "/v1/messages", Held, messages::create, app()).in_anthropics_words(),
        Route::new(Method::POST, "/v1/messages/count_tokens", Key, messages::count, app())
            .in_anthropics_words(),
        Route::new(Method::POST, "/v1/embeddings", Held, embeddings::create, app()),
        Route::new(Method::POST, "/v1/responses", Held, responses::create, app()),
        Route::new(Method::GET, "/v1/responses/{id}", Key, responses::one, app()),
        Route::new(Method::DELETE, "/v1/responses/{id}", Key, responses::delete, app()),
        Route::new(Method::GET, "/v1/responses/{id}/input_items", Key, responses::input_items, app()),
        Route::new(Method::GET, "/v1/models", Key, models::list, app()),
        Route::new(Method::GET, "/v1/models/{*name}", Key, models::one, app()),
        Route::new(Method::POST, "/tokenize", Key, tokenize::run, app()),
        Route::new(Method::POST, "/detokenize", Key, detokenize::run, app()),
        Route::new(Method::GET, "/metrics", Key, metrics::print, app()),
        Route::new(Method::GET, "/health", Open, probes::health, app()),
        Route::new(Method::GET, "/ready", Open, probes::ready, app()),
        Route::new(Method::GET, "/", Open, probes::hello, app()),
    ]
}

impl Route {
    pub fn new<H, T, S>(
        method: Method,
        path: &'static str,
        admission: Admission,
        handler: H,
        state: S,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a route has one of the usual methods");
        Self::mounted(method, path, admission, on(filter, handler).with_state(state))
    }

    /// Returns a row of another room. The handler must take this one method.
    pub fn mounted(method: Method, path: &'static str, admission: Admission, handler: MethodRouter) -> Self {
        Self { method, path, admission, shape: Shape::default(), handler }
    }

    fn in_anthropics_words(self) -> Self {
        Self { shape: Shape::Anthropic, ..self }
    }
}

/// Returns every row: the door's own, then those of the rooms behind it.
pub fn routes(app: &Arc<App>) -> Vec<Route> {
    contents(app).into_iter().chain(app.mounted.iter().cloned()).collect()
}

pub fn build(app: Arc<App>) -> Router {
    let add = |router: Router, route: Route| {
        let door =
            Door { app: app.clone(), admission: route.admission, path: route.path, shape: route.shape };
        router.route(route.path, route.handler.route_layer(from_fn_with_state(door, pass)))
    };
    routes(&app)
        .into_iter()
        .fold(Router::new(), add)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app, visit::remember))
}

#[derive(Clone)]
struct Door {
    app: Arc<App>,
    admission: Admission,
    path: &'static str,
    shape: Shape,
}

async fn pass(State(door): State<Door>, request: Request, next: Next) -> Response {
    let shape = door.shape;
    let response = enter(door, request, next).await;
    match shape {
        Shape::Openai => response,
        Shape::Anthropic => refusal::in_anthropics_words(response),
    }
}

async fn enter(door: Door, mut request: Request, next: Next) -> Response {
    match who::admit(&door.app, door.admission, door.path, request.headers()).await {
        Err(refusal) => refusal.into_response(),
        Ok(None) => next.run(request).await,
        Ok(Some(caller)) => {
            if let Some(visit) = request.extensions().get::<Arc<Visit>>() {
                visit.account(&caller.account);
            }
            // The rooms behind the door know keys, and not callers.
            if let Some(key) = caller.key.clone() {
                request.extensions_mut().insert(key);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
    }
}

async fn no_such_path(request: Request) -> Response {
    match with_version(request.uri()) {
        Some(versioned) => Redirect::permanent(&versioned).into_response(),
        None => Refusal::NoSuchPath { path: shown_path(request.uri().path()) }.into_response(),
    }
}

/// A path of the admin API that names no version leads to the same in the only one there is.
fn with_version(uri: &Uri) -> Option<String> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/admin/")?;
    (!rest.starts_with("v1/")).then(|| format!("/admin/v1/{rest}"))
}

async fn no_such_method(request: Request) -> Refusal {
    let path = shown_path(request.uri().path());
    Refusal::NoSuchMethod { method: request.method().clone(), path }
}
