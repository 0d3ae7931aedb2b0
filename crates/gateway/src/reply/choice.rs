//! What do one choice's tokens say, and where does it end?
//!
//! ```text
//! token ─▶ Detokenizer ─▶ StopMatcher ─▶ AnswerReader (chat) ─▶ Piece
//! ```
//! Scores leave with their tokens; text may follow a little later, because half a character, and what may become a stop
//! string or a tool call, is held back. No I/O, no clock: the same tokens give the same answer however they are cut.

use dialect::openai::{FinishReason, Scored, TokenScore};
use domain::{Input, TokenId, TokenLogprob, TokenOut, ToolCall};
use text::{AnswerPart, AnswerReader, Detokenizer, StopMatcher, Tokenizer};

use super::voice::{Piece, Surface};
use crate::guard::Order;

pub struct Choice {
    tokenizer: Tokenizer,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// `None`: all text is text.
    reader: Option<AnswerReader>,
    is_reasoning: bool,
    has_tool_calls: bool,
    wants_scores: bool,
    echo: Option<Echo>,
}

struct Echo {
    text: String,
    tokens: domain::Tokens,
}

/// What some tokens came to.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    pub piece: Piece,
    /// Tokens that count: all of them, or those up to the end of a stop string.
    pub tokens: u64,
    pub reasoning_tokens: u64,
    /// A stop string is complete: the choice has ended.
    pub is_stopped: bool,
}

impl Choice {
    pub fn new(order: &Order, index: usize) -> Self {
        let prompt = order.prompt_of(index);
        let text = &order.model.text;
        let has_tools = matches!(&order.ask.input, Input::Chat { tools, .. } if !tools.is_empty());
        let reader = (order.surface == Surface::Chat).then(|| text.answer_reader(&prompt.text, has_tools));
        Self {
            tokenizer: text.tokenizer().clone(),
            detokenizer: text.detokenizer(),
            stop: StopMatcher::new(&order.ask.stop),
            reader,
            is_reasoning: false,
            has_tool_calls: false,
            wants_scores: order.ask.logprobs.is_some(),
            echo: order.ask.echo.then(|| Echo { text: prompt.text.clone(), tokens: prompt.tokens.clone() }),
        }
    }

    /// Returns what stands before the answer: the prompt, where an echo was asked for.
    pub fn opening(&mut self) -> Piece {
        let text = self.echo.as_mut().map(|echo| std::mem::take(&mut echo.text));
        Piece { text: text.unwrap_or_default(), ..Piece::default() }
    }

    /// Returns the echoed prompt's scores.
    pub fn prompt_scores(&mut self, scores: Vec<Option<TokenLogprob>>) -> Piece {
        let tokens = self.echo.as_ref().map(|echo| echo.tokens.clone());
        let Some(tokens) = tokens else { return Piece::default() };
        let scores = tokens.iter().zip(scores).map(|(token, logprob)| self.score(*token, logprob.as_ref()));
        Piece { scores: Some(scores.collect()), ..Piece::default() }
    }

    pub fn take(&mut self, tokens: &[TokenOut]) -> Taken {
        let mut taken = Taken::default();
        for TokenOut { token, logprob } in tokens {
            let text = self.detokenizer.push(*token);
            let matched = self.stop.push(&text);
            taken.piece.append(self.read(&matched.text));
            if self.wants_scores {
                taken.piece.scores.get_or_insert_default().push(self.score(*token, logprob.as_ref()));
            }
            taken.tokens += 1;
            taken.reasoning_tokens += u64::from(self.is_reasoning);
            if matched.stop.is_some() {
                taken.is_stopped = true;
                let held = self.reader.as_mut().map(AnswerReader::finish);
                taken.piece.append(self.piece(held.unwrap_or_default()));
                break;
            }
        }
        taken
    }

    /// Returns what was held back, when no more tokens come.
    pub fn rest(&mut self) -> Piece {
        let text = self.detokenizer.finish();
        let mut text = self.stop.push(&text).text;
        text.push_str(&self.stop.finish());
        let mut piece = self.read(&text);
        let held = self.reader.as_mut().map(AnswerReader::finish);
        piece.append(self.piece(held.unwrap_or_default()));
        piece
    }

    /// An answer that ended by itself with a call asks for its result.
    pub fn finish_reason(&self, reason: FinishReason) -> FinishReason {
        match reason {
            FinishReason::Stop if self.has_tool_calls => FinishReason::ToolCalls,
            reason => reason,
        }
    }

    fn read(&mut self, text: &str) -> Piece {
        match &mut self.reader {
            _ if text.is_empty() => Piece::default(),
            Some(reader) => {
                let parts = reader.push(text);
                self.piece(parts)
            }
            None => Piece { text: text.to_owned(), ..Piece::default() },
        }
    }

    fn piece(&mut self, parts: Vec<AnswerPart>) -> Piece {
        let mut piece = Piece::default();
        for part in parts {
            self.is_reasoning = matches!(part, AnswerPart::Reasoning(_));
            match part {
                AnswerPart::Reasoning(text) => piece.reasoning.push_str(&text),
                AnswerPart::Text(text) => piece.text.push_str(&text),
                AnswerPart::ToolCall { name, arguments } => {
                    self.has_tool_calls = true;
                    let id = format!("call_{:032x}", rand::random::<u128>());
                    piece.tool_calls.push(ToolCall { id, name, arguments });
                }
            }
        }
        piece
    }

    fn score(&self, token: TokenId, logprob: Option<&TokenLogprob>) -> TokenScore {
        let bytes = |token| self.tokenizer.token_bytes(token).unwrap_or_default().to_vec();
        let scored = |&(token, logprob): &(TokenId, f32)| Scored {
            text: self.tokenizer.token_text(token),
            bytes: bytes(token),
            logprob,
        };
        TokenScore {
            text: self.tokenizer.token_text(token),
            bytes: bytes(token),
            logprob: logprob.map(|logprob| logprob.logprob),
            top: logprob.map_or(Vec::new(), |logprob| logprob.top.iter().map(scored).collect()),
        }
    }
}
