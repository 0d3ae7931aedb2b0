//! One file for each thing that the binary does.

pub mod admin;
pub mod bench;
pub mod config;
pub mod decisions;
pub mod declare;
pub mod models;
pub mod prices;
pub mod quantize;
pub mod serve;
pub mod statements;
pub mod talk;
pub mod tasks;
pub mod usage;
