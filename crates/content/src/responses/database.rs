//! How is one statement said to SQLite or to Postgres?
//!
//! Both understand the same SQL, with `$1` for the first value. Only the schemas and the making of tables differ.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{PgPool, Row as _, SqlitePool};

use super::StoreError;

#[derive(Clone, Debug)]
pub enum Database {
    /// One connection writes; others read beside it, but for a database in memory, which has only one.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

#[derive(Clone, Debug)]
pub enum Value {
    Integer(i64),
    Text(String),
    MaybeText(Option<String>),
}

pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Marks the file as ours.
const APPLICATION_ID: i64 = 0x4261_7343; // "BasC"
const SCHEMA: i64 = 1;
const READERS_MAX: u32 = 4;
/// The tables lie in a schema of their own, so that they may share a database with the ledger.
const POSTGRES_SCHEMA: &str = "baseload_content";

impl Database {
    pub async fn open(url: &str, patience: Duration) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            let advice = "choose a data folder that this user may write";
            return file(path, patience)
                .await
                .map_err(|why| open_error(path.display().to_string(), why, advice));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let place = || "the Postgres server".to_owned();
            let advice = "check that it runs, and that this user may make a schema in this database";
            return server(url, patience).await.map_err(|why| open_error(place(), why, advice));
        }
        // The URL itself is not said: it may hold a password.
        let why = "its address is neither sqlite:PATH nor postgres://…".to_owned();
        Err(open_error("the address given".into(), why, "write one of these"))
    }

    pub async fn in_memory() -> Result<Self, StoreError> {
        let options = sqlite_options(Path::new(":memory:"), Duration::ZERO);
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let made = async {
            let pool = pool.connect_with(writing(options)).await.map_err(text)?;
            make_sqlite(&pool).await?;
            Ok(Self::Sqlite { writer: pool.clone(), readers: pool })
        };
        made.await.map_err(|why| open_error("memory".into(), why, "free some memory"))
    }

    /// Returns how many rows it changed.
    pub async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { writer, .. } => bound_sqlite(sql, values).execute(writer).await?.rows_affected(),
            Self::Postgres(pool) => bound_postgres(sql, values).execute(pool).await?.rows_affected(),
        })
    }

    pub async fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                bound_sqlite(sql, values).fetch_all(readers).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(pool) => {
                bound_postgres(sql, values).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Gives pages that are free back to the disk, some at a time. Postgres does so by itself.
    pub async fn shrink(&self) -> Result<(), sqlx::Error> {
        if let Self::Sqlite { writer, .. } = self {
            // It must be read to its end: each row that is asked for frees a page.
            sqlx::query("PRAGMA incremental_vacuum(2000)").fetch_all(writer).await?;
        }
        Ok(())
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

macro_rules! column {
    ($row:expr, $index:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($index),
            Row::Postgres(row) => row.try_get($index),
        }
    };
}

impl Row {
    pub fn integer(&self, column: usize) -> Result<i64, sqlx::Error> {
        column!(self, column)
    }
    pub fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        column!(self, column)
    }
    pub fn maybe_text(&self, column: usize) -> Result<Option<String>, sqlx::Error> {
        column!(self, column)
    }
}

macro_rules! bound {
    ($name:ident, $database:ty, $arguments:ty) => {
        fn $name(
            sql: &'static str,
            values: Vec<Value>,
        ) -> sqlx::query::Query<'static, $database, $arguments> {
            values.into_iter().fold(sqlx::query(sql), |query, value| match value {
                Value::Integer(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::MaybeText(value) => query.bind(value),
            })
        }
    };
}
bound!(bound_sqlite, sqlx::Sqlite, sqlx::sqlite::SqliteArguments);
bound!(bound_postgres, sqlx::Postgres, sqlx::postgres::PgArguments);

async fn file(path: &Path, patience: Duration) -> Result<Database, String> {
    prepare(path).map_err(|error| error.to_string())?;
    let options = sqlite_options(path, patience);
    let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(patience);
    let writer = writer.connect_with(writing(options.clone())).await.map_err(text)?;
    make_sqlite(&writer).await?;
    let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).acquire_timeout(patience);
    Ok(Database::Sqlite { writer, readers: readers.connect_lazy_with(options.read_only(true)) })
}

/// Makes the folder and the file: what people wrote is for this user's eyes only, and so are the files that SQLite puts
/// beside it, which take after it.
fn prepare(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn sqlite_options(path: &Path, patience: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // What was kept survives the end of the process; the last moment before a power cut may be lost, which costs somebody
        // a turn of a conversation and nobody money.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(patience)
}

fn writing(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .create_if_missing(true)
        // A file keeps the way that its first page was written in.
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        // What is deleted is written over, not only forgotten.
        .pragma("secure_delete", "ON")
        .pragma("journal_size_limit", "67108864")
}

async fn make_sqlite(pool: &SqlitePool) -> Result<(), String> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(text)?;
    let application: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *transaction).await.map_err(text)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *transaction)
        .await
        .map_err(text)?;
    if tables > 0 {
        let found: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await.map_err(text)?;
        return check(application == APPLICATION_ID, found);
    }
    let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA};");
    sqlx::raw_sql(include_str!("sqlite.sql")).execute(&mut *transaction).await.map_err(text)?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(marks)).execute(&mut *transaction).await.map_err(text)?;
    transaction.commit().await.map_err(text)
}

async fn server(url: &str, patience: Duration) -> Result<Database, String> {
    let millis = patience.as_millis().max(1).to_string();
    let options = PgConnectOptions::from_str(url).map_err(text)?.application_name("baseload").options([
        ("search_path", POSTGRES_SCHEMA),
        ("statement_timeout", millis.as_str()),
        ("lock_timeout", millis.as_str()),
        // As in SQLite: the last moment before a power cut may be lost.
        ("synchronous_commit", "off"),
        ("client_min_messages", "warning"),
    ]);
    let pool = PgPoolOptions::new().max_connections(READERS_MAX).acquire_timeout(patience);
    let pool = pool.connect_with(options).await.map_err(text)?;
    let mut transaction = pool.begin().await.map_err(text)?;
    // Whoever else starts now waits here, and then finds the work done.
    let begin = format!(
        "SELECT pg_advisory_xact_lock({APPLICATION_ID}); CREATE SCHEMA IF NOT EXISTS {POSTGRES_SCHEMA}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *transaction).await.map_err(text)?;
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('version') IS NOT NULL")
        .fetch_one(&mut *transaction)
        .await
        .map_err(text)?;
    if is_there {
        let found = sqlx::query_scalar("SELECT number FROM version")
            .fetch_one(&mut *transaction)
            .await
            .map_err(text)?;
        check(true, found)?;
    } else {
        let mark =
            format!("CREATE TABLE version (number bigint NOT NULL); INSERT INTO version VALUES ({SCHEMA})");
        sqlx::raw_sql(include_str!("postgres.sql")).execute(&mut *transaction).await.map_err(text)?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(mark)).execute(&mut *transaction).await.map_err(text)?;
    }
    transaction.commit().await.map_err(text)?;
    Ok(Database::Postgres(pool))
}

fn check(is_ours: bool, found: i64) -> Result<(), String> {
    match found {
        _ if !is_ours => Err("it is a database of another program".into()),
        SCHEMA => Ok(()),
        found => Err(format!("its schema is of version {found}, and this program knows {SCHEMA}")),
    }
}

fn text(error: sqlx::Error) -> String {
    error.to_string()
}

fn open_error(place: String, why: String, advice: &'static str) -> StoreError {
    StoreError::Open { place, why, advice }
}
