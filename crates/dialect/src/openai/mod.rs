//! Which parts of OpenAI's HTTP surface are spoken here, as its public SDKs read and write them.

pub mod chat;
pub mod completion;
pub mod embeddings;
pub mod error;
pub mod models;
pub mod stream;
pub mod tokenize;
pub mod unable;

mod answer;
mod body;
mod cache_mark;
mod calls;
mod fault;
mod generation;
mod logprobs;
mod messages;
mod thoughts;
mod tier;
mod tools;
mod usage;
mod wire;
mod wishes;

pub use error::to_json as error_to_json;
pub use stream::DONE;
pub use wire::Manner;
