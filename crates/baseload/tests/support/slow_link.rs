//! A wire between two programs that can become slow, silent or cut, and well again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes bytes on to `target`, each piece of an answer after the delay that is set at that moment.
pub struct SlowLink {
    pub port: u16,
    delay_ms: Arc<AtomicU64>,
    _running: JoinSet<()>,
}

impl SlowLink {
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().unwrap().port();
        let delay_ms = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        running.spawn(accept(listener, SocketAddr::from(([127, 0, 0, 1], target)), delay_ms.clone()));
        Self { port, delay_ms, _running: running }
    }

    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, delay_ms: Arc<AtomicU64>) {
    let mut links = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let delay_ms = delay_ms.clone();
        links.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            let none = Arc::new(AtomicU64::new(0));
            tokio::select! {
                () = pump(near_read, far_write, none) => {}
                () = pump(far_read, near_write, delay_ms) => {}
            }
        });
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay_ms: Arc<AtomicU64>,
) {
    let mut piece = vec![0; 16 << 10];
    loop {
        let Ok(bytes @ 1..) = from.read(&mut piece).await else { return };
        tokio::time::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed))).await;
        if to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
}
