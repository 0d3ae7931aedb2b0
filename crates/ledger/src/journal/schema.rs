//! How a file becomes a ledger of today's schema: migrations, forward only.

use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use super::store::StoreError;
use crate::LedgerError;

/// Marks the file as a Baseload ledger, so that another program's database is never migrated into one.
const APPLICATION_ID: i64 = 0x4261_7365; // "Base"

/// Migration `i` leads from schema `i` to schema `i + 1`. Released ones never change; new ones are added at the end.
const MIGRATIONS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

pub const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Brings the schema to today's, in one transaction; a newer schema or a stranger's file is refused and left alone.
pub async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    if version(connection, path).await? == KNOWN {
        return Ok(());
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Read again, now that nobody else can migrate.
    let found = version(&mut transaction, path).await?;
    for migration in &MIGRATIONS[found as usize..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {KNOWN};");
    sqlx::raw_sql(sqlx::AssertSqlSafe(marks)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

async fn version(connection: &mut SqliteConnection, path: &Path) -> Result<i64, StoreError> {
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(StoreError::Told(LedgerError::Open {
            path: path.to_owned(),
            why: "it is a database of another program".into(),
            advice: "choose another data folder",
        }));
    }
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    if found > KNOWN {
        return Err(StoreError::Told(LedgerError::NewerSchema {
            path: path.to_owned(),
            found,
            known: KNOWN,
        }));
    }
    Ok(found)
}
