//! The journal from outside: real files, a real server, real processes. What both databases must do is asked of both.

mod common;
mod postgres;
mod sqlite;
