//! What does a provider send back, before the wire has its way with it?

use serde_json::Value;

use super::check::{Fault, Problem};
use super::prompt::Tally;

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
    pub tally: Option<Tally>,
}

#[derive(Clone, Debug)]
pub enum Body {
    Whole { bytes: Vec<u8>, tokens: u64 },
    Stream(Stream),
}

#[derive(Clone, Debug)]
pub struct Stream {
    pub framing: Framing,
    pub events: Vec<Event>,
    /// What the provider sends when it breaks in the middle.
    pub broken: Vec<Event>,
    pub ping: Option<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `data: …` lines, with `event:` lines where the events have names.
    ServerSent,
    /// `[{…},\n{…}]`, as Gemini streams without `alt=sse`.
    JsonArray,
    /// AWS' binary frames.
    Binary,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub part: Part,
    pub name: Option<&'static str>,
    pub data: String,
    pub tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Opening,
    Content,
    /// Says how the answer ended.
    Finish,
    Usage,
    /// The last word, where there is one beside the finish.
    Done,
    Error,
    Ping,
}

/// A refusal, before a provider has worded it.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub status: u16,
    pub class: Class,
    pub message: String,
    pub problem: Option<Problem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Invalid,
    Unauthorized,
    Forbidden,
    NotFound,
    ContextTooLong,
    RateLimited,
    Overloaded,
    Server,
}

impl Reply {
    pub fn json(status: u16, value: &Value) -> Self {
        let bytes = value.to_string().into_bytes();
        Self {
            status,
            headers: vec![("content-type", "application/json".into())],
            body: Body::Whole { bytes, tokens: 0 },
            tally: None,
        }
    }

    pub fn stream(stream: Stream) -> Self {
        let content_type = match stream.framing {
            Framing::ServerSent => "text/event-stream; charset=utf-8",
            Framing::JsonArray => "application/json; charset=UTF-8",
            Framing::Binary => "application/vnd.amazon.eventstream",
        };
        let headers = vec![("content-type", content_type.into()), ("cache-control", "no-cache".into())];
        Self { status: 200, headers, body: Body::Stream(stream), tally: None }
    }

    pub fn counted(mut self, tally: Tally) -> Self {
        if let Body::Whole { tokens, .. } = &mut self.body {
            *tokens = tally.output;
        }
        self.tally = Some(tally);
        self
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Event {
    pub fn new(part: Part, name: Option<&'static str>, data: &Value) -> Self {
        Self { part, name, data: data.to_string(), tokens: u64::from(part == Part::Content) }
    }

    pub fn raw(part: Part, data: &str) -> Self {
        Self { part, name: None, data: data.to_owned(), tokens: 0 }
    }
}

impl Trouble {
    pub fn new(status: u16, class: Class, message: impl Into<String>) -> Self {
        Self { status, class, message: message.into(), problem: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, Class::Invalid, message)
    }

    /// In plain words; providers that have words of their own make them from the problem.
    pub fn of(problem: Problem) -> Self {
        let place = problem.bracketed();
        let message = match &problem.fault {
            Fault::Unknown => format!("{place}: unknown field"),
            Fault::Missing => format!("{place}: required"),
            Fault::Wrong { expected, found } => format!("{place}: expected {expected}, got {found}"),
            Fault::Range { low, high, found } => format!("{place}: {found} is not within {low} and {high}"),
            Fault::NotAmong { words, found } => {
                format!("{place}: '{found}' is not one of {}", words.join(", "))
            }
            Fault::Rule(text) => format!("{place}: {text}"),
        };
        Self { status: 400, class: Class::Invalid, message, problem: Some(problem) }
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::of(problem)
    }
}
