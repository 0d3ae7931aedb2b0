//! `POST /v1/chat/completions`.

mod reply;
mod request;
mod stream;

pub use reply::{Choice, Reply};
pub use request::Request;
pub(super) use request::take_chat;
pub use stream::{Delta, Stream};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::any_json;
