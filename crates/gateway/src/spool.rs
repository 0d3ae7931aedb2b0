//! Where do holds and ends go while the ledger cannot be asked, so that work goes on and is booked exactly once all the same?
//!
//! ```text
//!  hold not taken ─▶ line {hold} ─▶ work ─▶ line {hold, end} ─▶ the end is told
//!                        the store is well again: hold_served, then settle or release ─▶ the file is emptied
//! ```
//! One line of JSON for each step, durable before what follows from it; the last line of a request counts. Whatever is
//! replayed twice is booked once, because the book answers a repeated hold or end with the first. After a crash, what has no
//! end is booked as its estimate: nobody can say any more what was used.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{RequestId, Usage, UsageEnd, UsageSource};
use ledger::{Hold, Journal, LedgerError, Release, ReleaseReason, Settlement, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::events;

/// How far the mode may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolBounds {
    /// No hold is taken when the file has this many bytes. 64 MiB: some 80,000 requests; they are kept in memory, too. Ends
    /// are always taken: those of [`crate::Limits::requests`], half a KiB each, may come on top.
    pub bytes_max: u64,
    /// No hold is taken when the file has not been empty for so long. 3,600 s: an hour of spending that no limit has seen.
    pub time_max: Duration,
}

impl Default for SpoolBounds {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, time_max: Duration::from_secs(3_600) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("cannot use the spool {path}: {error}; check that this user may write it")]
    Io { path: PathBuf, error: io::Error },
    #[error("the spool {path} belongs to a server that runs; give each server a data folder of its own")]
    InUse { path: PathBuf },
    #[error(
        "line {line} of the spool {path} is damaged: {why}; it tells requests that are not booked yet: repair it, or move the \
         file away and book them by hand"
    )]
    Damaged { path: PathBuf, line: usize, why: String },
    #[error("the spool has {bytes} bytes, as many as it may")]
    Full { bytes: u64 },
    #[error("the ledger has been unavailable for {} s, as long as requests may go unbooked", .0.as_secs())]
    TooLong(Duration),
}

/// How a request ended, as the book will hear it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpooledEnd {
    Settled { usage: Usage, end: UsageEnd, source: UsageSource, at: Timestamp },
    Released { reason: ReleaseReason, at: Timestamp },
}

/// All that is known of one request; a line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    version: u32,
    hold: Hold,
    end: Option<SpooledEnd>,
}

const VERSION: u32 = 1;

/// The file, locked for this process as long as this lives.
pub struct Spool {
    path: PathBuf,
    bounds: SpoolBounds,
    state: Mutex<State>,
}

struct State {
    file: File,
    bytes: u64,
    /// What is in the file and not yet in the book.
    waiting: BTreeMap<RequestId, Line>,
    /// Since when the file is not empty.
    since: Option<Instant>,
}

