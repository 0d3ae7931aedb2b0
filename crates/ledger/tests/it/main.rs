//! The journal from outside: real files, real processes.

mod accounts;
mod booking;
mod conservation;
mod crash;
mod keys;
mod support;
mod trouble;
mod usage;
