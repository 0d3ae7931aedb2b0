//! What is SQLite's own: how a file is opened, and how values are bound.

use std::path::Path;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection, Sqlite, SqliteConnection, SqlitePool};

use super::{StoreError, Value};
use crate::journal::Survives;
use crate::journal::codes::StoredRequest;

pub async fn connect(
    path: &Path,
    patience: Duration,
    size_bytes_max: Option<u64>,
    survives: Survives,
) -> Result<SqliteConnection, StoreError> {
    let synchronous = match survives {
        // A commit returns when the disk has it: an acknowledged entry survives a power cut.
        Survives::PowerLoss => SqliteSynchronous::Full,
        // It returns when the system has it, which outlives the process.
        Survives::ProcessLoss => SqliteSynchronous::Normal,
    };
    let options = options(path, patience).synchronous(synchronous).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    if let Some(bytes) = size_bytes_max {
        let page_bytes: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await?;
        let pragma = format!("PRAGMA max_page_count = {}", bytes / page_bytes.unsigned_abs());
        sqlx::raw_sql(AssertSqlSafe(pragma)).execute(&mut connection).await?;
    }
    Ok(connection)
}

pub fn readers(path: &Path, patience: Duration, connections_max: u32) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(patience)
        .connect_lazy_with(options(path, patience).read_only(true))
}

/// Settings that every connection to a ledger shares.
fn options(path: &Path, patience: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        // A lock that somebody else has on the file is waited for this long.
        .busy_timeout(patience)
        // After a burst the log shrinks back to this.
        .pragma("journal_size_limit", "67108864")
}

pub fn query(text: AssertSqlSafe<String>, values: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Integer(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::Request(request) => match StoredRequest::of(&request) {
            StoredRequest::Bytes(bytes) => query.bind(bytes),
            StoredRequest::Text(text) => query.bind(text),
        },
    })
}
