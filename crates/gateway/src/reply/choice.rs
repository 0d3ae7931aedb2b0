//! What do one choice's tokens say, and where does it end?
//!
//! ```text
//! token ─▶ Detokenizer ─▶ StopMatcher ─▶ AnswerReader (chat) ─▶ deltas
//! ```
//! Scores leave with their tokens; text may follow a little later, because half a character, and what may become a stop
//! string or a tool call, is held back. No I/O, no clock: the same tokens give the same answer however they are cut.

use domain::{Delta, FinishReason, Input, Scored, TokenId, TokenLogprob, TokenOut, TokenScore, ToolChoice};
use text::{AnswerPart, AnswerReader, Detokenizer, StopMatcher, Tokenizer};

use crate::guard::Order;

pub struct Choice {
    tokenizer: Tokenizer,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// `None`: all text is text.
    reader: Option<AnswerReader>,
    is_reasoning: bool,
    tool_calls: u32,
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
    pub deltas: Vec<Delta>,
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
        let reader = match &order.ask.input {
            Input::Chat(chat) => {
                let has_tools = !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None;
                Some(text.answer_reader(&prompt.text, has_tools))
            }
            Input::Completion(_) => None,
        };
        Self {
            tokenizer: text.tokenizer().clone(),
            detokenizer: text.detokenizer(),
            stop: StopMatcher::new(&order.ask.stop),
            reader,
            is_reasoning: false,
            tool_calls: 0,
            wants_scores: order.ask.logprobs.is_some(),
            echo: order.ask.echo.then(|| Echo { text: prompt.text.clone(), tokens: prompt.tokens.clone() }),
        }
    }

    /// Returns what stands before the answer: the prompt, where an echo was asked for.
    pub fn opening(&mut self) -> Vec<Delta> {
        let text = self.echo.as_mut().map(|echo| std::mem::take(&mut echo.text));
        text.filter(|text| !text.is_empty()).map(Delta::Text).into_iter().collect()
    }

    /// Returns the echoed prompt's scores.
    pub fn prompt_scores(&mut self, scores: Vec<Option<TokenLogprob>>) -> Vec<Delta> {
        let tokens = self.echo.as_ref().map(|echo| echo.tokens.clone());
        let Some(tokens) = tokens else { return Vec::new() };
        let scores = tokens.iter().zip(scores).map(|(token, logprob)| self.score(*token, logprob.as_ref()));
        vec![Delta::Scores(scores.collect())]
    }

    pub fn take(&mut self, tokens: &[TokenOut]) -> Taken {
        let mut taken = Taken::default();
        let mut scores = self.wants_scores.then(Vec::new);
        for TokenOut { token, logprob } in tokens {
            let text = self.detokenizer.push(*token);
            let matched = self.stop.push(&text);
            self.read(&matched.text, &mut taken.deltas);
            if let Some(scores) = &mut scores {
                scores.push(self.score(*token, logprob.as_ref()));
            }
            taken.tokens += 1;
            taken.reasoning_tokens += u64::from(self.is_reasoning);
            if matched.stop.is_some() {
                taken.is_stopped = true;
                self.let_go(&mut taken.deltas);
                break;
            }
        }
        taken.deltas.extend(scores.filter(|scores| !scores.is_empty()).map(Delta::Scores));
        taken
    }

    /// Returns what was held back, when no more tokens come.
    pub fn rest(&mut self) -> Vec<Delta> {
        let text = self.detokenizer.finish();
        let mut text = self.stop.push(&text).text;
        text.push_str(&self.stop.finish());
        let mut deltas = Vec::new();
        self.read(&text, &mut deltas);
        self.let_go(&mut deltas);
        deltas
    }

    /// An answer that ended by itself with a call asks for its result.
    pub fn finish_reason(&self, reason: FinishReason) -> FinishReason {
        match reason {
            FinishReason::Stop if self.tool_calls > 0 => FinishReason::ToolCalls,
            reason => reason,
        }
    }

    fn read(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        match &mut self.reader {
            _ if text.is_empty() => {}
            Some(reader) => {
                let parts = reader.push(text);
                self.add(parts, deltas);
            }
            None => deltas.push(Delta::Text(text.to_owned())),
        }
    }

    /// Adds what the reader still held.
    fn let_go(&mut self, deltas: &mut Vec<Delta>) {
        let held = self.reader.as_mut().map(AnswerReader::finish);
        self.add(held.unwrap_or_default(), deltas);
    }

    fn add(&mut self, parts: Vec<AnswerPart>, deltas: &mut Vec<Delta>) {
        for part in parts {
            self.is_reasoning = matches!(part, AnswerPart::Reasoning(_));
            match (part, deltas.last_mut()) {
                (AnswerPart::Reasoning(more), Some(Delta::Reasoning(text))) => text.push_str(&more),
                (AnswerPart::Reasoning(text), _) => deltas.push(Delta::Reasoning(text)),
                (AnswerPart::Text(more), Some(Delta::Text(text))) => text.push_str(&more),
                (AnswerPart::Text(text), _) => deltas.push(Delta::Text(text)),
                // A call comes whole, because only a whole call is known to be one.
                (AnswerPart::ToolCall { name, arguments: json }, _) => {
                    let (index, id) = (self.tool_calls, format!("call_{:032x}", rand::random::<u128>()));
                    self.tool_calls += 1;
                    deltas.push(Delta::ToolCall { index, id, name, proof: None });
                    deltas.push(Delta::Arguments { index, json });
                }
            }
        }
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
