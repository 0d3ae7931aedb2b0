//! The caretaker: work that nobody asked for in a request, but that must be done for the service to stay right.
#![forbid(unsafe_code)]

pub mod admin_api;
mod events;
pub mod jobs;
