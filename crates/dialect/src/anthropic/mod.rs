//! Which parts of Anthropic's HTTP surface are spoken here, as its public SDKs read and write them?
//!
//! `POST /v1/messages` and `POST /v1/messages/count_tokens`, from both sides: [`read`] and [`MessagesForm`] face a client,
//! [`Messages`] faces a provider. A request that stays in this dialect is passed on in the client's own bytes; what the neutral
//! form has no words for (blocks of the provider's own tools, containers, citations) lives only on that way.

mod answer;
mod ask;
mod betas;
mod blocks;
mod content;
mod count;
mod error;
mod fault;
mod form;
mod messages;
mod model;
mod pass;
mod reader;
mod request;
mod retry;
mod stream;
mod thinking;
mod tools;
mod upstream;
mod usage;
mod wire;

pub use betas::{Betas, betas};
pub use count::{count_passed, count_to_json, read_count};
pub use error::to_json as error_to_json;
pub use form::MessagesForm;
pub use request::read;
pub use upstream::{Messages, VERSION};

/// The dialect's name.
pub const DIALECT: &str = "anthropic.messages";

#[cfg(test)]
mod tests;
