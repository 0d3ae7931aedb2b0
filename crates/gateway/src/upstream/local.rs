//! How does one engine's single message a step become one stream of events per request?
//!
//! ```text
//! start(works) ─▶ EnginePort::submit        engine thread: Outbox::deliver ─▶ routes[key] ─▶ WorkStream::next
//! ```
//!
//! A request's works share one queue. It needs no bound of its own, because the works have one: a work produces at most
//! `max_output_tokens` tokens of 48 bytes each, plus 8 bytes for each alternative (at most 20): 10 MiB for 50,000 tokens
//! with all alternatives, 2.3 MiB without; and a reader who falls behind is cut after `Limits::slow_reader_timeout`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use domain::{EnginePort, EngineStatus, StepEvent, SubmitError, Work, WorkEvent, WorkKey};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Returns both ends of the way that events take: give the outbox to the engine, the inbox to the upstream.
pub fn exchange() -> (Outbox, Inbox) {
    let routes = Arc::new(Routes::default());
    (Outbox(routes.clone()), Inbox(routes))
}

/// The engine's end. Dropping it tells every open stream that no more events will come.
pub struct Outbox(Arc<Routes>);

/// The upstream's end.
pub struct Inbox(Arc<Routes>);

/// An engine, seen from the door.
pub struct LocalUpstream {
    engine: Arc<dyn EnginePort>,
    routes: Arc<Routes>,
}

/// The events of one request's works, each with its choice. Dropping it cancels whatever has not ended.
pub struct WorkStream {
    engine: Arc<dyn EnginePort>,
    events: UnboundedReceiver<StepEvent>,
    open: HashSet<WorkKey>,
}

#[derive(Default)]
struct Routes(Mutex<RoutesInner>);

#[derive(Default)]
struct RoutesInner {
    /// As many as there are works that have not ended: bounded by the engine's places.
    by_key: HashMap<WorkKey, UnboundedSender<StepEvent>>,
    /// The engine's end is gone, so nothing new may wait for it.
    is_closed: bool,
}

impl Outbox {
    /// Hands each event to the request that waits for it. Never blocks, so the engine's thread may call it every step.
    pub fn deliver(&self, events: Vec<StepEvent>) {
        let mut routes = self.0.0.lock();
        for event in events {
            let ended = matches!(event.event, WorkEvent::Ended { .. });
            // Nobody to receive it: the work was cancelled, and this is what was on its way.
            if let Some(route) = routes.by_key.get(&event.key) {
                let key = ended.then(|| event.key.clone());
                let _ = route.send(event);
                if let Some(key) = key {
                    routes.by_key.remove(&key);
                }
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut routes = self.0.0.lock();
        routes.is_closed = true;
        routes.by_key.clear();
    }
}

impl LocalUpstream {
    pub fn new(engine: Arc<dyn EnginePort>, inbox: Inbox) -> Self {
        Self { engine, routes: inbox.0 }
    }

    /// Returns the stream of these works' events once the engine has taken all of them; none runs if one is refused.
    pub fn start(&self, works: Vec<Work>) -> Result<WorkStream, SubmitError> {
        let (sender, events) = unbounded_channel();
        let mut stream = WorkStream { engine: self.engine.clone(), events, open: HashSet::new() };
        for work in works {
            let key = work.key.clone();
            // Before the engine knows of it: its first event may be faster than our next line.
            self.routes.open(key.clone(), sender.clone())?;
            if let Err(refusal) = self.engine.submit(work) {
                self.routes.close(&key);
                return Err(refusal);
            }
            stream.open.insert(key);
        }
        Ok(stream)
    }

    pub fn status(&self) -> EngineStatus {
        self.engine.status()
    }

    /// Whether an engine is behind this upstream that can still send events.
    pub fn is_alive(&self) -> bool {
        !self.routes.0.lock().is_closed
    }

    /// Returns how many works have been given to the engine and have not ended.
    pub fn open_works(&self) -> usize {
        self.routes.0.lock().by_key.len()
    }
}

impl WorkStream {
    /// Returns the next event, or nothing when all works have ended or the engine is gone: see [`Self::is_finished`].
    pub async fn next(&mut self) -> Option<StepEvent> {
        if self.open.is_empty() {
            return None;
        }
        let event = self.events.recv().await;
        self.note(event)
    }

    /// Returns what has already arrived, without waiting for more.
    pub fn next_ready(&mut self) -> Option<StepEvent> {
        let event = self.events.try_recv().ok();
        self.note(event)
    }

    /// Ends one work; its last event still comes.
    pub fn cancel(&self, key: &WorkKey) {
        if self.open.contains(key) {
            self.engine.cancel(key);
        }
    }

    pub fn cancel_all(&self) {
        self.open.iter().for_each(|key| self.engine.cancel(key));
    }

    /// Whether every work has sent its last event.
    pub fn is_finished(&self) -> bool {
        self.open.is_empty()
    }

    fn note(&mut self, event: Option<StepEvent>) -> Option<StepEvent> {
        if let Some(StepEvent { key, event: WorkEvent::Ended { .. } }) = &event {
            self.open.remove(key);
        }
        event
    }
}

impl Drop for WorkStream {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

impl Routes {
    fn open(&self, key: WorkKey, route: UnboundedSender<StepEvent>) -> Result<(), SubmitError> {
        let mut routes = self.0.lock();
        if routes.is_closed {
            return Err(SubmitError::Dead("its thread has ended".into()));
        }
        let previous = routes.by_key.insert(key, route);
        assert!(previous.is_none(), "a work's key is never used twice");
        Ok(())
    }

    fn close(&self, key: &WorkKey) {
        self.0.lock().by_key.remove(key);
    }
}
