//! How does an empty database, or one of an older version, become a ledger of today's schema? By migrations, forward only.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::database::{Connection, Link, Place, StoreError};
use crate::LedgerError;

/// Migration `i` leads from schema `i` to schema `i + 1`. Released ones never change; new ones are added at the end.
const SQLITE: [&str; 3] =
    [include_str!("sqlite/1.sql"), include_str!("sqlite/2.sql"), include_str!("sqlite/3.sql")];
const POSTGRES: [&str; 2] = [include_str!("postgres/1.sql"), include_str!("postgres/2.sql")];

/// Marks the file as a Baseload ledger, so that another program's database is never migrated into one.
const APPLICATION_ID: i64 = 0x4261_7365; // "Base"

/// Brings the schema to today's, in one transaction; a newer schema or a stranger's database is refused and left alone.
pub async fn migrate(connection: &mut Connection, place: &Place) -> Result<(), StoreError> {
    match connection {
        Connection::Sqlite(connection) => sqlite(connection, place).await,
        Connection::Postgres(connection) => postgres(connection, place).await,
    }
}

async fn sqlite(link: &mut Link, place: &Place) -> Result<(), StoreError> {
    if sqlite_version(link, place).await? == SQLITE.len() as i64 {
        return Ok(());
    }
    link.run(|file| file.execute_batch("BEGIN IMMEDIATE")).await?;
    // Read again, now that nobody else can migrate.
    let migrated = match sqlite_version(link, place).await {
        Ok(found) => link.run(move |file| migrate_from(found, file)).await,
        Err(error) => Err(error),
    };
    if migrated.is_err() {
        // Some failures have ended the transaction already.
        let _ = link.run(|file| file.execute_batch("ROLLBACK")).await;
    }
    migrated
}

fn migrate_from(found: i64, file: &rusqlite::Connection) -> rusqlite::Result<()> {
    SQLITE[found as usize..].iter().try_for_each(|migration| file.execute_batch(migration))?;
    file.pragma_update(None, "application_id", APPLICATION_ID)?;
    file.pragma_update(None, "user_version", SQLITE.len() as i64)?;
    file.execute_batch("COMMIT")
}

async fn sqlite_version(link: &mut Link, place: &Place) -> Result<i64, StoreError> {
    let (application, tables, found) = link
        .run(|file| {
            let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0));
            let application = number("PRAGMA application_id")?;
            let tables = number("SELECT count(*) FROM sqlite_schema")?;
            Ok((application, tables, number("PRAGMA user_version")?))
        })
        .await?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(stranger(place, "choose another data folder"));
    }
    check_known(found, SQLITE.len() as i64, place)
}

async fn postgres(connection: &mut PgConnection, place: &Place) -> Result<(), StoreError> {
    if postgres_version(connection, place).await? == POSTGRES.len() as i64 {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // Whoever else starts now waits here, and then finds the work done.
    let lock = format!("SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({APPLICATION_ID})");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    let found = postgres_version(&mut transaction, place).await?;
    for migration in &POSTGRES[found as usize..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    let known = POSTGRES.len();
    let mark = format!(
        "CREATE TABLE IF NOT EXISTS baseload_ledger (schema bigint NOT NULL); DELETE FROM baseload_ledger; \
         INSERT INTO baseload_ledger VALUES ({known})"
    );
    sqlx::raw_sql(AssertSqlSafe(mark)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

async fn postgres_version(connection: &mut PgConnection, place: &Place) -> Result<i64, StoreError> {
    // Counted before the mark is looked for: a server that migrates meanwhile adds both at once, and is no stranger.
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace",
    )
    .fetch_one(&mut *connection)
    .await?;
    let is_ours: bool = sqlx::query_scalar("SELECT to_regclass('baseload_ledger') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if is_ours {
        let found =
            sqlx::query_scalar("SELECT schema FROM baseload_ledger").fetch_one(&mut *connection).await?;
        return check_known(found, POSTGRES.len() as i64, place);
    }
    if tables > 0 { Err(stranger(place, "create a database, or a schema, of its own")) } else { Ok(0) }
}

fn check_known(found: i64, known: i64, place: &Place) -> Result<i64, StoreError> {
    if found > known {
        return Err(LedgerError::NewerSchema { ledger: place.to_string(), found, known }.into());
    }
    Ok(found)
}

fn stranger(place: &Place, advice: &'static str) -> StoreError {
    let why = "it is a database of another program".into();
    LedgerError::Open { ledger: place.to_string(), why, advice }.into()
}
