//! How do requests and answers of the admin API look on the wire, whatever they are about?

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use ledger::{KeyRecord, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

use super::desk::Actor;
use super::error::AdminError;

/// Bytes of a request: the largest, a price list of some hundred models, takes a tenth of it.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows of a page that nobody asked to be shorter, and of the longest.
pub const PAGE_DEFAULT: usize = 100;
pub const PAGE_MAX: usize = 1_000;

/// Some rows of a list, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// Ask again with this as `cursor` for what follows; `null` at the end of the list.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of `rows`, of which one more than `limit` was asked for, to know whether there is more.
    pub fn of<R>(
        rows: Vec<R>,
        limit: usize,
        cursor: impl Fn(&R) -> String,
        view: impl FnMut(R) -> T,
    ) -> Self {
        let has_more = rows.len() > limit;
        let mut rows = rows;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(cursor);
        Self { data: rows.into_iter().map(view).collect(), next_cursor }
    }
}

/// Returns how many rows are wanted, or why so many cannot be had.
pub fn page_limit(asked: Option<usize>) -> Result<usize, AdminError> {
    match asked {
        None => Ok(PAGE_DEFAULT),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(AdminError::bad("limit", format!("limit must be from 1 to {PAGE_MAX}"))),
    }
}

/// Reads `2026-11-20T23:13:05Z`.
pub fn instant(param: &str, text: &str) -> Result<Timestamp, AdminError> {
    let told = || format!("{param} must be an instant such as 2026-11-20T23:13:05Z");
    let at: jiff::Timestamp = text.parse().map_err(|_| AdminError::bad(param, told()))?;
    Ok(Timestamp::from_millis(at.as_millisecond()))
}

pub fn maybe_instant(param: &str, text: Option<&String>) -> Result<Option<Timestamp>, AdminError> {
    text.map(|text| instant(param, text)).transpose()
}

/// The key comes from the door, which has looked it up; without the door nobody is let in.
impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminError> {
        let key = parts.extensions.get::<Arc<KeyRecord>>().ok_or(AdminError::KeyMissing)?;
        Ok(Actor::holding(key))
    }
}

/// A body of JSON: strict, bounded in bytes and time. No body is an empty object.
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, _: &S) -> Result<Self, AdminError> {
        let body: Body = request.into_body();
        let reading = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX));
        let unread = |message: String| AdminError::BadRequest { param: None, message };
        let bytes = reading
            .await
            .map_err(|_| unread(format!("the body did not come within {} s", BODY_TIMEOUT.as_secs())))?
            .map_err(|_| unread(format!("the body broke off, or has more than {BODY_BYTES_MAX} bytes")))?;
        let text = if bytes.is_empty() { b"{}" } else { bytes.as_ref() };
        Ok(Self(serde_json::from_slice(text).map_err(|error| unread(error.to_string()))?))
    }
}

/// A query: strict as a body is.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let told = |error: QueryRejection| AdminError::BadRequest { param: None, message: error.body_text() };
        Ok(Self(read.map_err(told)?.0))
    }
}

/// The names in a path.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let told = |error: PathRejection| AdminError::BadRequest { param: None, message: error.body_text() };
        Ok(Self(read.map_err(told)?.0))
    }
}

/// An answer, as JSON.
pub struct Answer<T>(pub StatusCode, pub T);

impl<T> Answer<T> {
    pub fn ok(body: T) -> Self {
        Self(StatusCode::OK, body)
    }
    pub fn created(body: T) -> Self {
        Self(StatusCode::CREATED, body)
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.1).expect("an answer is plain data");
        let json = HeaderValue::from_static("application/json");
        (self.0, [(CONTENT_TYPE, json)], body).into_response()
    }
}

/// Reads a field that may be absent (leave it), `null` (take it away) or a value.
pub fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}
