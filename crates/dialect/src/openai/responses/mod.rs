//! `POST /v1/responses`, and what is kept of it.

mod answer;
mod asked;
mod input;
mod object;
mod output;
mod request;
pub mod stored;
mod stream;
mod upstream;
mod written;

use serde_json::{Map, Value};

use domain::{Answer, Ask, ChatMessage, Input, Role, UsageReport};

use crate::{Form, Head, Writer};

pub use input::to_messages;
pub use output::to_items;
pub use request::read;
pub use stream::Stream;
pub use upstream::ResponsesUpstream;

/// The dialect's name.
pub const DIALECT: &str = "openai.responses";

/// How a response is written: what of the request it repeats.
#[derive(Clone, Debug, Default)]
pub struct ResponsesForm {
    /// Every field of the object that does not depend on the answer.
    echo: Map<String, Value>,
}

/// What a request says about the turns before it and after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Continuation {
    /// The response that this one goes on from.
    pub previous_response_id: Option<String>,
    /// The conversation that it belongs to, which nobody keeps here.
    pub conversation: Option<String>,
    /// Whether the response may be asked for again; true unless the request says otherwise.
    pub store: bool,
    /// The request's own input, as items: a text is a user's message.
    pub input_items: Vec<Value>,
    /// How many of the ask's first messages are instructions, which hold for this turn alone.
    pub instructions: usize,
}

impl Continuation {
    /// Puts what was said before between this turn's instructions and its input.
    pub fn go_on_from(&self, ask: &mut Ask, earlier: Vec<ChatMessage>) {
        if let Input::Chat(chat) = &mut ask.input {
            chat.messages.splice(self.instructions..self.instructions, earlier);
        }
    }

    /// Returns what later turns must know of this one: its input, before [`Self::go_on_from`], and its answer.
    pub fn turn(&self, ask: &Ask, answer: &Answer) -> Vec<ChatMessage> {
        let Input::Chat(chat) = &ask.input else { return Vec::new() };
        let said = chat.messages.iter().skip(self.instructions).cloned();
        let parts = answer.choices.first().map(|choice| choice.parts.clone()).unwrap_or_default();
        said.chain([ChatMessage::new(Role::Assistant, parts)]).collect()
    }
}

impl Form for ResponsesForm {
    fn dialect(&self) -> &'static str {
        DIALECT
    }
    fn answer_id(&self, number: &str) -> String {
        format!("resp_{number}")
    }
    fn writer(&self, head: Head, _choices: u32) -> Box<dyn Writer> {
        Box::new(Stream::new(head, self.echo.clone()))
    }
    fn whole(&self, head: &Head, answer: &Answer, report: &UsageReport) -> Vec<u8> {
        let choice = answer.choices.first().cloned().unwrap_or_default();
        let finish = choice.finish.as_ref().map(|finish| finish.reason);
        let output = to_items(&head.id, &choice, finish);
        super::stream::json(&object::ended(&self.echo, head, output, finish, report))
    }
}

#[cfg(test)]
mod tests;
