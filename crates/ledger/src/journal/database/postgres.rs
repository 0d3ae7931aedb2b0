//! What is Postgres' own: how a server is connected to, and how values are bound.

use std::time::Duration;

use domain::RequestId;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use super::{Kind, StoreError, Value};
use crate::LedgerError;
use crate::journal::Survives;
use crate::journal::codes::StoredRequest;

pub async fn connect(
    options: &PgConnectOptions,
    patience: Duration,
    survives: Survives,
) -> Result<PgConnection, StoreError> {
    // Whatever the database's configuration says of others.
    let commits = match survives {
        Survives::PowerLoss => "on",
        Survives::ProcessLoss => "off",
    };
    let options = patient(options.clone(), patience).options([("synchronous_commit", commits)]);
    match timeout(patience, PgConnection::connect_with(&options)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(StoreError::Told(LedgerError::Unavailable {
            doing: "connecting",
            why: format!("the server did not answer within {} ms", patience.as_millis()),
        })),
    }
}

pub fn readers(options: &PgConnectOptions, patience: Duration, connections_max: u32) -> PgPool {
    let options = patient(options.clone(), patience).options([("default_transaction_read_only", "on")]);
    PgPoolOptions::new()
        .min_connections(0)
        .max_connections(connections_max)
        .acquire_timeout(patience)
        .connect_lazy_with(options)
}

/// The server gives up on a statement before its caller does, so that a slow one frees its locks.
fn patient(options: PgConnectOptions, patience: Duration) -> PgConnectOptions {
    let patience = patience.as_millis().max(1).to_string();
    options.options([
        ("statement_timeout", patience.as_str()),
        ("lock_timeout", patience.as_str()),
        ("idle_in_transaction_session_timeout", patience.as_str()),
        ("client_min_messages", "warning"),
    ])
}

/// The advisory lock that a process' transactions share, and that whoever ends it takes alone.
pub fn process_lock(process: i64) -> i64 {
    const PROCESSES: i64 = 0x4261_7365 << 32; // "Base"
    PROCESSES ^ process
}

pub type Asked = Query<'static, Postgres, PgArguments>;

pub fn query(text: String, values: Vec<Value>) -> Asked {
    values.into_iter().fold(sqlx::query(AssertSqlSafe(text)), |query, value| match value {
        Value::Integer(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::Request(request) => query.bind(request_bytes(&request)),
    })
}

/// Binds rows as one array for each column.
pub fn query_columns(text: String, columns: impl Iterator<Item = Kind>, rows: Vec<Vec<Value>>) -> Asked {
    let mut query = sqlx::query(AssertSqlSafe(text));
    for (column, kind) in columns.enumerate() {
        let cells = rows.iter().map(|row| &row[column]);
        query = match kind {
            Kind::Integer => query.bind(cells.map(integer).collect::<Vec<_>>()),
            Kind::Text => query.bind(cells.map(text_of).collect::<Vec<_>>()),
            Kind::Request => query.bind(cells.map(request).collect::<Vec<_>>()),
        };
    }
    query
}

pub fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer => "bigint",
        Kind::Text => "text",
        Kind::Request => "bytea",
    }
}

/// A request's name is stored as bytes whose first says what the others are.
pub const NUMBER: u8 = 0;
const TEXT: u8 = 1;

pub fn stored_request(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(kind, rest)| (*kind, rest))
}

fn request_bytes(request: &RequestId) -> Vec<u8> {
    let (kind, bytes) = match StoredRequest::of(request) {
        StoredRequest::Bytes(bytes) => (NUMBER, bytes),
        StoredRequest::Text(text) => (TEXT, text.into_bytes()),
    };
    [vec![kind], bytes].concat()
}

fn integer(value: &Value) -> Option<i64> {
    let Value::Integer(value) = value else { unreachable!("the column holds integers, not {value:?}") };
    *value
}
fn text_of(value: &Value) -> Option<String> {
    let Value::Text(value) = value else { unreachable!("the column holds texts, not {value:?}") };
    value.clone()
}
fn request(value: &Value) -> Vec<u8> {
    let Value::Request(request) = value else { unreachable!("the column holds requests, not {value:?}") };
    request_bytes(request)
}
