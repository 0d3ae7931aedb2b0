//! Why did this unit answer, and not another? The last decisions, in memory and in a file.
//!
//! ```text
//!  record ─▶ memory (bounded) ─▶ queue (bounded) ─▶ decisions.jsonl ─ full ─▶ decisions.1.jsonl ─ again ─▶ gone
//!  amend  ─▶ the same record, told anew: the last line of a request counts
//! ```
//! In memory, too, a decision is the line that the file gets: one piece of bytes, written once and read when somebody asks. It holds names, numbers and reasons, never what was asked or answered. Requests never wait for the file: when the disk
//! cannot follow, lines are left out and counted.

mod file;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use domain::{Account, ModelName, RequestId};
use ledger::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::file::LogFile;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionBounds {
    /// Bytes of decisions in memory. 4 MiB: some 6,000, the last minutes of a busy server.
    pub memory_bytes: usize,
    /// Bytes of a file; there are two. 64 MiB each: some 100,000 requests.
    pub file_bytes: u64,
}

impl Default for DecisionBounds {
    fn default() -> Self {
        Self { memory_bytes: 4 << 20, file_bytes: 64 << 20 }
    }
}

/// Units that one decision names; beyond them they are counted.
const CANDIDATES_MAX: usize = 64;
/// Attempts that one decision names: routes allow ten, and hedges double them.
const ATTEMPTS_MAX: usize = 32;
/// Letters of any text in a decision.
const LETTERS_MAX: usize = 400;

/// One request's way to whoever answered it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    pub at: Timestamp,
    pub request: RequestId,
    pub account: Account,
    /// What the client wrote as its model.
    pub asked: ModelName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<ModelName>,
    /// What it needed, in words: `tools`, `structured`, `at most 2,000 tokens`.
    #[serde(default)]
    pub needs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_class: Option<String>,
    /// The residency rules that held, with what they admit: `eu-only: eu, de`.
    #[serde(default)]
    pub residency: Vec<String>,
    /// `cost`, `latency` or `listed`.
    pub order: String,
    /// Those that may answer in the order in which they are tried, then those that may not.
    pub candidates: Vec<Candidate>,
    #[serde(default)]
    pub candidates_left_out: usize,
    /// `model@provider`; `None` where nobody may answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// A unit that could have answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub unit: String,
    pub verdict: Verdict,
    /// Why not, or what else is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default)]
    pub processes_in: Vec<String>,
    /// USD for this request, as a decimal string; without it, it has no price or was not asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<String>,
    /// What was predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_ms: Option<f64>,
    /// That the route's wishes are met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was asked first.
    Chosen,
    /// It would have been asked next.
    Eligible,
    #[default]
    Rejected,
}

/// One call to a unit, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub unit: String,
    /// `answered`, `failed`, `cancelled`, …
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From the call to the first token, and to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<String>,
}

/// Which decisions somebody asks for, the latest first.
#[derive(Clone, Debug)]
pub struct DecisionFilter {
    /// Of this account and all below it.
    pub within: Account,
    pub since: Option<Timestamp>,
    /// As the client wrote it, or the route.
    pub model: Option<String>,
    /// Those that chose or tried this unit.
    pub unit: Option<String>,
    pub limit: usize,
}

/// Returns what a server has written in this folder of one request, for whoever looks from beside.
pub fn find_beside(folder: &Path, request: &RequestId) -> Option<DecisionRecord> {
    file::find(folder, request)
}

/// The decisions of this server.
pub struct Decisions {
    bounds: DecisionBounds,
    memory: Mutex<Memory>,
    file: Option<LogFile>,
}

/// A decision as a line of JSON, its end among it.
type Line = Arc<[u8]>;

#[derive(Default)]
struct Memory {
    lines: HashMap<RequestId, Line>,
    /// Oldest first.
    order: VecDeque<RequestId>,
    bytes: usize,
}

impl Decisions {
    /// Returns a log that forgets all when the process ends.
    pub fn in_memory(bounds: DecisionBounds) -> Self {
        Self { bounds, memory: Mutex::default(), file: None }
    }

    /// Returns the log in this folder, with the last of what was decided before.
    pub fn open(folder: &Path, bounds: DecisionBounds) -> std::io::Result<Self> {
        let mut log = Self::look(folder, bounds)?;
        log.file = Some(LogFile::open(folder, bounds.file_bytes)?);
        Ok(log)
    }

    /// Returns the last of what a server has written in this folder, for whoever looks from beside; nothing is written.
    pub fn look(folder: &Path, bounds: DecisionBounds) -> std::io::Result<Self> {
        let log = Self::in_memory(bounds);
        for record in file::tail(folder, bounds.memory_bytes as u64)? {
            log.memory.lock().put(&record.request, record.line(), bounds.memory_bytes);
        }
        Ok(log)
    }

