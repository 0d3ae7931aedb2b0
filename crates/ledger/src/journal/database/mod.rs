//! How is one statement said to either database?
//!
//! Both understand the same SQL, with `$1` for the first value, as long as it keeps to what both have: `coalesce` and not
//! `ifnull`, `CASE` and not sums of truths, `CAST(sum(…) AS BIGINT)`, `ON CONFLICT`, `RETURNING`. So nothing is written
//! twice but the schemas, the beginning of a transaction, and how a list of rows is passed ([`Bulk`]).

mod bulk;
mod checkpoint;
mod failure;
mod place;
mod postgres;
mod row;
mod sqlite;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::RequestId;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::Survives;

pub use self::bulk::{Bulk, Kind};
pub use self::failure::StoreError;
pub use self::place::Place;
pub use self::row::{Columns, Row};
pub use self::sqlite::Link;
use crate::Timestamp;

/// The writing connection.
pub enum Connection {
    Sqlite(Link),
    Postgres(PgConnection),
}

/// Reading connections that never wait for the writer.
#[derive(Clone)]
pub enum Readers {
    Sqlite(Arc<sqlite::Pool>),
    Postgres(PgPool),
}

/// What is bound to a `$n`, with the type that nothing has too.
#[derive(Clone, Debug)]
pub enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Request(RequestId),
}

/// A statement with its values: `sql("…").bind(1).bind("a").all(readers)`.
#[must_use]
pub struct Sql {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

/// Where a statement is said.
pub enum Speaker<'a> {
    Connection(&'a mut Connection),
    Readers(&'a Readers),
}

impl Connection {
    /// Connects; what is not answered within `patience` fails. A file is opened, and used, on the thread that asks.
    pub async fn open(
        place: &Place,
        patience: Duration,
        size_bytes_max: Option<u64>,
        survives: Survives,
    ) -> Result<Connection, StoreError> {
        match place {
            Place::File(path) => Ok(Self::Sqlite(sqlite::connect(path, patience, size_bytes_max, survives)?)),
            Place::Server(options) => {
                Ok(Self::Postgres(postgres::connect(options, patience, survives).await?))
            }
        }
    }

    /// Begins a transaction that writes, as this process. Where one writes at a time, the right to is had at the start, or
    /// nothing is done; where many do, nobody can end this process before the transaction is over.
    pub async fn begin(&mut self, process: Option<i64>) -> Result<(), StoreError> {
        match (&self, process) {
            (Self::Sqlite(_), _) => self.say("BEGIN IMMEDIATE").await,
            (Self::Postgres(_), None) => self.say("BEGIN").await,
            (Self::Postgres(_), Some(process)) => {
                let lock = postgres::process_lock(process);
                self.raw_of(format!("BEGIN; SELECT pg_advisory_xact_lock_shared({lock})")).await
            }
        }
    }
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(link) => link.commit().await,
            Self::Postgres(_) => self.say("COMMIT").await,
        }
    }
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        self.say("ROLLBACK").await
    }

    /// Whether this process may be ended by us now: nobody is in the middle of a transaction of it.
    pub async fn lock_process(&mut self, process: i64) -> Result<bool, StoreError> {
        match self {
            // Whoever else was on this file is dead: the lock of the file says so.
            Self::Sqlite(_) => Ok(true),
            Self::Postgres(_) => {
                let lock = postgres::process_lock(process);
                sql("SELECT pg_try_advisory_xact_lock($1)").bind(lock).one(self).await?.columns().truth()
            }
        }
    }

    /// Returns the time that all processes on this ledger share: the server's, where there is one, for clocks differ.
    pub async fn shared_time(&mut self, at: Timestamp) -> Result<Timestamp, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(at),
            Self::Postgres(_) => {
                let clock = sql("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)");
                Ok(Timestamp::from_millis(clock.integer(self).await?))
            }
        }
    }

    /// One word of a transaction.
    async fn say(&mut self, word: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(link) => {
                link.run(move |connection| sqlite::execute(connection, word, &[])).await.map(drop)
            }
            Self::Postgres(_) => self.raw_of(word.to_owned()).await,
        }
    }

    /// Statements without values, as many as there are in the text.
    pub async fn raw(&mut self, text: &'static str) -> Result<(), StoreError> {
        self.raw_of(text.to_owned()).await
    }
    async fn raw_of(&mut self, text: String) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(link) => link.run(move |connection| connection.execute_batch(&text)).await?,
            Self::Postgres(connection) => {
                sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)?;
            }
        }
        Ok(())
    }
    pub async fn close(self) {
        match self {
            Self::Sqlite(link) => drop(link),
            // Whatever fails here, all that was acknowledged is durable already.
            Self::Postgres(connection) => drop(connection.close().await),
        }
    }
    /// Whether other servers may be on this ledger too.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

