//! How are connections taken, watched and, in the end, let go?
//!
//! ```text
//! accept ─▶ serve one connection ─▶ (router)          shutdown ─▶ drain: new work is refused, running answers go on
//!              └ watched by its Pulse                               └▶ cut: what still runs ends by name, is booked, told
//! ```
//! While it drains the server still accepts, so that whoever asks `/ready` hears 503 and not silence.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::app::App;
use crate::keeping::Keeping;
use crate::pulse::{Pulse, Silence, Watched};
use crate::{events, router};

/// How long the last bytes of a connection may take to leave once everything on it has ended.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Serves until `shutdown` completes, then drains, and returns when every answer has ended and is booked.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = Server::new(app);
    let closed = CancellationToken::new();
    let accepting = server.accept(listener, closed.clone());
    let draining = async {
        shutdown.await;
        server.drain().await;
        closed.cancel();
    };
    tokio::join!(accepting, draining);
    server.farewell().await;
    Ok(())
}

struct Server {
    app: Arc<App>,
    router: Router,
    http: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    /// Everything that could be told has been told: what is still open is dropped.
    dropped: CancellationToken,
}

impl Server {
    fn new(app: Arc<App>) -> Self {
        let limits = &app.limits;
        let mut http = auto::Builder::new(TokioExecutor::new());
        // The pulse watches silence in every state of a connection; hyper's own header timeout knows only some.
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(limits.connection_buffer_bytes);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection)
            .max_header_list_size(limits.connection_buffer_bytes as u32)
            .max_send_buf_size(limits.connection_buffer_bytes)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.slow_reader_timeout);
        Self {
            router: router::build(app.clone()),
            http,
            places: Arc::new(Semaphore::new(limits.connections)),
            connections: TaskTracker::new(),
            dropped: CancellationToken::new(),
            app,
        }
    }

    async fn accept(&self, listener: TcpListener, closed: CancellationToken) {
        loop {
            let place = self.places.clone().acquire_owned();
            let place = tokio::select! {
                () = closed.cancelled() => return,
                place = place => place.expect("the places are never closed"),
            };
            let accepted = tokio::select! {
                () = closed.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => self.spawn(socket, place),
                // Out of file handles, or a client that left while it waited: neither ends the server. The pause keeps a
                // lasting cause from becoming a busy loop.
                Err(error) => {
                    events::AcceptFailed { error: &error }.emit();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn spawn(&self, socket: TcpStream, place: OwnedSemaphorePermit) {
        // Tokens leave one by one; waiting to fill a packet would only delay them. A socket that refuses is served as is.
        let _ = socket.set_nodelay(true);
        let connection = Connection {
            app: self.app.clone(),
            router: self.router.clone(),
            http: self.http.clone(),
            dropped: self.dropped.clone(),
        };
        self.connections.spawn(async move {
            connection.serve(socket).await;
            drop(place);
        });
    }

    /// Refuses new work, and returns when what runs has ended or the time for it is over.
    async fn drain(&self) {
        events::DrainBegan { open: self.app.generations.len() }.emit();
        self.app.drain.cancel();
        self.app.generations.close();
        let _ = tokio::time::timeout(self.app.limits.drain, self.app.generations.wait()).await;
    }

    /// Ends what still runs, waits until it is booked and told, and closes every connection.
    async fn farewell(&self) {
        events::DrainEnded { cut: self.app.generations.len() }.emit();
        self.app.cut.cancel();
        let _ = tokio::time::timeout(self.app.limits.farewell, self.app.generations.wait()).await;
        self.connections.close();
        let _ = tokio::time::timeout(LAST_BYTES, self.connections.wait()).await;
        self.dropped.cancel();
        self.connections.wait().await;
    }
}

struct Connection {
    app: Arc<App>,
    router: Router,
    http: auto::Builder<TokioExecutor>,
    dropped: CancellationToken,
}

impl Connection {
    async fn serve(self, socket: TcpStream) {
        let _open = self.app.metrics.connections.enter();
        let pulse = Arc::new(Pulse::new(&self.app.limits));
        let answer = |request: Request<hyper::body::Incoming>| {
            let exchange = Pulse::begin(&pulse);
            let router = self.router.clone();
            async move {
                let response = router.oneshot(request.map(Body::new)).await?;
                Ok::<_, std::convert::Infallible>(response.map(|body| Keeping::new(body, exchange)))
            }
        };
        let io = TokioIo::new(Watched::new(socket, pulse.clone()));
        let mut connection = pin!(self.http.serve_connection(io, service_fn(answer)));
        let mut is_parting = false;
        let mut look = tokio::time::interval(pulse.interval());
        // Whoever comes during the drain comes to ask how it goes, and is answered; `visit` tells it to leave afterwards.
        let mut is_closing = self.app.drain.is_cancelled();
        loop {
            tokio::select! {
                // Whatever broke the connection broke it for this client alone; its requests have noticed themselves.
                _ = connection.as_mut() => return,
                () = self.dropped.cancelled() => return,
                () = self.app.drain.cancelled(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = look.tick() => match pulse.silence(Instant::now()) {
                    None => {}
                    // A last word, where the protocol has one, before the connection is dropped.
                    Some(silence) if silence != Silence::SlowReader && !is_parting => {
                        is_parting = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Some(silence) => {
                        self.app.metrics.connection_cut(silence);
                        return;
                    }
                }
            }
        }
    }
}
