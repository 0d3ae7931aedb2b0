//! What is SQLite's own: how a file is opened, where its calls run, and how values are bound.
//!
//! SQLite is a library: a call is work, not waiting. The writer has a thread of its own and says its statements there, one
//! after the other, without handing each to somebody else; whoever reads hands the connection to a thread that may block.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, Statement, ToSql};
use tokio::sync::Semaphore;

use super::checkpoint::Checkpoints;
use super::{Row, StoreError, Value};
use crate::LedgerError;
use crate::journal::Survives;
use crate::journal::codes::StoredRequest;

/// A connection, and where its calls run.
pub enum Link {
    /// On the thread that asks, which may block. The thread that copies is gone before the connection.
    Here { checkpoints: Box<Checkpoints>, connection: rusqlite::Connection },
    /// On a thread for that. Nothing is left of it where whoever asked has gone away in the middle of a call.
    Aside(Option<rusqlite::Connection>),
}

/// Reading connections, opened when they are needed.
pub struct Pool {
    path: PathBuf,
    patience: Duration,
    idle: Mutex<Vec<rusqlite::Connection>>,
    free: Semaphore,
}

/// Texts of statements that are prepared once: all that the writer says again and again.
const PREPARED_MAX: usize = 256;

pub fn connect(
    path: &Path,
    patience: Duration,
    size_bytes_max: Option<u64>,
    survives: Survives,
) -> Result<Link, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, flags, patience)?;
    // `journal_mode` answers with a row, and is changed before anything else is said.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // After a burst the log shrinks back to this.
    connection.pragma_update_and_check(None, "journal_size_limit", 67_108_864, |_| Ok(()))?;
    let synchronous = match survives {
        // A commit returns when the disk has it: an acknowledged entry survives a power cut.
        Survives::PowerLoss => "full",
        // It returns when the system has it, which outlives the process.
        Survives::ProcessLoss => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    if let Some(bytes) = size_bytes_max {
        let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = (bytes / page_bytes.unsigned_abs()) as i64;
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(Link::Here { checkpoints: Box::new(Checkpoints::of(&connection, path)), connection })
}

fn open(path: &Path, flags: OpenFlags, patience: Duration) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    // A lock that somebody else has on the file is waited for this long.
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
    Ok(connection)
}

impl Link {
    pub async fn run<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self {
            Self::Here { connection, .. } => Ok(call(connection)?),
            Self::Aside(place) => {
                let connection = place.take().ok_or_else(|| gone("its connection was given up"))?;
                let (connection, result) = aside(move || {
                    let result = call(&connection);
                    Ok((connection, result))
                })
                .await?;
                *place = Some(connection);
                Ok(result?)
            }
        }
    }
}

impl Link {
    /// Ends a transaction that wrote.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        self.run(|connection| execute(connection, "COMMIT", &[])).await?;
        if let Self::Here { checkpoints, connection } = self {
            checkpoints.after_commit(connection);
        }
        Ok(())
    }
}

impl Pool {
    pub fn new(path: &Path, patience: Duration, connections_max: usize) -> Self {
        let (idle, free) = (Mutex::default(), Semaphore::new(connections_max));
        Self { path: path.to_owned(), patience, idle, free }
    }

    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _permit = match tokio::time::timeout(self.patience, self.free.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(gone("it is closed")),
            Err(_) => return Err(gone("its readers are all busy")),
        };
        let mut link = self.link().await?;
        let result = link.run(call).await;
        if let Link::Aside(Some(connection)) = link {
            self.idle.lock().push(connection);
        }
        result
    }

    /// Returns a connection that is the asker's alone.
    pub async fn link(&self) -> Result<Link, StoreError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let (path, patience) = (self.path.clone(), self.patience);
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                aside(move || open(&path, flags, patience)).await?
            }
        };
        Ok(Link::Aside(Some(connection)))
    }

    pub fn close(&self) {
        self.free.close();
        self.idle.lock().clear();
    }
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|error| gone(&error.to_string()))??)
}

fn gone(why: &str) -> StoreError {
    LedgerError::Unavailable { doing: "reading", why: why.to_owned() }.into()
}

/// Returns how many rows the statement changed.
pub fn execute(connection: &rusqlite::Connection, text: &str, values: &[Value]) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(text)?;
    bind(&mut statement, values)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(connection.changes())
}

pub fn all(connection: &rusqlite::Connection, text: &str, values: &[Value]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = Vec::new();
    read(&mut statement, values, &mut rows)?;
    Ok(rows)
}

/// Says one statement with the values of each row in turn: what it costs is the work, for it is prepared already.
pub fn each(
    connection: &rusqlite::Connection,
    text: &str,
    values: &[Vec<Value>],
) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = Vec::new();
    values.iter().try_for_each(|values| read(&mut statement, values, &mut rows))?;
    Ok(rows)
}

fn read(statement: &mut Statement<'_>, values: &[Value], into: &mut Vec<Row>) -> rusqlite::Result<()> {
    bind(statement, values)?;
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let cells = (0..columns).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
        into.push(Row::Sqlite(cells));
    }
    Ok(())
}

/// To SQLite `$2` is a name like any other, whose place is where it is first said; a `?` has no name, and its own place.
fn bind(statement: &mut Statement<'_>, values: &[Value]) -> rusqlite::Result<()> {
    for place in 1..=statement.parameter_count() {
        let name = statement.parameter_name(place);
        let number = name.and_then(|name| name.strip_prefix('$')?.parse().ok()).unwrap_or(place);
        let value =
            values.get(number - 1).ok_or(rusqlite::Error::InvalidParameterCount(number, values.len()))?;
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
            Self::Integer(Some(value)) => ValueRef::Integer(*value),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Request(request) => {
                return Ok(ToSqlOutput::Owned(match StoredRequest::of(request) {
                    StoredRequest::Bytes(bytes) => rusqlite::types::Value::Blob(bytes),
                    StoredRequest::Text(text) => rusqlite::types::Value::Text(text),
                }));
            }
        }))
    }
}
