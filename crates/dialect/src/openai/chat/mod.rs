//! `POST /v1/chat/completions`.

mod reply;
mod request;
mod stream;

pub use reply::{Choice, Reply};
pub use request::Request;
pub use stream::{Delta, Stream};

#[cfg(test)]
mod tests;
