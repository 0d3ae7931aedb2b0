//! Who waits for the answer, and in which form does it reach them?

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use dialect::{Form, Head, Writer};
use domain::{Answer, AnswerEvent, Delta, Finish, UsageReport};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use super::outlet::{self, Deaf, Outlet};
use crate::app::App;
use crate::refusal::Refusal;

/// The way back to the handler that waits for a response.
pub type Told = oneshot::Sender<Result<Response, Refusal>>;

/// Whoever waits for the answer: a stream that takes it as it grows, or a single reply that takes it whole.
pub enum Listener {
    Growing {
        writer: Box<dyn Writer>,
        outlet: Outlet,
        ready: Vec<u8>,
        ready_bytes_max: usize,
        ping: Box<Interval>,
    },
    Whole {
        form: Arc<dyn Form>,
        head: Head,
        answer: Answer,
        told: Told,
        headers: Headers,
    },
}

pub enum Stir {
    Gone,
    /// The stream has been silent for a while.
    PingTime,
}

pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// What a listener must know of the request.
pub struct Wish {
    pub form: Arc<dyn Form>,
    pub head: Head,
    pub choices: u32,
    pub stream: bool,
    pub headers: Headers,
}

/// How an answer that is complete is told.
pub enum Closing {
    /// In the client's dialect, after the finish of the choice that ended last.
    Written { last_finish: Option<(u32, Finish)>, report: UsageReport },
    /// In the upstream's own bytes: the rest of a stream, or a whole body.
    Passed(Vec<u8>),
}

impl Listener {
    /// Opens a stream at once; a whole answer's beginning is its end.
    pub fn new(app: &App, wish: Wish, told: Told) -> Self {
        let Wish { form, head, choices, stream, headers } = wish;
        if !stream {
            let answer = Answer { choices: vec![Default::default(); choices as usize], ..Answer::default() };
            return Self::Whole { form, head, answer, told, headers };
        }
        let (outlet, body) = outlet::open(&app.limits, app.metrics.open_streams.enter());
        // A client that has left is noticed by the outlet: its other end went with this response.
        let _ = told.send(Ok(events_response(body, headers)));
        let mut ping = tokio::time::interval(app.limits.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        Self::Growing {
            writer: form.writer(head, choices),
            outlet,
            ready: Vec::new(),
            ready_bytes_max: app.limits.response_buffer_bytes / 4,
            ping: Box::new(ping),
        }
    }

    /// Says what stands before an answer in the client's dialect; for answers that are not passed on as they come.
    pub fn open(&mut self) {
        if let Self::Growing { writer, ready, .. } = self {
            ready.append(&mut writer.open());
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
        if let Self::Growing { outlet, writer, .. } = self {
            outlet.offer(writer.ping());
        }
    }

    pub fn say(&mut self, choice: u32, deltas: Vec<Delta>) {
        match self {
            Self::Growing { writer, ready, .. } => ready.append(&mut writer.delta(choice, &deltas)),
            Self::Whole { answer, .. } => {
                deltas.into_iter().for_each(|delta| answer.fold(AnswerEvent::Delta { choice, delta }));
            }
        }
    }

    /// Passes on what the upstream wrote, as it came; a whole body is passed on at its end.
    pub fn pass(&mut self, bytes: &[u8]) {
        if let Self::Growing { ready, .. } = self {
            ready.extend_from_slice(bytes);
        }
    }

    pub fn finish(&mut self, choice: u32, finish: Finish) {
        match self {
            Self::Growing { writer, ready, .. } => ready.append(&mut writer.finish(choice, &finish)),
            Self::Whole { answer, .. } => answer.fold(AnswerEvent::Finished { choice, finish }),
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

    /// Adds a header that is only known at the end; a stream's headers have left long ago.
    pub fn add_header(&mut self, name: HeaderName, value: HeaderValue) {
        if let Self::Whole { headers, .. } = self {
            headers.push((name, value));
        }
    }

    /// Tells the good end. Nobody may be left to hear it.
    pub async fn close(mut self, closing: Closing) {
        if let Closing::Written { last_finish: Some((choice, finish)), .. } = &closing {
            self.finish(*choice, finish.clone());
        }
        match self {
            Self::Growing { writer, outlet, mut ready, .. } => {
                ready.append(&mut match closing {
                    Closing::Written { report, .. } => writer.end(&report),
                    Closing::Passed(rest) => rest,
                });
                let _ = outlet.send(ready).await;
            }
            Self::Whole { form, head, answer, told, headers } => {
                let body = match closing {
                    Closing::Written { report, .. } => form.whole(&head, &answer, &report),
                    Closing::Passed(body) => body,
                };
                let _ = told.send(Ok(json_response(body, headers)));
            }
        }
    }

    /// Tells the bad end. Whoever did not read until now is not waited for once more.
    pub fn break_off(self, refusal: Refusal) {
        match self {
            Self::Growing { writer, outlet, mut ready, .. } => {
                ready.append(&mut writer.broken(&refusal.trouble()));
                outlet.leave(ready);
            }
            Self::Whole { told, .. } => {
                let _ = told.send(Err(refusal));
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
