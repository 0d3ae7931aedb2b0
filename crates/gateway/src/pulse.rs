//! Is a connection alive, or does somebody only hold its place?
//!
//! One rule for every state that HTTP/1 and HTTP/2 know, by watching bytes and requests from outside:
//! ```text
//! no request, no byte yet ──▶ a first byte came ──▶ request under way ──▶ none under way (again)
//!   header_timeout (new),       header_timeout        no bound here         idle_timeout
//!   idle_timeout (used)                               but for writes that the client does not take: slow_reader_timeout
//! ```

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::Limits;

/// Why a connection is closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nothing under way and nothing asked.
    Idle,
    /// A request that began and does not come to the end of its headers.
    SlowHeader,
    /// Bytes wait for a client that does not read.
    SlowReader,
}

pub struct Pulse {
    header_timeout: Duration,
    idle_timeout: Duration,
    slow_reader_timeout: Duration,
    state: Mutex<State>,
}

struct State {
    under_way: usize,
    /// When the last request ended; a new connection counts as ended by its birth.
    resting_since: Instant,
    /// Whether any request has come; until then, silence is bounded like a header.
    is_used: bool,
    /// When the first byte came that belongs to no request yet.
    header_since: Option<Instant>,
    write_blocked_since: Option<Instant>,
}

/// One request under way, from its headers to the end of its answer.
pub struct Exchange(Arc<Pulse>);

impl Pulse {
    pub fn new(limits: &Limits) -> Self {
        Self {
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            slow_reader_timeout: limits.slow_reader_timeout,
            state: Mutex::new(State {
                under_way: 0,
                resting_since: Instant::now(),
                is_used: false,
                header_since: None,
                write_blocked_since: None,
            }),
        }
    }

    pub fn begin(pulse: &Arc<Pulse>) -> Exchange {
        let mut state = pulse.state.lock();
        state.under_way += 1;
        state.is_used = true;
        state.header_since = None;
        drop(state);
        Exchange(pulse.clone())
    }

    /// How often to look: late by a tenth of the shortest bound at most, and never more than 20 times a second.
    pub fn interval(&self) -> Duration {
        let shortest = self.header_timeout.min(self.idle_timeout).min(self.slow_reader_timeout);
        (shortest / 10).max(Duration::from_millis(50))
    }

    /// Returns for which silence the connection should be closed at this moment, if for any.
    pub fn silence(&self, now: Instant) -> Option<Silence> {
        let state = self.state.lock();
        let is_over = |since: Instant, bound: Duration| now.saturating_duration_since(since) > bound;
        if state.write_blocked_since.is_some_and(|since| is_over(since, self.slow_reader_timeout)) {
            return Some(Silence::SlowReader);
        }
        if state.under_way > 0 {
            return None;
        }
        if state.header_since.is_some_and(|since| is_over(since, self.header_timeout)) {
            return Some(Silence::SlowHeader);
        }
        let rest = if state.is_used { self.idle_timeout } else { self.header_timeout };
        is_over(state.resting_since, rest).then_some(Silence::Idle)
    }

    fn read(&self) {
        let mut state = self.state.lock();
        if state.under_way == 0 && state.header_since.is_none() {
            state.header_since = Some(Instant::now());
        }
    }

    fn written(&self, is_blocked: bool) {
        let mut state = self.state.lock();
        match is_blocked {
            true => {
                state.write_blocked_since.get_or_insert_with(Instant::now);
            }
            false => state.write_blocked_since = None,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.under_way -= 1;
        state.resting_since = Instant::now();
    }
}

/// A socket whose bytes are felt by its pulse.
pub struct Watched<S> {
    socket: S,
    pulse: Arc<Pulse>,
}

impl<S> Watched<S> {
    pub fn new(socket: S, pulse: Arc<Pulse>) -> Self {
        Self { socket, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.pulse.written(written.is_pending());
        written
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.pulse.written(written.is_pending());
        written
    }
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults: 10 s for a header, 75 s of rest, 30 s for a reader. What the test itself takes is nothing beside them.
    fn pulse() -> Arc<Pulse> {
        Arc::new(Pulse::new(&Limits::default()))
    }

    fn after(pulse: &Pulse, seconds: u64) -> Option<Silence> {
        pulse.silence(Instant::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn a_new_connection_may_be_silent_as_long_as_a_header_takes() {
        let pulse = pulse();
        assert_eq!(after(&pulse, 9), None);
        assert_eq!(after(&pulse, 11), Some(Silence::Idle));
    }

    #[test]
    fn a_header_must_end_and_a_request_under_way_may_take_its_time() {
        let pulse = pulse();
        pulse.read();
        assert_eq!(after(&pulse, 9), None);
        assert_eq!(after(&pulse, 11), Some(Silence::SlowHeader));
        let exchange = Pulse::begin(&pulse);
        assert_eq!(after(&pulse, 10_000), None);
        drop(exchange);
        assert_eq!(after(&pulse, 74), None, "between requests the longer bound holds");
        assert_eq!(after(&pulse, 76), Some(Silence::Idle));
    }

    #[test]
    fn bytes_that_nobody_takes_are_waited_for_so_long() {
        let pulse = pulse();
        let _exchange = Pulse::begin(&pulse);
        pulse.written(true);
        assert_eq!(after(&pulse, 29), None);
        assert_eq!(after(&pulse, 31), Some(Silence::SlowReader));
        pulse.written(false);
        assert_eq!(after(&pulse, 31), None);
    }
}
