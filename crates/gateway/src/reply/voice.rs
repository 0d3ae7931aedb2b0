//! How does an answer sound in the dialect that the client asked in?

use dialect::openai::{ErrorBody, FinishReason, Head, TokenScore, chat, completion};
use domain::{ToolCall, Usage};

/// The endpoint whose words an answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Chat,
    Completion,
}

/// What some tokens add to one choice. A completion has no reasoning and no tool calls of its own: all is text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    pub text: String,
    pub reasoning: String,
    pub tool_calls: Vec<ToolCall>,
    /// `None` unless log-probabilities were asked for.
    pub scores: Option<Vec<TokenScore>>,
}

impl Piece {
    pub fn append(&mut self, mut more: Piece) {
        self.text.push_str(&more.text);
        self.reasoning.push_str(&more.reasoning);
        self.tool_calls.append(&mut more.tool_calls);
        if let Some(mut scores) = more.scores {
            self.scores.get_or_insert_default().append(&mut scores);
        }
    }
}

impl Surface {
    /// Returns an answer's id: its request's, under the prefix of its kind.
    pub fn answer_id(self, request: &str) -> String {
        let number = request.strip_prefix("req-").unwrap_or(request);
        match self {
            Self::Chat => format!("chatcmpl-{number}"),
            Self::Completion => format!("cmpl-{number}"),
        }
    }
}

/// An answer that is written while it grows.
pub enum Growing {
    Chat(chat::Stream),
    Completion(completion::Stream),
}

impl Growing {
    pub fn new(surface: Surface, head: Head, choices: u32, include_usage: bool) -> Self {
        match surface {
            Surface::Chat => Self::Chat(chat::Stream::new(head, choices, include_usage)),
            Surface::Completion => Self::Completion(completion::Stream::new(head, choices, include_usage)),
        }
    }
    pub fn delta(&mut self, choice: u32, piece: Piece) -> Vec<u8> {
        let Piece { text, reasoning, tool_calls, scores: logprobs } = piece;
        match self {
            Self::Chat(stream) => {
                stream.delta(choice, &chat::Delta { content: text, reasoning, tool_calls, logprobs })
            }
            Self::Completion(stream) => stream.delta(choice, &completion::Delta { text, logprobs }),
        }
    }
    pub fn finish(&mut self, choice: u32, reason: FinishReason) -> Vec<u8> {
        match self {
            Self::Chat(stream) => stream.finish(choice, reason),
            Self::Completion(stream) => stream.finish(choice, reason),
        }
    }
    pub fn end(self, usage: &Usage) -> Vec<u8> {
        match self {
            Self::Chat(stream) => stream.end(usage),
            Self::Completion(stream) => stream.end(usage),
        }
    }
    pub fn broken(self, error: &ErrorBody) -> Vec<u8> {
        match self {
            Self::Chat(stream) => stream.broken(error),
            Self::Completion(stream) => stream.broken(error),
        }
    }
}

/// An answer that is written when it is whole.
pub struct Whole {
    surface: Surface,
    head: Head,
    choices: Vec<(Piece, Option<FinishReason>)>,
}

impl Whole {
    pub fn new(surface: Surface, head: Head, choices: u32) -> Self {
        Self { surface, head, choices: vec![(Piece::default(), None); choices as usize] }
    }
    pub fn delta(&mut self, choice: u32, piece: Piece) {
        self.choices[choice as usize].0.append(piece);
    }
    pub fn finish(&mut self, choice: u32, reason: FinishReason) {
        self.choices[choice as usize].1 = Some(reason);
    }
    pub fn end(self, usage: Usage) -> Vec<u8> {
        let Self { surface, head, choices } = self;
        let usage = Some(usage);
        match surface {
            Surface::Chat => {
                let choice = |(piece, finish): (Piece, _)| {
                    let Piece { text: content, reasoning, tool_calls, scores: logprobs } = piece;
                    chat::Choice { content, reasoning, tool_calls, logprobs, finish }
                };
                chat::Reply { head, choices: choices.into_iter().map(choice).collect(), usage }.to_json()
            }
            Surface::Completion => {
                let choice = |(piece, finish): (Piece, _)| completion::Choice {
                    text: piece.text,
                    logprobs: piece.scores,
                    finish,
                };
                completion::Reply { head, choices: choices.into_iter().map(choice).collect(), usage }
                    .to_json()
            }
        }
    }
}
