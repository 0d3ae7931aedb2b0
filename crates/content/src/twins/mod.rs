//! Who else asks the same at this moment? The first leads; the others follow what it is told, from the start.
//!
//! ```text
//!   join ─▶ Lead ── say, say, … ─┬─ finish ──▶ followers: all events, then Finished
//!      └──▶ Follow               ├─ fail ────▶ followers: Failed with the leader's failure
//!                                └─ dropped ─▶ a follower that was given nothing yet: Lead, or follows whoever does
//!                                              a follower that was given something: Left, never a clean end
//! ```
//!
//! `F` is whatever the gateway calls a failure. A leader never waits for its followers. Whoever keeps answers puts this one
//! into the cache before the leader finishes, so that who comes in between finds one or the other.

mod log;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::{AnswerEvent, Usage};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::log::{End, Log, Read};
use crate::{AskKey, MadeBy};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinOptions {
    /// All logs together; beyond it, requests are led alone.
    pub bytes_max: usize,
    /// One log; a longer answer takes no more followers, and keeps only what the slowest has not had.
    pub answer_bytes_max: usize,
    /// Who may follow one leader; more lead for themselves.
    pub followers_max: usize,
}

/// A token of text is an event of some 150 bytes: 2 MiB hold about 14,000 tokens, and 64 MiB as many answers as one server
/// gives at once.
impl Default for TwinOptions {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, answer_bytes_max: 2 << 20, followers_max: 1_024 }
    }
}

/// Cheap to clone.
#[derive(Debug)]
pub struct Twins<F> {
    shared: Arc<Shared<F>>,
}

#[derive(Debug)]
pub enum Joined<F> {
    Lead(Leader<F>),
    Follow(Follower<F>),
}

/// Dropped without [`Leader::finish`] or [`Leader::fail`], it has left: its client went, or its task ended.
#[derive(Debug)]
pub struct Leader<F> {
    twins: Twins<F>,
    flight: Arc<Flight<F>>,
}

#[derive(Debug)]
pub struct Follower<F> {
    twins: Twins<F>,
    flight: Arc<Flight<F>>,
    number: u64,
    changed: watch::Receiver<()>,
}

/// What comes next for a follower. After anything but `Event` nothing comes, but for the leader's own words in `Lead`.
#[derive(Debug)]
pub enum Step<F> {
    Event(Arc<AnswerEvent>),
    /// The answer is whole; this is what it took the leader.
    Finished(Usage),
    /// The leader failed, and so would everyone who asks this.
    Failed(F),
    /// The leader left, or said more than could be kept for this follower, when part of the answer was given already.
    Left,
    /// The leader left before this follower was given anything: it leads now.
    Lead(Leader<F>),
}

#[derive(Debug)]
struct Shared<F> {
    options: TwinOptions,
    /// Who leads each question that is being answered: one entry for each request under way, so bounded as those are.
    flights: Mutex<HashMap<AskKey, Arc<Flight<F>>>>,
    /// Of all logs.
    bytes: AtomicUsize,
}

#[derive(Debug)]
struct Flight<F> {
    key: AskKey,
    /// Locked after the table of flights, where both are.
    log: Mutex<Log<F>>,
    /// Says that the log has changed. It counts, so whoever looks first and waits then misses nothing.
    changed: watch::Sender<()>,
}

impl<F> Twins<F> {
    pub fn new(options: TwinOptions) -> Self {
        let (flights, bytes) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
        Self { shared: Arc::new(Shared { options, flights, bytes }) }
    }

    /// Returns the lead of this question, or a place among those who follow whoever has it.
    pub fn join(&self, key: AskKey) -> Joined<F> {
        let mut flights = self.shared.flights.lock();
        if let Some(flight) = flights.get(&key) {
            let mut log = flight.log.lock();
            if let Some(number) = log.join(self.shared.options.followers_max) {
                drop(log);
                let (flight, changed) = (flight.clone(), flight.changed.subscribe());
                return Joined::Follow(Follower { twins: self.clone(), flight, number, changed });
            }
        }
        let (changed, _) = watch::channel(());
        let flight = Arc::new(Flight { key, log: Mutex::new(Log::new()), changed });
        // One that takes nobody any more is followed by those it has; the next to come follow this one.
        flights.insert(key, flight.clone());
        Joined::Lead(Leader { twins: self.clone(), flight })
    }

    /// Returns what all logs take.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Lets something happen to a log, and counts what it takes then.
    fn change<T>(&self, flight: &Flight<F>, change: impl FnOnce(&mut Log<F>) -> T) -> T {
        let mut log = flight.log.lock();
        let before = log.bytes();
        let result = change(&mut log);
        let after = log.bytes();
        self.shared.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        result
    }
}

impl<F> Clone for Twins<F> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<F> Leader<F> {
    /// Says who makes the answer, before the first event.
    pub fn made_by(&self, made_by: MadeBy) {
        self.flight.log.lock().made_by = Some(Arc::new(made_by));
    }

    pub fn say(&self, event: &AnswerEvent) {
        let TwinOptions { bytes_max, answer_bytes_max, .. } = self.twins.shared.options;
        self.twins.change(&self.flight, |log| {
            let others = self.twins.bytes().saturating_sub(log.bytes());
            let is_too_much =
                |log: &Log<F>| log.bytes() > answer_bytes_max || others + log.bytes() > bytes_max;
            log.say(event);
            // First those who are not here yet, then those who are slow.
            if is_too_much(log) {
                log.close();
            }
            if is_too_much(log) {
                log.end(End::Gone);
            }
        });
        self.flight.changed.send_replace(());
    }

    pub fn finish(self, usage: Usage) {
        self.end(End::Finished(usage));
    }

    /// Tells all followers at once, whatever they were given: asking again would fail again. A failure that would not is told
    /// by dropping the leader.
    pub fn fail(self, failure: F) {
        self.end(End::Failed(failure));
    }

    fn end(&self, end: End<F>) {
        let mut flights = self.twins.shared.flights.lock();
        if flights.get(&self.flight.key).is_some_and(|known| Arc::ptr_eq(known, &self.flight)) {
            flights.remove(&self.flight.key);
        }
        self.twins.change(&self.flight, |log| log.end(end));
        drop(flights);
        self.flight.changed.send_replace(());
    }
}

impl<F> Drop for Leader<F> {
    fn drop(&mut self) {
        // After another end this one changes nothing.
        self.end(End::Gone);
    }
}

impl<F: Clone> Follower<F> {
    /// Waits for what comes next. May be given up and called again: nothing is lost.
    pub async fn next(&mut self) -> Step<F> {
        loop {
            match self.twins.change(&self.flight, |log| log.read(self.number)) {
                Read::Event(event) => return Step::Event(event),
                Read::Finished(usage) => return Step::Finished(usage),
                Read::Failed(failure) => return Step::Failed(failure),
                Read::Gone { was_given: true } => return Step::Left,
                Read::Gone { was_given: false } => match self.twins.join(self.flight.key) {
                    Joined::Lead(leader) => return Step::Lead(leader),
                    Joined::Follow(next) => *self = next,
                },
                // The sender is in the flight that this follower holds.
                Read::Wait => self.changed.changed().await.expect("a flight outlives its followers"),
            }
        }
    }
}

impl<F> Follower<F> {
    /// Returns who makes the answer, as far as the leader has said.
    pub fn made_by(&self) -> Option<Arc<MadeBy>> {
        self.flight.log.lock().made_by.clone()
    }
}

impl<F> Drop for Follower<F> {
    fn drop(&mut self) {
        self.twins.change(&self.flight, |log| log.leave(self.number));
    }
}