impl Spool {
    /// Returns the spool in this file, with what a process that died has left in it.
    pub fn open(path: &Path, bounds: SpoolBounds, now: Timestamp) -> Result<Self, SpoolError> {
        let failed = |error| SpoolError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::InUse { path: path.to_owned() },
            TryLockError::Error(error) => failed(error),
        })?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let (waiting, bytes) = read(&text, now).map_err(|(line, why)| SpoolError::Damaged {
            path: path.to_owned(),
            line,
            why,
        })?;
        // Nobody was promised a line that is torn: work begins, and an end is told, when its line is whole.
        file.set_len(bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let since = (!waiting.is_empty()).then(Instant::now);
        let state = Mutex::new(State { file, bytes, waiting, since });
        Ok(Self { path: path.to_owned(), bounds, state })
    }

    /// Writes down that this will be held, or is held now; work may begin on `Ok`.
    pub async fn hold(self: &Arc<Self>, hold: Hold) -> Result<(), SpoolError> {
        self.clone().write(Line { version: VERSION, hold, end: None }).await
    }

    /// Writes down how a request ended; the end may be told on `Ok`. On an error it is still known here, and booked unless
    /// this process dies before.
    pub async fn end(self: &Arc<Self>, hold: Hold, end: SpooledEnd) -> Result<(), SpoolError> {
        self.clone().write(Line { version: VERSION, hold, end: Some(end) }).await
    }

    /// Books a request as its estimate if it is here and nobody will end it any more.
    pub fn abandon(&self, request: &RequestId, now: Timestamp) {
        if let Some(line) = self.state.lock().waiting.get_mut(request) {
            line.end.get_or_insert_with(|| lost(&line.hold, now));
        }
    }

    /// Whether this request is written down here and not yet in the book.
    pub fn contains(&self, request: &RequestId) -> bool {
        self.state.lock().waiting.contains_key(request)
    }

    /// Returns how many requests wait to be booked, those that still run included.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Returns whether some of them have ended.
    pub fn has_ended(&self) -> bool {
        self.state.lock().waiting.values().any(|line| line.end.is_some())
    }

    /// Books all that has ended, and empties the file when nothing is left; returns how many requests it booked. What the book
    /// refuses for good is kept beside the spool, for a person.
    pub async fn replay(&self, journal: &Journal) -> Result<usize, LedgerError> {
        let mut booked = 0;
        loop {
            let lines = self.ended();
            if lines.is_empty() {
                return Ok(booked);
            }
            let mut booking = JoinSet::new();
            for line in lines {
                let journal = journal.clone();
                booking.spawn(async move { (book(&journal, &line).await, line) });
            }
            while let Some(Ok((result, line))) = booking.join_next().await {
                match result {
                    Ok(()) => booked += 1,
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(error) => {
                        let request = line.hold.request.as_str();
                        events::LedgerFailed { request, doing: "replay", error: &error, is_last_try: true }
                            .emit();
                        if self.keep_refused(&line).is_err() {
                            return Err(error);
                        }
                    }
                }
                self.forget(&line.hold.request);
            }
        }
    }

    async fn write(self: Arc<Self>, line: Line) -> Result<(), SpoolError> {
        let written = tokio::task::spawn_blocking(move || self.write_now(line)).await;
        written.expect("writing a line does not panic")
    }

    fn write_now(&self, line: Line) -> Result<(), SpoolError> {
        let mut text = serde_json::to_vec(&line).expect("names and numbers can be written");
        text.push(b'\n');
        let mut state = self.state.lock();
        let is_hold = line.end.is_none();
        if is_hold {
            self.check(&state)?;
        }
        let durable = state.append(&text);
        if durable.is_ok() || !is_hold {
            state.waiting.insert(line.hold.request.clone(), line);
            if state.since.is_none() {
                state.since = Some(Instant::now());
                events::SpoolBegan { path: &self.path }.emit();
            }
        }
        durable.map_err(|error| SpoolError::Io { path: self.path.clone(), error })
    }

    fn check(&self, state: &State) -> Result<(), SpoolError> {
        if state.bytes >= self.bounds.bytes_max {
            return Err(SpoolError::Full { bytes: state.bytes });
        }
        match state.since.map(|since| since.elapsed()) {
            Some(age) if age >= self.bounds.time_max => Err(SpoolError::TooLong(age)),
            _ => Ok(()),
        }
    }

    fn ended(&self) -> Vec<Line> {
        let state = self.state.lock();
        state.waiting.values().filter(|line| line.end.is_some()).take(AT_ONCE).cloned().collect()
    }

    fn forget(&self, request: &RequestId) {
        let mut state = self.state.lock();
        state.waiting.remove(request);
        if state.waiting.is_empty() {
            // Should it fail, the same lines are replayed once more after a start, and change nothing.
            let emptied = state.empty();
            let took = state.since.take().map(|since| since.elapsed()).unwrap_or_default();
            events::SpoolEnded { path: &self.path, took, error: emptied.err() }.emit();
        }
    }

    fn keep_refused(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file =
            OpenOptions::new().create(true).append(true).open(self.path.with_extension("refused"))?;
        file.write_all(&text)?;
        file.sync_data()
    }
}

/// Lines that are booked at once: the writer commits them together.
const AT_ONCE: usize = 64;

impl State {
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(text).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.bytes += text.len() as u64,
            // A torn line may only be the last.
            Err(_) => {
                self.file.set_len(self.bytes)?;
                self.file.seek(SeekFrom::Start(self.bytes))?;
            }
        }
        written
    }

    fn empty(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.file.sync_data()
    }
}

async fn book(journal: &Journal, line: &Line) -> Result<(), LedgerError> {
    let Line { hold, end, .. } = line.clone();
    let request = hold.request.clone();
    journal.hold_served(hold).await?;
    match end {
        Some(SpooledEnd::Settled { usage, end, source, at }) => {
            journal.settle(Settlement { request, usage, end, source, at }).await.map(drop)
        }
        Some(SpooledEnd::Released { reason, at }) => {
            journal.release(Release { request, reason, at }).await.map(drop)
        }
        None => Ok(()),
    }
}

