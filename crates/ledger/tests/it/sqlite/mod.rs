//! The suite over SQLite, and what is SQLite's own.
#![expect(clippy::duplicate_mod, reason = "the suite is compiled once for each database, with another home")]

pub mod support;

#[path = "../accounts.rs"]
mod accounts;
#[path = "../booking.rs"]
mod booking;
#[path = "../conservation.rs"]
mod conservation;
mod crash;
#[path = "../crowd.rs"]
mod crowd;
#[path = "../growing.rs"]
mod growing;
#[path = "../keys.rs"]
mod keys;
#[path = "../limits.rs"]
mod limits;
mod migration;
#[path = "../processes.rs"]
mod processes;
#[path = "../saving.rs"]
mod saving;
#[path = "../state_machine.rs"]
mod state_machine;
#[path = "../tampering.rs"]
mod tampering;
#[path = "../tasks.rs"]
mod tasks;
mod trouble;
#[path = "../usage.rs"]
mod usage;
