//! How do servers share answers through a Redis (or Valkey) that may be slow, dead, or gone at any moment?
//!
//! Nobody ever waits for a connection: it is made in the background, and until then every question is a miss. A question
//! waits for its answer for some tens of milliseconds; three such in a row, and Redis is left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::time::{Instant, timeout};

use super::breaker::{Breaker, Leave};
use super::{BadRedisUrl, RedisOptions};
use crate::AskKey;
use crate::events::{RedisFound, RedisLost};

#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    get_wait_max: Duration,
    value_bytes_max: usize,
    link: Mutex<Link>,
    /// Of answers on their way there, at most [`ON_THE_WAY_MAX`].
    on_the_way_bytes: AtomicUsize,
    failures: AtomicUsize,
    skipped: AtomicUsize,
}

struct Link {
    breaker: Breaker,
    connection: Option<MultiplexedConnection>,
    /// Whether the loss was told.
    is_lost: bool,
}

/// Answers that wait to be written; more are not put there.
const ON_THE_WAY_MAX: usize = 8 << 20;
/// Nobody waits for these.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
const PUT_WAIT_MAX: Duration = Duration::from_secs(1);
/// With the version of what is kept: another is another key.
const PREFIX: &str = "baseload:answer:1:";

impl Redis {
    pub fn new(options: RedisOptions) -> Result<Self, BadRedisUrl> {
        let RedisOptions { url, get_wait_max, value_bytes_max } = options;
        let client = Client::open(url).map_err(|error| BadRedisUrl(error.category().to_owned()))?;
        let link = Link { breaker: Breaker::new(Instant::now()), connection: None, is_lost: false };
        let redis = Self {
            shared: Arc::new(Shared {
                client,
                get_wait_max,
                value_bytes_max,
                link: Mutex::new(link),
                on_the_way_bytes: AtomicUsize::new(0),
                failures: AtomicUsize::new(0),
                skipped: AtomicUsize::new(0),
            }),
        };
        // The first question should find a connection.
        redis.connection();
        Ok(redis)
    }

    /// Returns what is kept there.
    pub async fn get(&self, key: &AskKey) -> Option<Vec<u8>> {
        let mut connection = self.asked_connection()?;
        // No more than we would have put there, whoever put it there.
        let mut ask = redis::cmd("GETRANGE");
        ask.arg(name(key)).arg(0).arg(self.shared.value_bytes_max);
        let asked = timeout(self.shared.get_wait_max, ask.query_async::<Vec<u8>>(&mut connection)).await;
        let value = self.heard(asked)?;
        (!value.is_empty() && value.len() <= self.shared.value_bytes_max).then_some(value)
    }

    /// Writes it in the background, if it is small enough and not too much is on the way already.
    pub fn put(&self, key: AskKey, value: &[u8], time_to_live: Duration) {
        let bytes = value.len();
        if bytes > self.shared.value_bytes_max {
            return;
        }
        let Some(mut connection) = self.asked_connection() else { return };
        let on_the_way = self.shared.on_the_way_bytes.fetch_add(bytes, Ordering::Relaxed);
        if on_the_way + bytes > ON_THE_WAY_MAX {
            self.shared.on_the_way_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (redis, value) = (self.clone(), value.to_vec());
        tokio::spawn(async move {
            let mut put = redis::cmd("SET");
            put.arg(name(&key)).arg(value).arg("PX").arg(time_to_live.as_millis().max(1) as u64);
            let put = timeout(PUT_WAIT_MAX, put.query_async::<()>(&mut connection)).await;
            redis.heard(put);
            redis.shared.on_the_way_bytes.fetch_sub(bytes, Ordering::Relaxed);
        });
    }

    /// Returns how many calls failed, and how many were not made.
    pub fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed) as u64;
        (read(&self.shared.failures), read(&self.shared.skipped))
    }

    fn asked_connection(&self) -> Option<MultiplexedConnection> {
        let connection = self.connection();
        if connection.is_none() {
            self.shared.skipped.fetch_add(1, Ordering::Relaxed);
        }
        connection
    }

    /// Returns the connection, if there is one; if it is time to make one, lets it be made.
    fn connection(&self) -> Option<MultiplexedConnection> {
        let mut link = self.shared.link.lock();
        match link.breaker.leave(Instant::now()) {
            Leave::Ask => link.connection.clone(),
            Leave::Connect => {
                tokio::spawn(self.clone().connect());
                None
            }
            Leave::Skip => None,
        }
    }

    async fn connect(self) {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(CONNECT_WAIT_MAX)
            .set_response_timeout(PUT_WAIT_MAX);
        let connecting = self.shared.client.get_multiplexed_async_connection_with_config(&config);
        match timeout(CONNECT_WAIT_MAX, connecting).await {
            Ok(Ok(connection)) => {
                let mut link = self.shared.link.lock();
                link.connection = Some(connection);
                link.breaker.connected();
                if std::mem::take(&mut link.is_lost) {
                    RedisFound.emit();
                }
            }
            Ok(Err(error)) => self.failed(error.category()),
            Err(_) => self.failed("no connection in time"),
        }
    }

    /// Returns what was answered, and counts whether something was.
    fn heard<T>(&self, answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>) -> Option<T> {
        match answer {
            Ok(Ok(answer)) => {
                self.shared.link.lock().breaker.succeeded();
                return Some(answer);
            }
            // Its category, never its words: those may repeat an address with its password.
            Ok(Err(error)) => self.failed(error.category()),
            Err(_) => self.failed("no answer in time"),
        }
        None
    }

    fn failed(&self, why: &str) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        let mut link = self.shared.link.lock();
        if link.breaker.failed(Instant::now()) {
            link.connection = None;
            if !std::mem::replace(&mut link.is_lost, true) {
                RedisLost { why }.emit();
            }
        }
    }
}

fn name(key: &AskKey) -> String {
    format!("{PREFIX}{key}")
}

/// The client knows a password.
impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("breaker", &self.shared.link.lock().breaker).finish_non_exhaustive()
    }
}
