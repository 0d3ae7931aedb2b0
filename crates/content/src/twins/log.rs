//! What has one leader said so far, and how much of it does each follower still need?
//!
//! ```text
//!   events:   0 1 2 3 4 5 6 7        everything, as long as others may join
//!                 ▲     ▲            cursors of followers
//!   closed:       2 3 4 5 6 7        once nobody may join: from the slowest follower's cursor on
//! ```
//!
//! Pure: no lock, no waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use domain::{AnswerEvent, Delta, Finish, Scored, TokenScore, Usage};

use crate::MadeBy;

#[derive(Debug)]
pub struct Log<F> {
    events: VecDeque<Arc<AnswerEvent>>,
    /// How many events were let go before the first that is kept.
    gone: usize,
    /// By follower: how many events it was given.
    cursors: HashMap<u64, usize>,
    next_follower: u64,
    bytes: usize,
    is_open: bool,
    pub made_by: Option<Arc<MadeBy>>,
    end: Option<End<F>>,
}

/// How a leader ended, as far as followers are concerned.
#[derive(Clone, Debug)]
pub enum End<F> {
    Finished(Usage),
    Failed(F),
    /// It left, or it said too much for someone who needed all of it.
    Gone,
}

/// What there is for a follower now.
#[derive(Debug)]
pub enum Read<F> {
    Event(Arc<AnswerEvent>),
    /// Nothing, and more will come.
    Wait,
    Finished(Usage),
    Failed(F),
    /// Nothing more can come from this leader; the follower was given something of it, or was not.
    Gone {
        was_given: bool,
    },
}

impl<F> Log<F> {
    pub fn new() -> Self {
        Self {
            events: VecDeque::new(),
            gone: 0,
            cursors: HashMap::new(),
            next_follower: 0,
            bytes: 0,
            is_open: true,
            made_by: None,
            end: None,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one more follower, who will be given everything from the start; nothing where it is too late or too crowded.
    pub fn join(&mut self, followers_max: usize) -> Option<u64> {
        if !self.is_open || self.cursors.len() >= followers_max {
            return None;
        }
        let follower = self.next_follower;
        self.next_follower += 1;
        self.cursors.insert(follower, 0);
        Some(follower)
    }

    pub fn leave(&mut self, follower: u64) {
        self.cursors.remove(&follower);
        self.trim();
    }

    /// Keeps an event for those who follow or may.
    pub fn say(&mut self, event: &AnswerEvent) {
        if self.end.is_some() || !self.is_open && self.cursors.is_empty() {
            return;
        }
        self.bytes += event_bytes(event);
        self.events.push_back(Arc::new(event.clone()));
    }

    /// Takes no more followers, and lets go what those there are have had.
    pub fn close(&mut self) {
        self.is_open = false;
        self.trim();
    }

    /// Ends it; the first end counts. After a clean end all that was said is still there for those who follow; after any other
    /// nothing is, so that who was given nothing may have a whole answer yet, and nobody is given more of half a one.
    pub fn end(&mut self, end: End<F>) {
        if self.end.is_some() {
            return;
        }
        self.close();
        if !matches!(end, End::Finished(_)) {
            self.gone += self.events.len();
            self.events.clear();
            self.bytes = 0;
        }
        self.end = Some(end);
    }

    pub fn read(&mut self, follower: u64) -> Read<F>
    where
        F: Clone,
    {
        let cursor = self.cursors.get_mut(&follower).expect("a follower reads only what it follows");
        if let Some(event) = cursor.checked_sub(self.gone).and_then(|place| self.events.get(place)) {
            let event = event.clone();
            *cursor += 1;
            self.trim();
            return Read::Event(event);
        }
        match &self.end {
            None => Read::Wait,
            Some(End::Finished(usage)) => Read::Finished(*usage),
            Some(End::Failed(failure)) => Read::Failed(failure.clone()),
            Some(End::Gone) => Read::Gone { was_given: *cursor > 0 },
        }
    }

    fn trim(&mut self) {
        if self.is_open {
            return;
        }
        let said = self.gone + self.events.len();
        let needed = self.cursors.values().copied().min().unwrap_or(said);
        while self.gone < needed {
            let Some(event) = self.events.pop_front() else { break };
            self.bytes -= event_bytes(&event);
            self.gone += 1;
        }
    }
}

/// What keeping an event takes: itself, its pointer and its counts, and what it points to.
pub fn event_bytes(event: &AnswerEvent) -> usize {
    const KEPT: usize = size_of::<AnswerEvent>() + 3 * size_of::<usize>();
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let heap = match event {
        AnswerEvent::Began { id, model } => text(id) + text(model),
        AnswerEvent::Finished { finish: Finish { stop, .. }, .. } => text(stop),
        AnswerEvent::Used(_) => 0,
        AnswerEvent::Delta { delta, .. } => match delta {
            Delta::Text(text)
            | Delta::Refusal(text)
            | Delta::Reasoning(text)
            | Delta::SealedReasoning(text) => text.len(),
            Delta::ReasoningProof { proof, id } => text(proof) + text(id),
            Delta::ToolCall { id, name, proof, .. } => id.len() + name.len() + text(proof),
            Delta::Arguments { json, .. } => json.len(),
            Delta::Scores(scores) => scores.iter().map(score_bytes).sum(),
        },
    };
    KEPT + heap
}

fn score_bytes(score: &TokenScore) -> usize {
    let rival = |rival: &Scored| size_of::<Scored>() + rival.text.len() + rival.bytes.len();
    let rivals: usize = score.top.iter().map(rival).sum();
    size_of::<TokenScore>() + score.text.len() + score.bytes.len() + rivals
}
