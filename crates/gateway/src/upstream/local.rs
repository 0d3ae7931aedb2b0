//! How does one engine's single message a step become one stream of events per request?
//!
//! ```text
//! start(works) ─▶ EnginePort::submit        engine thread: Outbox::deliver ─▶ routes[key] ─▶ WorkStream::next
//! ```
//!
//! A request's works share one queue. It needs no bound of its own, because the works have one: a work produces at most
//! `max_output_tokens` tokens of 48 bytes each, plus 8 bytes for each alternative (at most 20): 10 MiB for 50,000 tokens
//! with all alternatives, 2.3 MiB without; and a reader who falls behind is cut after `Limits::slow_reader_timeout`.

use std::collections::HashMap;
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
    /// Works that have not ended, and whether they were cancelled: an engine hears that once.
    open: HashMap<WorkKey, IsCancelled>,
}

type IsCancelled = bool;

#[derive(Default)]
struct Routes(Mutex<RoutesInner>);

#[derive(Default)]
struct RoutesInner {
    /// As many as there are works that have not ended: bounded by the engine's places.
    by_key: HashMap<WorkKey, UnboundedSender<StepEvent>>,
    /// The engine's end is gone, so nothing new may wait for it.
    is_closed: bool,
}

const ENDED: &str = "its thread has ended";

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
        let mut stream = WorkStream { engine: self.engine.clone(), events, open: HashMap::new() };
        for work in works {
            let key = work.key.clone();
            // Before the engine knows of it: its first event may be faster than our next line.
            self.routes.open(key.clone(), sender.clone())?;
            if let Err(refusal) = self.engine.submit(work) {
                self.routes.close(&key);
                return Err(refusal);
            }
            stream.open.insert(key, false);
        }
        Ok(stream)
    }

    pub fn status(&self) -> EngineStatus {
        self.engine.status()
    }

    /// Returns why the engine will never answer again; nothing while it lives.
    pub fn death(&self) -> Option<String> {
        let is_closed = self.routes.0.lock().is_closed;
        self.engine.status().dead.or_else(|| is_closed.then(|| ENDED.to_owned()))
    }
}

impl WorkStream {
    /// Returns the next event, or nothing when all works have ended or the engine is gone.
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
    pub fn cancel(&mut self, key: &WorkKey) {
        if let Some(is_cancelled) = self.open.get_mut(key)
            && !std::mem::replace(is_cancelled, true)
        {
            self.engine.cancel(key);
        }
    }

    pub fn cancel_all(&mut self) {
        for (key, is_cancelled) in &mut self.open {
            if !std::mem::replace(is_cancelled, true) {
                self.engine.cancel(key);
            }
        }
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
            return Err(SubmitError::Dead(ENDED.to_owned()));
        }
        let previous = routes.by_key.insert(key, route);
        assert!(previous.is_none(), "a work's key is never used twice");
        Ok(())
    }

    fn close(&self, key: &WorkKey) {
        self.0.lock().by_key.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use domain::{Priority, Sampling, Tokens, WorkEnd, WorkUsage};

    use super::*;

    /// Takes so many works and remembers what it was told.
    struct Engine {
        places: AtomicUsize,
        cancelled: Mutex<Vec<WorkKey>>,
    }

    impl EnginePort for Engine {
        fn submit(&self, _: Work) -> Result<(), SubmitError> {
            let taken =
                self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            taken.map(|_| ()).map_err(|_| SubmitError::QueueFull { waiting: 1, limit: 1 })
        }
        fn cancel(&self, key: &WorkKey) {
            self.cancelled.lock().push(key.clone());
        }
        fn status(&self) -> EngineStatus {
            EngineStatus::default()
        }
    }

    fn upstream(places: usize) -> (LocalUpstream, Outbox, Arc<Engine>) {
        let engine = Arc::new(Engine { places: AtomicUsize::new(places), cancelled: Mutex::default() });
        let (outbox, inbox) = exchange();
        (LocalUpstream::new(engine.clone(), inbox), outbox, engine)
    }

    fn key(choice: u32) -> WorkKey {
        WorkKey { request: "req-1".into(), choice }
    }

    fn works(choices: u32) -> Vec<Work> {
        let work = |choice| Work {
            key: key(choice),
            tenant: "local".into(),
            priority: Priority::Standard,
            prompt: Tokens::new([1]).unwrap(),
            max_output_tokens: 1,
            sampling: Sampling::default(),
            stop_tokens: Arc::new([]),
            logprobs: None,
            prompt_logprobs: false,
        };
        (0..choices).map(work).collect()
    }

    fn started(choice: u32) -> StepEvent {
        StepEvent { key: key(choice), event: WorkEvent::Started { cached_tokens: 0 } }
    }

    fn ended(choice: u32) -> StepEvent {
        let event = WorkEvent::Ended { end: WorkEnd::Stop, usage: WorkUsage::default() };
        StepEvent { key: key(choice), event }
    }

    #[tokio::test]
    async fn a_stream_ends_after_the_last_event_of_its_last_work() {
        let (upstream, outbox, engine) = upstream(2);
        let mut stream = upstream.start(works(2)).unwrap();
        outbox.deliver(vec![started(1), ended(1), started(0)]);
        outbox.deliver(vec![ended(0), ended(0)]);
        for expected in [started(1), ended(1), started(0), ended(0)] {
            assert_eq!(stream.next().await, Some(expected));
        }
        assert_eq!(stream.next().await, None);
        drop(stream);
        assert!(engine.cancelled.lock().is_empty(), "nothing was left to cancel");
    }

    #[tokio::test]
    async fn dropping_a_stream_cancels_what_has_not_ended_and_each_work_once() {
        let (upstream, outbox, engine) = upstream(3);
        let mut stream = upstream.start(works(3)).unwrap();
        outbox.deliver(vec![ended(1)]);
        stream.next().await;
        stream.cancel(&key(0));
        drop(stream);
        let mut cancelled = engine.cancelled.lock().clone();
        cancelled.sort();
        assert_eq!(cancelled, [key(0), key(2)]);
        outbox.deliver(vec![ended(0), ended(2)]);
        assert!(upstream.routes.0.lock().by_key.is_empty(), "routes end with their works");
    }

    #[tokio::test]
    async fn all_of_a_requests_works_start_or_none_goes_on() {
        let (upstream, _outbox, engine) = upstream(1);
        let refused = upstream.start(works(2));
        assert!(matches!(refused, Err(SubmitError::QueueFull { .. })));
        assert_eq!(*engine.cancelled.lock(), [key(0)]);
    }

    #[tokio::test]
    async fn a_lost_engine_ends_streams_and_refuses_new_ones() {
        let (upstream, outbox, _engine) = upstream(9);
        let mut stream = upstream.start(works(1)).unwrap();
        drop(outbox);
        assert_eq!(stream.next().await, None);
        assert!(matches!(upstream.start(works(1)), Err(SubmitError::Dead(_))));
        assert!(upstream.death().is_some());
    }
}
