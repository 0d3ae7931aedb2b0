//! What does a dialect hear from a client, and how does it answer?

use std::sync::Arc;

use domain::{Answer, Ask, Delta, Finish, ModelName, UsageReport};

use crate::{BadRequest, Labels, Trouble};

/// A client's request, understood.
#[derive(Clone)]
pub struct Heard {
    pub ask: Ask,
    /// What it says about where it belongs.
    pub labels: Labels,
    /// Fields that were accepted without any effect on the answer, in the order of the request: for a debug header.
    pub ignored: Vec<String>,
    /// How this request is to be answered.
    pub form: Arc<dyn Form>,
}

/// Reads a request's body; one such function for each endpoint.
pub type Read = fn(&[u8]) -> Result<Heard, BadRequest>;

/// How one request's answer is written: the dialect, and what of the request its answer repeats.
pub trait Form: Send + Sync {
    /// The dialect's name. An upstream whose dialect has the same name can be given the client's own bytes.
    fn dialect(&self) -> &'static str;
    /// Returns an answer's id: the request's number under the prefix of its kind.
    fn answer_id(&self, number: &str) -> String;
    /// Returns what writes the answer while it grows.
    fn writer(&self, head: Head, choices: u32) -> Box<dyn Writer>;
    /// Returns the body of an answer that is whole.
    fn whole(&self, head: &Head, answer: &Answer, report: &UsageReport) -> Vec<u8>;
}

/// Writes the events of one streamed answer. It ends exactly once: [`Writer::end`] or [`Writer::broken`] takes it.
pub trait Writer: Send {
    /// Returns the events that open the answer, for dialects that say something before its first piece.
    fn open(&mut self) -> Vec<u8> {
        Vec::new()
    }
    /// Returns the events that carry these deltas of one choice. They came together, so they may share an event.
    fn delta(&mut self, choice: u32, deltas: &[Delta]) -> Vec<u8>;
    /// Returns the events that end one choice. Each choice is finished exactly once, and has no deltas after that.
    fn finish(&mut self, choice: u32, finish: &Finish) -> Vec<u8>;
    /// Returns the end of an answer that ended well, with what it used.
    fn end(self: Box<Self>, report: &UsageReport) -> Vec<u8>;
    /// Returns the end of an answer that broke, so that nobody takes it for a whole one.
    fn broken(self: Box<Self>, trouble: &Trouble) -> Vec<u8>;
    /// Returns what keeps a silent stream open and says nothing.
    fn ping(&self) -> &'static [u8] {
        b": ping\n\n"
    }
}

/// What every object of one answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// As [`Form::answer_id`] made it.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: ModelName,
    pub system_fingerprint: Option<String>,
}
