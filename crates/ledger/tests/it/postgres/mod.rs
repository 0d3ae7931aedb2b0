//! The suite over Postgres, and what is Postgres' own.
#![expect(clippy::duplicate_mod, reason = "the suite is compiled once for each database, with another home")]

pub mod server;
pub mod support;

#[path = "../accounts.rs"]
mod accounts;
#[path = "../booking.rs"]
mod booking;
#[path = "../conservation.rs"]
mod conservation;
#[path = "../crowd.rs"]
mod crowd;
#[path = "../growing.rs"]
mod growing;
#[path = "../keys.rs"]
mod keys;
#[path = "../limits.rs"]
mod limits;
mod limits_shared;
#[path = "../processes.rs"]
mod processes;
#[path = "../saving.rs"]
mod saving;
mod sharing;
#[path = "../state_machine.rs"]
mod state_machine;
#[path = "../tampering.rs"]
mod tampering;
#[path = "../tasks.rs"]
mod tasks;
mod trouble;
#[path = "../usage.rs"]
mod usage;
