//! What is kept, from outside: real files, a real Redis, a real Postgres.

#[path = "../../../ledger/tests/it/postgres/server.rs"]
mod postgres;
mod redis;
mod responses;
