//! Is an agent going in circles: the same call with the same arguments, two calls in turn, or no news from any tool?
//!
//! What an agent does is read off its own request, because each carries the whole conversation: a *turn* is an assistant's
//! message with its tool calls and the results that answer them. A loop is a tail of turns that repeat **with the same
//! results**; so polling whose answer changes, and pages that differ in their arguments, are none. Agents that cut or rewrite
//! their history are seen across requests: [`Memory`] keeps fingerprints of the last few.
//!
//! Pure: messages and memory in, a finding out. Fingerprints are hashes; no text is kept.

use std::collections::VecDeque;

use domain::{ChatMessage, Role, ToolCall};
use serde_json::Value;

/// When repeating becomes a loop. All count occurrences in a row, the first one included; 0 never finds any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The same calls with the same results. 3: twice may be a retry, three times nothing new will come.
    pub same_call: usize,
    /// Rounds of A B A B. 3: two rounds are what checking once more looks like.
    pub ping_pong: usize,
    /// The same request again. 5: a client that retries after a lost answer sends the same twice or three times.
    pub same_request: usize,
    /// Turns in which no tool said anything that it had not said before, whatever was asked. 8: looking around costs some.
    pub no_progress: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { same_call: 3, ping_pong: 3, same_request: 5, no_progress: 8 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    SameCall { tool: String, times: usize },
    PingPong { tools: (String, String), rounds: usize },
    SameRequest { times: usize },
    NoProgress { turns: usize },
}

/// The fingerprints of one task's latest requests: 24 × 8 bytes.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    requests: VecDeque<u64>,
}

/// More than any patience that makes sense; older requests are forgotten.
const REQUESTS_KEPT: usize = 24;
/// Messages at the end of a request that its fingerprint is made of: hashing a whole long conversation would cost milliseconds.
const MESSAGES_PRINTED: usize = 16;
/// Turns that are looked at, from the newest back: a day's conversation has thousands of messages.
const TURNS_SEEN: usize = 64;

impl Memory {
    /// Notes a request, and returns in what kind of circle the agent goes, if it does: the plainest kind first.
    pub fn judge(&mut self, messages: &[ChatMessage], patience: &Patience) -> Option<Finding> {
        self.requests.push_back(request_print(messages));
        while self.requests.len() > REQUESTS_KEPT {
            self.requests.pop_front();
        }
        let turns = turns(messages);
        same_call(&turns, patience)
            .or_else(|| ping_pong(&turns, patience))
            .or_else(|| self.same_request(patience))
            .or_else(|| no_progress(&turns, patience))
    }

    fn same_request(&self, patience: &Patience) -> Option<Finding> {
        let last = self.requests.back()?;
        let times = self.requests.iter().rev().take_while(|print| *print == last).count();
        is_reached(times, patience.same_request).then_some(Finding::SameRequest { times })
    }

    /// Forgets what was seen: a person has looked and let the task go on.
    pub fn forgive(&mut self) {
        self.requests.clear();
    }
}

impl Finding {
    /// A word for headers, metrics and the error's text.
    pub fn word(&self) -> &'static str {
        match self {
            Self::SameCall { .. } => "same_call",
            Self::PingPong { .. } => "ping_pong",
            Self::SameRequest { .. } => "same_request",
            Self::NoProgress { .. } => "no_progress",
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SameCall { tool, times } => {
                write!(
                    f,
                    "the tool {tool} was called {times} times in a row with the same arguments and answered the same"
                )
            }
            Self::PingPong { tools: (one, other), rounds } => {
                write!(
                    f,
                    "the tools {one} and {other} were called in turn {rounds} times, with the same arguments and answers"
                )
            }
            Self::SameRequest { times } => write!(f, "the same request came {times} times in a row"),
            Self::NoProgress { turns } => write!(f, "in the last {turns} turns no tool said anything new"),
        }
    }
}

/// Calls and their results, in the order of the conversation.
struct Turn<'a> {
    calls: Vec<&'a ToolCall>,
    asked: u64,
    /// The results, in the order of their calls; nothing while one is missing.
    answered: Option<Vec<u64>>,
}

impl Turn<'_> {
    /// Whether both asked the same and heard the same.
    fn repeats(&self, other: &Turn<'_>) -> bool {
        self.asked == other.asked && self.answered.is_some() && self.answered == other.answered
    }
    fn tool(&self) -> String {
        // A name is at most 64 characters where a dialect has checked it; history is the client's own.
        self.calls.first().map_or_else(String::new, |call| call.name.chars().take(64).collect())
    }
}

