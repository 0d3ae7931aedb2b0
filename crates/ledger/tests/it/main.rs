//! The journal from outside: real files, real processes.

mod booking;
mod conservation;
mod crash;
mod keys;
mod support;
mod trouble;
mod usage;
