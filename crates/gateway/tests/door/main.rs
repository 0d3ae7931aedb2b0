//! What does a client see at the door, over real sockets, with a scripted engine behind it?

mod engine;
mod harness;
mod words;

mod admin;
mod admissions;
mod answers;
mod away;
mod book;
mod departures;
mod limits;
mod refusals;
mod seen;
mod shutdown;
mod stages;
mod tasks;