fn same_call(turns: &[Turn<'_>], patience: &Patience) -> Option<Finding> {
    let last = turns.last()?;
    let times = turns.iter().rev().take_while(|turn| turn.repeats(last)).count();
    is_reached(times, patience.same_call).then(|| Finding::SameCall { tool: last.tool(), times })
}

fn ping_pong(turns: &[Turn<'_>], patience: &Patience) -> Option<Finding> {
    let [.., one, other] = turns else { return None };
    if one.asked == other.asked {
        return None;
    }
    let pairs = turns.rchunks_exact(2);
    let rounds = pairs.take_while(|pair| pair[0].repeats(one) && pair[1].repeats(other)).count();
    is_reached(rounds, patience.ping_pong)
        .then(|| Finding::PingPong { tools: (one.tool(), other.tool()), rounds })
}

fn no_progress(turns: &[Turn<'_>], patience: &Patience) -> Option<Finding> {
    let is_news = |place: usize| {
        let said_before = |result: &u64| {
            turns[..place].iter().filter_map(|turn| turn.answered.as_ref()).any(|past| past.contains(result))
        };
        turns[place].answered.as_ref().is_none_or(|results| !results.iter().all(said_before))
    };
    let turns_without = (0..turns.len()).rev().take_while(|place| !is_news(*place)).count();
    is_reached(turns_without, patience.no_progress).then_some(Finding::NoProgress { turns: turns_without })
}

fn is_reached(times: usize, patience: usize) -> bool {
    patience > 0 && times >= patience
}

/// Returns the newest turns of the conversation, the oldest of them first. A person's word between begins a new effort, so
/// nothing before it counts; a word that was said before is a nudge by the agent's own loop, and begins nothing.
fn turns(messages: &[ChatMessage]) -> Vec<Turn<'_>> {
    let says = |place: usize| messages[place].role == Role::User;
    let is_new = |place: &usize| {
        let said = messages[*place].text();
        says(*place)
            && !(0..*place)
                .rev()
                .filter(|past| says(*past))
                .take(TURNS_SEEN)
                .any(|past| messages[past].text() == said)
    };
    let since = (0..messages.len()).rev().find(is_new).map_or(0, |place| place + 1);
    let recent = &messages[since..];
    let starts: Vec<usize> =
        (0..recent.len()).filter(|place| recent[*place].tool_calls().next().is_some()).collect();
    let newest = &starts[starts.len().saturating_sub(TURNS_SEEN)..];
    let end = |place: usize| newest.get(place + 1).copied().unwrap_or(recent.len());
    newest.iter().enumerate().map(|(place, start)| turn(&recent[*start..end(place)])).collect()
}

fn turn(messages: &[ChatMessage]) -> Turn<'_> {
    let calls: Vec<&ToolCall> = messages[0].tool_calls().collect();
    let result = |call: &&ToolCall| {
        let answer =
            messages.iter().find(|message| message.tool_call_id.as_deref() == Some(call.id.as_str()))?;
        Some(Print::default().text(&answer.text()).end())
    };
    let asked = calls
        .iter()
        .fold(Print::default(), |print, call| print.text(&call.name).text(&canonical(&call.arguments)));
    let answered = calls.iter().map(result).collect();
    Turn { asked: asked.end(), answered, calls }
}

/// Returns the arguments so that spaces and the order of names make no difference.
fn canonical(arguments: &str) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut fields: Vec<(String, Value)> =
                    map.into_iter().map(|(name, value)| (name, sorted(value))).collect();
                fields.sort_by(|one, other| one.0.cmp(&other.0));
                Value::Object(fields.into_iter().collect())
            }
            Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    serde_json::from_str(arguments).map_or_else(|_| arguments.to_owned(), |value| sorted(value).to_string())
}

/// The end of a conversation and its length stand for all of it. Ids of calls are drawn anew each time, so they are left out.
fn request_print(messages: &[ChatMessage]) -> u64 {
    let end = &messages[messages.len().saturating_sub(MESSAGES_PRINTED)..];
    let all = end.iter().fold(Print::default().text(&messages.len().to_string()), |print, message| {
        let said = print.text(message.role.as_str()).text(&message.text());
        message
            .tool_calls()
            .fold(said, |print, call| print.text(&call.name).text(&canonical(&call.arguments)))
    });
    all.end()
}

/// FNV-1a over texts with their lengths between, so that two texts are not taken for one.
struct Print(u64);

impl Default for Print {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Print {
    fn text(self, text: &str) -> Self {
        let length = (text.len() as u64).to_le_bytes();
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(length.into_iter().chain(text.bytes()).fold(self.0, step))
    }
    fn end(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[path = "loops_tests.rs"]
mod tests;
