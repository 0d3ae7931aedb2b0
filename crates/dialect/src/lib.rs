//! How a wire format reads and writes: bytes ⇄ the neutral words of `domain`, without any I/O.
//!
//! Each dialect is a folder. On the client's side a request is read into a [`Heard`] and answered through its [`Form`]; on the
//! provider's side an [`Upstream`] writes requests and reads answers. Both meet in `domain::Ask` and `domain::AnswerEvent`, so
//! that n dialects need no n × n translators. JSON types stay private to their dialect.

#![forbid(unsafe_code)]

mod bad_request;
mod believable;
mod call_id;
mod decimal;
mod form;
mod labels;
mod read;
mod retry_after;
mod trouble;
mod upstream;

pub mod anthropic;
pub mod aws;
pub mod google;
pub mod openai;
pub mod sse;

pub use bad_request::BadRequest;
pub use form::{Form, Head, Heard, Read, Writer};
pub use labels::Labels;
pub use trouble::{Trouble, TroubleKind};
pub use upstream::{
    BadAnswer, ErrorAnswer, Fault, FaultKind, Reader, Target, Untellable, Upstream, WireRequest,
};
