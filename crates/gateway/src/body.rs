//! How is a request's body read, within its bounds of bytes and time?

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use dialect::BadRequest;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt;
use tokio::sync::SemaphorePermit;

use crate::app::App;
use crate::guard::off_thread;
use crate::refusal::Refusal;

/// A whole body, and its share of the memory for bodies, which is given back when this is dropped.
pub struct WholeBody<'a> {
    bytes: Bytes,
    _share: SemaphorePermit<'a>,
}

/// Returns the whole body, or why it cannot be had.
pub async fn read<'a>(app: &'a App, headers: &HeaderMap, body: Body) -> Result<WholeBody<'a>, Refusal> {
    let limit = app.limits.body_timeout;
    let reading = async {
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > app.limits.body_bytes as u64) {
            // Who asks before sending is told before sending.
            let rest = if headers.contains_key(EXPECT) { Body::empty() } else { body };
            return Err(too_large(app, rest).await);
        }
        collect(app, body, announced.unwrap_or(0) as usize).await
    };
    tokio::time::timeout(limit, reading).await.unwrap_or(Err(Refusal::BodyTooSlow { limit }))
}

impl WholeBody<'_> {
    /// Returns the bytes as they came.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Returns what `read` makes of the bytes: large bodies are understood on a thread that may block.
    pub async fn understood<T: Send + 'static>(
        self,
        app: &App,
        read: fn(&[u8]) -> Result<T, BadRequest>,
    ) -> Result<T, Refusal> {
        let bytes = self.bytes.clone();
        let is_long = bytes.len() > app.limits.parse_inline_bytes;
        Ok(off_thread(app, is_long, move || read(&bytes)).await??)
    }
}

async fn collect(app: &App, mut body: Body, announced_bytes: usize) -> Result<WholeBody<'_>, Refusal> {
    let mut share = share(app, announced_bytes)?;
    let mut paid_bytes = announced_bytes;
    // Paid in advance, taken as it comes: an announced length alone must not take memory.
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else { continue };
        if bytes.len() + data.len() > app.limits.body_bytes {
            return Err(too_large(app, body).await);
        }
        bytes.extend_from_slice(&data);
        if bytes.len() > paid_bytes {
            share.merge(self::share(app, bytes.len() - paid_bytes)?);
            paid_bytes = bytes.len();
        }
    }
    Ok(WholeBody { bytes: bytes.freeze(), _share: share })
}

fn share(app: &App, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
    let full = |_| Refusal::BodiesFull { retry_after: app.limits.retry_after };
    app.bodies.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX)).map_err(full)
}

/// Throws the rest away, as far as is bearable: most clients hear an answer only after they have sent everything.
async fn too_large(app: &App, mut body: Body) -> Refusal {
    let mut thrown_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        thrown_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if thrown_bytes > app.limits.discarded_bytes {
            break;
        }
    }
    Refusal::BodyTooLarge { limit_bytes: app.limits.body_bytes }
}
