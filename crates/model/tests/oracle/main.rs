//! Does each model family compute what transformers computes, however its rows are batched?
//!
//! `fixtures/families/make.py` wrote the checkpoints and the expected values.

mod damage;
mod gguf;
mod harness;
mod invariance;
mod quantized;
mod scores;
