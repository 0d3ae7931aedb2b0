//! Who waits for the answer, and in which form does it reach them?

use axum::body::Body;
use axum::response::Response;
use dialect::openai::{FinishReason, Head};
use domain::Usage;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use super::outlet::{self, Deaf, Outlet};
use super::voice::{Growing, Piece, Whole};
use crate::app::App;
use crate::guard::Order;
use crate::refusal::Refusal;
use crate::visit::Visit;

/// A comment of SSE: clients skip it, proxies see that the stream lives.
const PING: &[u8] = b": ping\n\n";

/// The way back to the handler that waits for a response.
pub type Told = oneshot::Sender<Result<Response, Refusal>>;

/// Whoever waits for the answer: a stream that takes it as it grows, or a single reply that takes it whole.
pub enum Listener {
    Growing { writer: Growing, outlet: Outlet, ready: Vec<u8>, ready_bytes_max: usize, ping: Box<Interval> },
    Whole { writer: Whole, told: Told, headers: Headers },
}

pub enum Stir {
    Gone,
    /// The stream has been silent for a while.
    PingTime,
}

type Headers = Vec<(HeaderName, HeaderValue)>;

impl Listener {
    pub fn new(app: &App, visit: &Visit, order: &Order, told: Told) -> Self {
        let head = Head {
            id: order.surface.answer_id(visit.id.as_str()),
            created: order.created,
            model: order.model.name.clone(),
            system_fingerprint: None,
        };
        let choices = order.choices_total() as u32;
        let headers = order.headers();
        if !order.ask.stream {
            return Self::Whole { writer: Whole::new(order.surface, head, choices), told, headers };
        }
        let (outlet, body) = outlet::open(&app.limits, app.metrics.open_streams.enter());
        // A client that has left is noticed by the outlet: its other end went with this response.
        let _ = told.send(Ok(events_response(body, headers)));
        let mut ping = tokio::time::interval(app.limits.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        Self::Growing {
            writer: Growing::new(order.surface, head, choices, order.ask.stream_usage),
            outlet,
            ready: Vec::new(),
            ready_bytes_max: app.limits.response_buffer_bytes / 4,
            ping: Box::new(ping),
        }
    }

    /// Returns when something is up at the client's side.
    pub async fn stir(&mut self) -> Stir {
        match self {
            Self::Growing { outlet, ping, .. } => tokio::select! {
                () = outlet.gone() => Stir::Gone,
                _ = ping.tick() => Stir::PingTime,
            },
            Self::Whole { told, .. } => {
                told.closed().await;
                Stir::Gone
            }
        }
    }

    pub fn ping(&mut self) {
        if let Self::Growing { outlet, .. } = self {
            outlet.offer(PING);
        }
    }

    pub fn say(&mut self, choice: u32, piece: Piece) {
        match self {
            Self::Growing { writer, ready, .. } => ready.append(&mut writer.delta(choice, piece)),
            Self::Whole { writer, .. } => writer.delta(choice, piece),
        }
    }

    pub fn finish(&mut self, choice: u32, reason: FinishReason) {
        match self {
            Self::Growing { writer, ready, .. } => ready.append(&mut writer.finish(choice, reason)),
            Self::Whole { writer, .. } => writer.finish(choice, reason),
        }
    }

    /// Whether enough waits here that it should leave before more is added.
    pub fn is_loaded(&self) -> bool {
        matches!(self, Self::Growing { ready, ready_bytes_max, .. } if ready.len() > *ready_bytes_max)
    }

    pub async fn flush(&mut self) -> Result<(), Deaf> {
        match self {
            Self::Growing { outlet, ready, ping, .. } if !ready.is_empty() => {
                ping.reset();
                outlet.send(std::mem::take(ready)).await
            }
            _ => Ok(()),
        }
    }

    /// Tells the end, good or bad. Nobody may be left to hear it.
    pub async fn end(
        mut self,
        refusal: Option<Refusal>,
        last_finish: Option<(u32, FinishReason)>,
        usage: Usage,
    ) {
        if let (None, Some((choice, reason))) = (&refusal, last_finish) {
            self.finish(choice, reason);
        }
        match self {
            Self::Growing { writer, outlet, mut ready, .. } => match refusal {
                None => {
                    ready.append(&mut writer.end(&usage));
                    let _ = outlet.send(ready).await;
                }
                // Whoever did not read until now is not waited for once more.
                Some(refusal) => {
                    ready.append(&mut writer.broken(&refusal.error_body()));
                    outlet.leave(ready);
                }
            },
            Self::Whole { writer, told, headers } => {
                let answer = match refusal {
                    Some(refusal) => Err(refusal),
                    None => Ok(json_response(writer.end(usage), headers)),
                };
                let _ = told.send(answer);
            }
        }
    }
}

fn events_response(body: Body, headers: Headers) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().extend(headers.into_iter().map(|(name, value)| (Some(name), value)));
    let fixed = [
        (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        // Asks nginx and its kin not to collect events before they pass them on.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    response.headers_mut().extend(fixed.map(|(name, value)| (Some(name), HeaderValue::from_static(value))));
    response
}

fn json_response(body: Vec<u8>, headers: Headers) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().extend(headers.into_iter().map(|(name, value)| (Some(name), value)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
