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
pub mod remote;
mod tally;

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::admit::Growth;

/// How long cancelled work may take to say what it used. The engine answers within a step; steps are bounded by its own
/// budget, tenths of a second. After this the door's own count is booked.
const LAST_COUNT_WAIT: Duration = Duration::from_secs(5);

/// Returns what came of the wish under way; waits for ever where there is none.
async fn grown(growth: &mut Option<JoinHandle<Growth>>) -> Growth {
    let Some(task) = growth else { return std::future::pending().await };
    // It ends without a word only by a panic, which the runtime has logged.
    let grown = task.await.unwrap_or(Growth::Lost);
    *growth = None;
    grown
}
