//! Who else asks the same at this moment? The first leads; the others follow what it is told, from the start.
//!
//! ```text
//!   join ─▶ Lead ── say, say, … ─┬─ finish ──▶ followers: all events, then Finished
//!      └──▶ Follow               ├─ fail ────▶ followers: Failed with the leader's failure
//!                                └─ dropped ─▶ a follower that was given nothing yet: Lead, or follows whoever does
//!                                              a follower that was given something: Left, never a clean end
//! ```
//!
//! `F` is whatever the gateway calls a failure. A leader never waits for its followers.

use std::sync::Arc;

use domain::{AnswerEvent, Usage};

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

/// Cheap to clone.
#[derive(Debug)]
pub struct Twins<F> {
    state: Arc<F>,
}

#[derive(Debug)]
pub enum Joined<F> {
    Lead(Leader<F>),
    Follow(Follower<F>),
}

/// Dropped without [`Leader::finish`] or [`Leader::fail`], it has left: its client went, or its task ended.
#[derive(Debug)]
pub struct Leader<F> {
    state: Arc<F>,
}

#[derive(Debug)]
pub struct Follower<F> {
    state: Arc<F>,
}

/// What comes next for a follower. After anything but `Event` and `Lead` nothing comes.
#[derive(Debug)]
pub enum Step<F> {
    Event(Arc<AnswerEvent>),
    /// The answer is whole; this is what it took the leader.
    Finished(Usage),
    /// The leader failed, and so will everyone who asks this.
    Failed(F),
    /// The leader left, or said more than could be kept for this follower, when part of the answer was given already.
    Left,
    /// The leader left before this follower was given anything: it leads now.
    Lead(Leader<F>),
}

impl<F: Clone> Twins<F> {
    pub fn new(options: TwinOptions) -> Self {
        unimplemented!("{options:?}")
    }

    pub fn join(&self, key: AskKey) -> Joined<F> {
        unimplemented!("{key}")
    }
}

impl<F: Clone> Leader<F> {
    /// Says who makes the answer, before the first event.
    pub fn made_by(&self, made_by: MadeBy) {
        unimplemented!("{made_by:?}")
    }
    pub fn say(&self, event: &AnswerEvent) {
        unimplemented!("{event:?}")
    }
    pub fn finish(self, usage: Usage) {
        unimplemented!("{usage:?}")
    }
    pub fn fail(self, failure: F) {
        let _ = failure;
        unimplemented!()
    }
}

impl<F: Clone> Follower<F> {
    /// Waits for what comes next. May be given up and called again: nothing is lost.
    pub async fn next(&mut self) -> Step<F> {
        unimplemented!()
    }

    /// Who makes the answer, as far as the leader has said; always there once an event has come, if the leader kept to it.
    pub fn made_by(&self) -> Option<Arc<MadeBy>> {
        unimplemented!()
    }
}
