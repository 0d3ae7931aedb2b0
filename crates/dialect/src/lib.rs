//! How a wire format reads and writes: bytes ⇄ the neutral words of `domain`, without any I/O.
//!
//! Each dialect is a folder. A request is read by `Request::read(bytes)` and becomes a `domain::Ask`; answers are written by
//! `Reply::to_json` when they are whole and by `Stream` while they grow. JSON types stay private to their dialect.

#![forbid(unsafe_code)]

mod bad_request;
mod read;

pub mod openai;

pub use bad_request::BadRequest;
