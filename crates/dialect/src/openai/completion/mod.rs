//! `POST /v1/completions`.

mod reply;
mod request;
mod stream;
mod upstream;

use domain::{Answer, UsageReport};

use crate::{Form, Head, Writer};

pub use reply::{Choice, Reply};
pub use request::read;
pub(super) use request::{read_tokens, take_prompts};
pub use stream::Stream;
pub use upstream::CompletionUpstream;
pub(super) use upstream::prompt;

/// The dialect's name.
pub const DIALECT: &str = "openai.completions";

/// How a completion request is answered.
#[derive(Clone, Copy, Debug)]
pub struct CompletionForm {
    pub include_usage: bool,
}

impl Form for CompletionForm {
    fn dialect(&self) -> &'static str {
        DIALECT
    }
    fn answer_id(&self, number: &str) -> String {
        format!("cmpl-{number}")
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
mod tests;
