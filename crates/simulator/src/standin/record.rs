//! What did a stand-in receive, and what became of it?

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::http::Request;
use super::prompt::Tally;

/// Requests kept; older ones are dropped and counted.
const REQUESTS_MAX: usize = 1024;
/// Bytes of bodies kept in all, and of one body: 32 MiB hold a matrix of pictures.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const SECRET_HEADERS: [&str; 6] = [
    "authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    "proxy-authorization",
];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// 1 is the first since the behaviour was set.
    pub number: u64,
    pub method: String,
    pub path: String,
    pub query: String,
    /// Without secrets: they show as `(hidden)`.
    pub headers: Map<String, Value>,
    pub body: Value,
    /// 0 while it is being answered.
    pub status: u16,
    /// What the provider counted, if it answered: disjoint quantities, reasoning inside output.
    pub tally: Option<Tally>,
    /// What of the ugly menu was served.
    pub ugly: Vec<String>,
    pub events_sent: u64,
    pub bytes_sent: u64,
    /// The client went away before the end.
    pub client_left: bool,
    /// The whole answer was written.
    pub is_complete: bool,
    #[serde(skip)]
    ticket: u64,
    #[serde(skip)]
    body_bytes: usize,
}

#[derive(Debug, Default)]
pub struct Record {
    kept: VecDeque<Recorded>,
    bytes: usize,
    dropped: u64,
    next_ticket: u64,
}

impl Record {
    /// Returns the ticket by which the entry is found again.
    pub fn begin(&mut self, number: u64, request: &Request, ugly: Vec<String>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let hide = |name: &str, value: &str| match SECRET_HEADERS.contains(&name) {
            true => json!("(hidden)"),
            false => json!(value),
        };
        let (body, body_bytes) = match request.body.len() {
            length if length > BODY_BYTES_MAX => (json!(format!("({length} bytes)")), 0),
            length => {
                (serde_json::from_slice(&request.body).unwrap_or_else(|_| shown(&request.body)), length)
            }
        };
        self.bytes += body_bytes;
        self.kept.push_back(Recorded {
            number,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.iter().map(|(name, value)| (name.clone(), hide(name, value))).collect(),
            body,
            status: 0,
            tally: None,
            ugly,
            events_sent: 0,
            bytes_sent: 0,
            client_left: false,
            is_complete: false,
            ticket,
            body_bytes,
        });
        while self.kept.len() > REQUESTS_MAX || self.bytes > BODIES_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.body_bytes;
            self.dropped += 1;
        }
        ticket
    }

    pub fn update(&mut self, ticket: u64, change: impl FnOnce(&mut Recorded)) {
        if let Some(known) = self.kept.iter_mut().rev().find(|known| known.ticket == ticket) {
            change(known);
        }
    }

    pub fn all(&self) -> Vec<Recorded> {
        self.kept.iter().cloned().collect()
    }

    pub fn to_json(&self) -> Value {
        json!({"requests": self.kept, "dropped": self.dropped})
    }
}

fn shown(body: &[u8]) -> Value {
    match body {
        [] => Value::Null,
        bytes => json!(String::from_utf8_lossy(bytes)),
    }
}
