//! How do bytes reach a client that may read slowly, or no longer?

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;
use crate::metrics::LevelGuard;

/// The near end of a streamed body. What waits inside is bounded in bytes; its end is marked by dropping it.
pub struct Outlet {
    chunks: UnboundedSender<Chunk>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    patience: Duration,
}

/// Why nothing more can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deaf {
    /// The client, or its connection, is gone.
    Gone,
    /// The client has not read for as long as it may.
    Slow,
}

/// Bytes, with the room that they take until the connection asks for more.
struct Chunk(Bytes, OwnedSemaphorePermit);

/// Returns both ends; `open` counts the stream as long as the client's end lives.
pub fn open(limits: &Limits, open: LevelGuard) -> (Outlet, Body) {
    let (sender, chunks) = unbounded_channel();
    let room_bytes = limits.response_buffer_bytes;
    let room = Arc::new(Semaphore::new(room_bytes));
    let outlet = Outlet { chunks: sender, room, room_bytes, patience: limits.slow_reader_timeout };
    (outlet, Body::new(Inlet { chunks, last: None, _open: open }))
}

impl Outlet {
    /// Sends the bytes as soon as there is room for them.
    pub async fn send(&self, bytes: Vec<u8>) -> Result<(), Deaf> {
        if bytes.is_empty() {
            return Ok(());
        }
        let room = self.room.clone().acquire_many_owned(self.cost(&bytes));
        let room = tokio::select! {
            room = tokio::time::timeout(self.patience, room) => room.map_err(|_| Deaf::Slow)?,
            () = self.chunks.closed() => return Err(Deaf::Gone),
        };
        let room = room.expect("the room is never closed");
        self.chunks.send(Chunk(bytes.into(), room)).map_err(|_| Deaf::Gone)
    }

    /// Sends the bytes if there is room now: what is not worth waiting for.
    pub fn offer(&self, bytes: &'static [u8]) {
        if let Ok(room) = self.room.clone().try_acquire_many_owned(self.cost(bytes)) {
            let _ = self.chunks.send(Chunk(Bytes::from_static(bytes), room));
        }
    }

    /// Leaves these last words for a client that may never read them: there is room for one error, always.
    pub fn leave(self, bytes: Vec<u8>) {
        let no_room = self.room.clone().try_acquire_many_owned(0).expect("no room is always there");
        let _ = self.chunks.send(Chunk(bytes.into(), no_room));
    }

    /// Returns when the client is gone.
    pub async fn gone(&self) {
        self.chunks.closed().await;
    }

    /// A chunk larger than all the room takes all of it: it passes alone.
    fn cost(&self, bytes: &[u8]) -> u32 {
        bytes.len().min(self.room_bytes) as u32
    }
}

struct Inlet {
    chunks: UnboundedReceiver<Chunk>,
    /// Handed to the connection, but not yet followed by a request for more: it may still be waiting there.
    last: Option<OwnedSemaphorePermit>,
    _open: LevelGuard,
}

impl HttpBody for Inlet {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.last = None;
        let next = self.chunks.poll_recv(cx);
        next.map(|chunk| {
            chunk.map(|Chunk(bytes, room)| {
                self.last = Some(room);
                Ok(Frame::data(bytes))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::metrics::Level;

    const SOON: Duration = Duration::from_millis(20);
    /// Never over in a test that passes.
    const LATE: Duration = Duration::from_secs(60);

    fn outlet(room_bytes: usize, slow_reader_timeout: Duration) -> (Outlet, Body) {
        let limits = Limits { response_buffer_bytes: room_bytes, slow_reader_timeout, ..Limits::default() };
        open(&limits, Level::default().enter())
    }

    async fn read(body: &mut Body) -> Option<Bytes> {
        Some(body.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn what_waits_is_bounded_also_where_the_connection_has_it() {
        let (outlet, mut body) = outlet(10, SOON);
        outlet.send(vec![1; 6]).await.unwrap();
        assert_eq!(outlet.send(vec![2; 6]).await, Err(Deaf::Slow));
        assert_eq!(read(&mut body).await.unwrap(), vec![1; 6]);
        assert_eq!(outlet.send(vec![2; 6]).await, Err(Deaf::Slow), "nobody has asked for more yet");
    }

    #[tokio::test]
    async fn a_reader_makes_room() {
        let (outlet, mut body) = outlet(10, LATE);
        let all = tokio::spawn(async move {
            let mut bytes = 0;
            while let Some(chunk) = read(&mut body).await {
                bytes += chunk.len();
            }
            bytes
        });
        for _ in 0..100 {
            outlet.send(vec![3; 6]).await.unwrap();
        }
        drop(outlet);
        assert_eq!(all.await.unwrap(), 600);
    }

    #[tokio::test]
    async fn a_chunk_larger_than_all_the_room_passes_alone() {
        let (outlet, mut body) = outlet(4, SOON);
        outlet.send(vec![1; 100]).await.unwrap();
        outlet.offer(b"dropped, for want of room");
        assert_eq!(read(&mut body).await.unwrap().len(), 100);
        outlet.leave(b"an error".to_vec());
        assert_eq!(read(&mut body).await.unwrap(), b"an error".as_slice());
        assert_eq!(read(&mut body).await, None);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_noticed() {
        let (outlet, body) = outlet(4, LATE);
        outlet.send(vec![1; 4]).await.unwrap();
        drop(body);
        outlet.gone().await;
        assert_eq!(outlet.send(vec![2; 4]).await, Err(Deaf::Gone));
    }
}
