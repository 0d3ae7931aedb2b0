//! What an OpenAI-compatible endpoint does under load, seen as its clients see it.
//!
//! Knows HTTP as a client, arrivals, lengths and percentiles. Knows nothing of engines, prices or our own server: what it
//! measures, it measures over a socket.
//!
//! The words follow the field: *TTFT* is the time from sending a request to its first token, *TPOT* the time per further
//! token, *end-to-end* the time to the last byte, *goodput* the requests a second that met every stated limit.
#![forbid(unsafe_code)]

mod client;
pub mod drill;
mod plan;
mod prompt;
mod report;
mod run;
mod stats;

pub use client::{Endpoint, Sample};
pub use plan::{Arrival, Arrivals, Lengths, PlanError, read_trace};
pub use report::{Report, table, write_report};
pub use run::{RunOptions, run};
pub use stats::{Percentiles, Slo, Summary, percentile};
