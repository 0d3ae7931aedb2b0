//! `POST /v1/chat/completions`.

mod asked;
mod reply;
mod request;
mod stream;
mod upstream;

use domain::{Answer, UsageReport};

use crate::{Form, Head, Writer};

pub(super) use asked::{WEB_SEARCH, effort};
pub use reply::{Choice, Reply};
pub use request::read;
pub(super) use request::take_chat;
pub use stream::Stream;
pub use upstream::ChatUpstream;

/// The dialect's name.
pub const DIALECT: &str = "openai.chat";

/// How a chat request is answered.
#[derive(Clone, Copy, Debug)]
pub struct ChatForm {
    pub include_usage: bool,
}

impl Form for ChatForm {
    fn dialect(&self) -> &'static str {
        DIALECT
    }
    fn answer_id(&self, number: &str) -> String {
        format!("chatcmpl-{number}")
    }
    fn writer(&self, head: Head, choices: u32) -> Box<dyn Writer> {
        Box::new(Stream::new(head, choices, self.include_usage))
    }
    fn whole(&self, head: &Head, answer: &Answer, report: &UsageReport) -> Vec<u8> {
        let choices = answer.choices.iter().map(Choice::of).collect();
        Reply { head: head.clone(), choices, report: report.clone() }.to_json()
    }
}

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream_tests;
#[cfg(test)]
pub(super) use tests::any_json;
