//! What does quantizing cost, and can a packed file be trusted?

mod cache;
mod demo;
mod file;
mod loss;
