//! How does a model become smaller, and what does that cost in its answers?
//!
//! `round` rounds one row better than the nearest step does, [`Moments`] says which inputs matter, `gate` decides whether a GGUF
//! file's own blocks may become ours, [`compare`] measures two models on the same text, [`write_folder`] leaves a folder that
//! can be served.
#![forbid(unsafe_code)]

mod compare;
mod folder;
pub(crate) mod gate;
mod moments;
pub(crate) mod round;

pub use compare::{Comparison, compare, observe};
pub use folder::write_folder;
pub use gate::Requantized;
pub use moments::Moments;
pub(crate) use moments::{Observer, Sums};
