//! How does started work become the client's answer, booked before its end is told?
//!
//! ```text
//! an engine of our own:  WorkEvents ─▶ local ──┐
//!                                              ├─▶ Listener ─▶ SSE as it grows, or one whole body
//! an upstream elsewhere: AnswerEvents ─▶ remote┘
//! ```
//! An answer is owned by a task of its own, which outlives the connection. It ends in exactly one way, an [`end::End`], and only
//! a complete one is told as an end that is good: finish reasons, usage, `[DONE]`. Any other is an error event without
//! `[DONE]`, or an error status when nothing was sent yet.

mod choice;
mod credit;
pub mod end;
pub mod listener;
pub mod local;
mod outlet;
mod purse;
pub mod remote;
mod tally;
