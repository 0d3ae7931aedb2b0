//! What is worth knowing of the door, as structured lines: never a prompt, an answer or a secret.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The one line that every request leaves, when nothing of it is under way any more.
pub struct Access<'a> {
    pub request: &'a str,
    /// What the client called it, as far as that is printable.
    pub client_request: Option<&'a str>,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub model: Option<&'a str>,
    pub account: Option<&'a str>,
    pub prompt_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub ttft_ms: Option<u64>,
    pub e2e_ms: u64,
    /// How it ended: a usage end, or the reason of a refusal.
    pub end: Option<&'a str>,
}

impl Access<'_> {
    pub fn emit(self) {
        tracing::info!(
            request = self.request,
            client_request = self.client_request,
            method = self.method,
            path = self.path,
            status = self.status,
            model = self.model,
            account = self.account,
            prompt_tokens = self.prompt_tokens,
            cached_tokens = self.cached_tokens,
            output_tokens = self.output_tokens,
            ttft_ms = self.ttft_ms,
            e2e_ms = self.e2e_ms,
            end = self.end,
            "request ended"
        );
    }
}

pub struct AcceptFailed<'a> {
    pub error: &'a io::Error,
}

impl AcceptFailed<'_> {
    pub fn emit(self) {
        tracing::warn!(error = %self.error, "a connection could not be accepted");
    }
}

pub struct DrainBegan {
    pub open: usize,
}

impl DrainBegan {
    pub fn emit(self) {
        tracing::info!(open_answers = self.open, "draining: new work is refused, running answers go on");
    }
}

pub struct DrainEnded {
    pub cut: usize,
}

impl DrainEnded {
    pub fn emit(self) {
        match self.cut {
            0 => tracing::info!("drained: every answer has ended by itself"),
            cut => tracing::warn!(
                cut_answers = cut,
                "the time to drain is over: what still runs is cut and booked"
            ),
        }
    }
}

/// The ledger did not take something.
pub struct LedgerFailed<'a> {
    pub request: &'a str,
    pub doing: &'static str,
    pub error: &'a dyn Display,
    pub is_last_try: bool,
}

impl LedgerFailed<'_> {
    pub fn emit(self) {
        let (request, doing, error) = (self.request, self.doing, self.error);
        if self.is_last_try {
            tracing::error!(request, doing, %error, "the ledger failed; the hold stays open until it is expired");
        } else {
            tracing::warn!(request, doing, %error, "the ledger failed; trying again");
        }
    }
}

/// An upstream failed in the middle of an answer: the client hears of it, because nothing can be taken back.
pub struct UpstreamBroke<'a> {
    pub request: &'a str,
    pub provider: &'a str,
    pub failure: &'a dyn Display,
}

impl UpstreamBroke<'_> {
    pub fn emit(self) {
        let Self { request, provider, failure } = self;
        tracing::warn!(request, provider, %failure, "an upstream broke off its answer");
    }
}

/// An upstream gave no answer; somebody else may be asked.
pub struct UpstreamFailed<'a> {
    pub request: &'a str,
    pub unit: &'a str,
    pub attempt: usize,
    pub failure: &'a dyn Display,
}

impl UpstreamFailed<'_> {
    pub fn emit(self) {
        let Self { request, unit, attempt, failure } = self;
        tracing::warn!(request, unit, attempt, %failure, "a unit gave no answer");
    }
}

/// From here on requests are served that are not in the book yet.
pub struct SpoolBegan<'a> {
    pub path: &'a Path,
}

impl SpoolBegan<'_> {
    pub fn emit(self) {
        tracing::warn!(
            spool = %self.path.display(),
            "the ledger is unavailable: requests go to the spool, and no limit is enforced"
        );
    }
}

/// All that was served meanwhile is in the book.
pub struct SpoolEnded<'a> {
    pub path: &'a Path,
    pub took: Duration,
    pub error: Option<io::Error>,
}

impl SpoolEnded<'_> {
    pub fn emit(self) {
        let (spool, seconds) = (self.path.display(), self.took.as_secs_f64());
        match self.error {
            None => tracing::info!(%spool, seconds, "the spool is booked and empty; limits hold again"),
            Some(error) => {
                tracing::error!(%spool, seconds, %error, "the spool is booked, and could not be emptied")
            }
        }
    }
}

/// A request could not be written down beside the ledger either.
pub struct SpoolFailed<'a> {
    pub request: &'a str,
    pub error: &'a dyn Display,
}

impl SpoolFailed<'_> {
    pub fn emit(self) {
        tracing::error!(request = self.request, error = %self.error, "the spool did not take a request");
    }
}

/// What the book knows of a task could not be read or written.
pub struct TaskUnread<'a> {
    pub task: &'a str,
    pub error: &'a dyn Display,
}

impl TaskUnread<'_> {
    pub fn emit(self) {
        tracing::warn!(task = self.task, error = %self.error, "the ledger did not say how a task stands; its request is refused");
    }
}

/// An engine could not go on with one request.
pub struct WorkFailed<'a> {
    pub request: &'a str,
    pub model: &'a str,
    pub why: &'a str,
}

impl WorkFailed<'_> {
    pub fn emit(self) {
        tracing::error!(
            request = self.request,
            model = self.model,
            why = self.why,
            "the engine failed a request"
        );
    }
}
