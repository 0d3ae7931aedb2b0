//! Which parts of OpenAI's HTTP surface are spoken here, as its public SDKs read and write them.

pub mod chat;
pub mod completion;
pub mod error;
pub mod models;
pub mod stream;
pub mod tokenize;

mod generation;
mod logprobs;
mod messages;
mod tools;
mod usage;

pub use error::to_json as error_to_json;
pub use stream::{Accumulator, Broken, DONE, Fold};