/// Reading connections: keys are looked up by index in microseconds, and reports are few.
const READERS_MAX: usize = 4;

impl Readers {
    pub fn open(place: &Place, patience: Duration) -> Readers {
        match place {
            Place::File(path) => Self::Sqlite(Arc::new(sqlite::Pool::new(path, patience, READERS_MAX))),
            Place::Server(options) => {
                Self::Postgres(postgres::readers(options, patience, READERS_MAX as u32))
            }
        }
    }
    /// Returns a connection that sees one moment of the book, however long it reads.
    pub async fn snapshot(&self) -> Result<Connection, StoreError> {
        let (mut connection, begin) = match self {
            Self::Sqlite(pool) => (Connection::Sqlite(pool.link().await?), "BEGIN"),
            Self::Postgres(pool) => (
                Connection::Postgres(pool.acquire().await?.detach()),
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0",
            ),
        };
        connection.raw(begin).await?;
        Ok(connection)
    }
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close(),
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

pub fn sql(text: &'static str) -> Sql {
    Sql { text: text.into(), values: Vec::new() }
}

/// A text that was put together by the program, of parts that the program knows: never of what anybody said.
pub fn sql_of(text: String) -> Sql {
    Sql { text: text.into(), values: Vec::new() }
}

impl Sql {
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Returns how many rows it changed.
    pub async fn execute<'a>(self, to: impl Into<Speaker<'a>>) -> Result<u64, StoreError> {
        let on_file = |said: Self| move |file: &_| sqlite::execute(file, &said.text, &said.values);
        match to.into() {
            Speaker::Connection(Connection::Sqlite(link)) => link.run(on_file(self)).await,
            Speaker::Readers(Readers::Sqlite(pool)) => pool.run(on_file(self)).await,
            Speaker::Connection(Connection::Postgres(connection)) => {
                Ok(self.for_postgres().execute(connection).await?.rows_affected())
            }
            Speaker::Readers(Readers::Postgres(pool)) => {
                Ok(self.for_postgres().execute(pool).await?.rows_affected())
            }
        }
    }

    pub async fn all<'a>(self, from: impl Into<Speaker<'a>>) -> Result<Vec<Row>, StoreError> {
        let on_file = |said: Self| move |file: &_| sqlite::all(file, &said.text, &said.values);
        match from.into() {
            Speaker::Connection(Connection::Sqlite(link)) => link.run(on_file(self)).await,
            Speaker::Readers(Readers::Sqlite(pool)) => pool.run(on_file(self)).await,
            Speaker::Connection(Connection::Postgres(connection)) => {
                Ok(row::postgres(self.for_postgres().fetch_all(connection).await?))
            }
            Speaker::Readers(Readers::Postgres(pool)) => {
                Ok(row::postgres(self.for_postgres().fetch_all(pool).await?))
            }
        }
    }

    fn for_postgres(self) -> postgres::Asked {
        postgres::query(self.text.into_owned(), self.values)
    }

    /// Returns the first row, if there is one.
    pub async fn maybe<'a>(self, from: impl Into<Speaker<'a>>) -> Result<Option<Row>, StoreError> {
        Ok(self.all(from).await?.into_iter().next())
    }
    pub async fn one<'a>(self, from: impl Into<Speaker<'a>>) -> Result<Row, StoreError> {
        self.maybe(from).await?.ok_or_else(|| StoreError::damaged("a row that must be there is not"))
    }
    /// Returns the first column of the one row.
    pub async fn integer<'a>(self, from: impl Into<Speaker<'a>>) -> Result<i64, StoreError> {
        self.one(from).await?.columns().integer()
    }
}

impl Speaker<'_> {
    /// Returns the same, for one more statement.
    pub fn again(&mut self) -> Speaker<'_> {
        match self {
            Self::Connection(connection) => Speaker::Connection(connection),
            Self::Readers(readers) => Speaker::Readers(readers),
        }
    }
}

/// Its options would say the password.
impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl<'a> From<&'a mut Connection> for Speaker<'a> {
    fn from(connection: &'a mut Connection) -> Self {
        Self::Connection(connection)
    }
}
impl<'a> From<&'a Readers> for Speaker<'a> {
    fn from(readers: &'a Readers) -> Self {
        Self::Readers(readers)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}
impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}
impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}
impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}
impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}
impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}
impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}
impl From<&RequestId> for Value {
    fn from(value: &RequestId) -> Self {
        Self::Request(value.clone())
    }
}