/// Returns the requests in a file and how much of it is whole, or which line is damaged and why.
fn read(text: &[u8], now: Timestamp) -> Result<(BTreeMap<RequestId, Line>, u64), (usize, String)> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut waiting = BTreeMap::new();
    for (index, text) in text[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line: Line = serde_json::from_slice(text).map_err(|error| (index + 1, error.to_string()))?;
        if line.version != VERSION {
            return Err((index + 1, format!("it has version {}, and {VERSION} is known", line.version)));
        }
        waiting.insert(line.hold.request.clone(), line);
    }
    for line in waiting.values_mut() {
        line.end.get_or_insert_with(|| lost(&line.hold, now));
    }
    Ok((waiting, whole as u64))
}

fn lost(hold: &Hold, at: Timestamp) -> SpooledEnd {
    let (end, source) = (UsageEnd::Unknown, UsageSource::Estimated);
    SpooledEnd::Settled { usage: hold.estimate, end, source, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }
    fn hold(request: &str) -> Hold {
        let estimate = Usage { input_uncached: 10, output: 90, ..Usage::default() };
        Hold::new(request.into(), "local".into(), "m".into(), estimate, at(5))
    }
    fn settled() -> SpooledEnd {
        let usage = Usage { input_uncached: 10, output: 7, ..Usage::default() };
        SpooledEnd::Settled { usage, end: UsageEnd::Complete, source: UsageSource::Measured, at: at(9) }
    }
    fn open(folder: &Path, bounds: SpoolBounds) -> Arc<Spool> {
        Arc::new(Spool::open(&folder.join("spool.jsonl"), bounds, at(20)).unwrap())
    }
    async fn tokens_booked(journal: &Journal, requests: &[&str]) -> Vec<(u64, bool)> {
        let ids: Vec<RequestId> = requests.iter().map(|request| RequestId::from(*request)).collect();
        assert!(journal.check_integrity().await.unwrap().is_sound());
        let rows = journal.requests(&ids).await.unwrap();
        rows.iter()
            .map(|row| {
                let ending = row.ending.as_ref().expect("it has ended");
                let is_estimated =
                    matches!(ending.how, ledger::How::Settled { source: UsageSource::Estimated, .. });
                (ending.usage().unwrap().total(), is_estimated)
            })
            .collect()
    }

    #[tokio::test]
    async fn after_a_crash_what_has_ended_is_booked_as_measured_the_rest_as_estimated_and_a_torn_line_is_none()
     {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path(), SpoolBounds::default());
        spool.hold(hold("ended")).await.unwrap();
        spool.hold(hold("running")).await.unwrap();
        spool.end(hold("ended"), settled()).await.unwrap();
        drop(spool);
        let path = folder.path().join("spool.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"version\":1,\"hold\":{\"requ").unwrap();
        let journal = Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let spool = open(folder.path(), SpoolBounds::default());
        let copy = std::fs::read(&path).unwrap();
        assert_eq!(spool.replay(&journal).await.unwrap(), 2);
        assert_eq!((spool.waiting(), std::fs::metadata(&path).unwrap().len()), (0, 0), "it is empty again");
        drop(spool);
        // As after a crash between the last booking and the emptying.
        std::fs::write(&path, copy).unwrap();
        assert_eq!(open(folder.path(), SpoolBounds::default()).replay(&journal).await.unwrap(), 2);
        assert_eq!(tokens_booked(&journal, &["ended", "running"]).await, [(17, false), (100, true)]);
        assert_eq!(journal.recent_requests(10).await.unwrap().len(), 2, "twice is once");
    }

    #[tokio::test]
    async fn beyond_its_bounds_it_takes_ends_and_no_holds() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path(), SpoolBounds { bytes_max: 1, ..SpoolBounds::default() });
        spool.hold(hold("a")).await.unwrap();
        assert!(matches!(spool.hold(hold("b")).await, Err(SpoolError::Full { .. })));
        spool.end(hold("a"), settled()).await.unwrap();
        assert!(spool.contains(&"a".into()) && !spool.contains(&"b".into()));
        drop(spool);
        let spool = open(folder.path(), SpoolBounds { time_max: Duration::ZERO, ..SpoolBounds::default() });
        assert!(matches!(spool.hold(hold("b")).await, Err(SpoolError::TooLong(_))));
    }

    #[test]
    fn a_damaged_line_and_a_second_server_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool.jsonl");
        let first = Spool::open(&path, SpoolBounds::default(), at(0)).unwrap();
        let second = Spool::open(&path, SpoolBounds::default(), at(0));
        assert!(matches!(second, Err(SpoolError::InUse { .. })));
        drop(first);
        std::fs::write(&path, "nonsense\n").unwrap();
        let damaged = Spool::open(&path, SpoolBounds::default(), at(0));
        assert!(matches!(damaged, Err(SpoolError::Damaged { line: 1, .. })));
    }
}
