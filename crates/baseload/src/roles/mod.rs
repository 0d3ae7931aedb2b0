//! One file for each thing that the binary does.

pub mod bench;
pub mod config;
pub mod keys;
pub mod models;
pub mod serve;
pub mod talk;
pub mod usage;