    /// Keeps a decision.
    pub fn record(&self, mut record: DecisionRecord) {
        record.shorten();
        let line = record.line();
        self.memory.lock().put(&record.request, line.clone(), self.bounds.memory_bytes);
        self.write(line);
    }

    /// Tells more of a decision, such as how an attempt ended. One that is forgotten already stays so.
    pub fn amend(&self, request: &RequestId, tell: impl FnOnce(&mut DecisionRecord)) {
        let known = self.memory.lock().lines.get(request).cloned();
        if let Some(mut record) = known.and_then(|line| read(&line)) {
            tell(&mut record);
            self.record(record);
        }
    }

    /// Returns the decision of this request, from memory or from the file: the second takes a tenth of a second, so ask on a
    /// thread that may block.
    pub fn find(&self, request: &RequestId) -> Option<DecisionRecord> {
        let known = self.memory.lock().lines.get(request).cloned();
        match known {
            Some(line) => read(&line),
            None => self.file.as_ref().and_then(|file| file.find(request)),
        }
    }

    /// Returns the latest decisions in memory that were asked for, the latest first.
    pub fn list(&self, wanted: &DecisionFilter) -> Vec<DecisionRecord> {
        let lines: Vec<Line> = {
            let memory = self.memory.lock();
            memory.order.iter().rev().filter_map(|request| memory.lines.get(request)).cloned().collect()
        };
        let records = lines.iter().filter_map(|line| read(line));
        records.filter(|record| wanted.takes(record)).take(wanted.limit).collect()
    }

    /// Returns how many lines the file could not take in time.
    pub fn left_out(&self) -> u64 {
        self.file.as_ref().map_or(0, LogFile::left_out)
    }

    /// Writes what is queued; nothing is written after it.
    pub fn close(&self) {
        if let Some(file) = &self.file {
            file.close();
        }
    }

    fn write(&self, line: Line) {
        if let Some(file) = &self.file {
            file.write(line);
        }
    }
}

fn read(line: &[u8]) -> Option<DecisionRecord> {
    serde_json::from_slice(line).ok()
}

impl Memory {
    fn put(&mut self, request: &RequestId, line: Line, bytes_max: usize) {
        self.bytes += weight(request, &line);
        match self.lines.insert(request.clone(), line) {
            Some(old) => self.bytes -= weight(request, &old),
            None => self.order.push_back(request.clone()),
        }
        while self.bytes > bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            let gone = self.lines.remove(&oldest).expect("what has a place in the order has a line");
            self.bytes -= weight(&oldest, &gone);
        }
    }
}

/// Returns about how many bytes a decision takes in memory: its line, its name, and an entry in each of two tables.
fn weight(request: &RequestId, line: &[u8]) -> usize {
    const ENTRIES: usize = 128;
    line.len() + request.as_str().len() + ENTRIES
}

impl DecisionFilter {
    fn takes(&self, record: &DecisionRecord) -> bool {
        let is_model = |name: &String| {
            record.asked.as_str() == name || record.route.as_ref().is_some_and(|route| route.as_str() == name)
        };
        let is_unit = |unit: &String| {
            record.chosen.as_ref() == Some(unit)
                || record.attempts.iter().any(|attempt| attempt.unit == *unit)
        };
        ledger::account::is_within(&record.account, &self.within)
            && self.since.is_none_or(|since| record.at >= since)
            && self.model.as_ref().is_none_or(is_model)
            && self.unit.as_ref().is_none_or(is_unit)
    }
}

impl DecisionRecord {
    /// Cuts what clients and providers can make long.
    fn shorten(&mut self) {
        let left_out = self.candidates.len().saturating_sub(CANDIDATES_MAX);
        self.candidates.truncate(CANDIDATES_MAX);
        self.candidates_left_out += left_out;
        self.attempts.truncate(ATTEMPTS_MAX);
        self.needs.truncate(CANDIDATES_MAX);
        self.residency.truncate(CANDIDATES_MAX);
        let reasons = self.candidates.iter_mut().filter_map(|candidate| candidate.reason.as_mut());
        let ends = self.attempts.iter_mut().filter_map(|attempt| attempt.reason.as_mut());
        let words = self.needs.iter_mut().chain(&mut self.residency);
        reasons.chain(ends).chain(words).for_each(cut);
        if self.asked.as_str().len() > LETTERS_MAX {
            let mut asked = self.asked.to_string();
            cut(&mut asked);
            self.asked = ModelName::new(asked);
        }
    }

    fn line(&self) -> Line {
        let mut line = serde_json::to_vec(self).expect("names and numbers can be written as JSON");
        line.push(b'\n');
        line.into()
    }
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(LETTERS_MAX) {
        text.truncate(end);
    }
}

#[cfg(test)]
#[path = "decisions/tests.rs"]
mod tests;
