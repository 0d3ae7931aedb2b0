//! `POST /v1/completions`.

mod reply;
mod request;
mod stream;

pub use reply::{Choice, Reply};
pub use request::Request;
pub(super) use request::read_tokens;
pub use stream::{Delta, Stream};

#[cfg(test)]
mod tests;
