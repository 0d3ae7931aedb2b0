//! How is a Messages request answered?

use domain::{Answer, UsageReport};

use super::DIALECT;
use super::answer::whole;
use super::stream::Stream;
use crate::{Form, Head, Writer};

/// How a Messages request is answered. Nothing of the request is repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagesForm;

impl Form for MessagesForm {
    fn dialect(&self) -> &'static str {
        DIALECT
    }
    fn answer_id(&self, number: &str) -> String {
        format!("msg_{number}")
    }
    /// The dialect has one choice only; what an upstream says of others is not written.
    fn writer(&self, head: Head, _choices: u32) -> Box<dyn Writer> {
        Box::new(Stream::new(head))
    }
    fn whole(&self, head: &Head, answer: &Answer, report: &UsageReport) -> Vec<u8> {
        whole(head, answer.choices.first(), report)
    }
}
