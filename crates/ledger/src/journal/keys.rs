//! How keys are kept and found.

use domain::Account;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};

use super::rows::Columns;
use super::store::{Store, StoreError};
use crate::{KeyId, KeyRecord, LedgerError, Role, Scopes, Timestamp};

macro_rules! select_keys {
    ($rest:literal) => {
        concat!(
            "SELECT k.id, k.name, a.name, k.created_at, k.revoked_at \
             FROM api_key k JOIN account a ON a.id = k.account ",
            $rest
        )
    };
}

impl Store {
    pub async fn add_key(&mut self, record: &KeyRecord, hash: &[u8; 32]) -> Result<KeyRecord, StoreError> {
        let taken: i64 =
            sqlx::query_scalar("SELECT count(*) FROM api_key WHERE name = ? AND revoked_at IS NULL")
                .bind(&record.name)
                .fetch_one(self.connection())
                .await?;
        if taken > 0 {
            return Err(LedgerError::KeyNameTaken { name: record.name.clone() }.into());
        }
        let account = self.account(&record.account).await?;
        sqlx::query("INSERT INTO api_key (id, hash, name, account, created_at) VALUES (?, ?, ?, ?, ?)")
            .bind(&record.id.0)
            .bind(hash.to_vec())
            .bind(&record.name)
            .bind(account)
            .bind(record.created_at.millis())
            .execute(self.connection())
            .await?;
        Ok(record.clone())
    }

    pub async fn revoke_key(&mut self, id: &KeyId, at: Timestamp) -> Result<KeyRecord, StoreError> {
        sqlx::query("UPDATE api_key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL")
            .bind(at.millis())
            .bind(&id.0)
            .execute(self.connection())
            .await?;
        by_id(self.connection(), id).await?.ok_or_else(|| LedgerError::NoSuchKey { id: id.0.clone() }.into())
    }
}

/// Returns the active key with this hash. Asked anew for each request, so a key is revoked the moment it is, by whichever process.
pub async fn find(readers: &SqlitePool, hash: &[u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
    let row = sqlx::query(select_keys!("WHERE k.hash = ? AND k.revoked_at IS NULL"))
        .bind(hash.to_vec())
        .fetch_optional(readers)
        .await?;
    row.as_ref().map(record).transpose()
}

pub async fn list(readers: &SqlitePool) -> Result<Vec<KeyRecord>, StoreError> {
    let rows = sqlx::query(select_keys!("ORDER BY k.created_at, k.id")).fetch_all(readers).await?;
    rows.iter().map(record).collect()
}

pub async fn any_active(readers: &SqlitePool) -> Result<bool, StoreError> {
    let any: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM api_key WHERE revoked_at IS NULL)")
        .fetch_one(readers)
        .await?;
    Ok(any == 1)
}

async fn by_id(connection: &mut SqliteConnection, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    let row = sqlx::query(select_keys!("WHERE k.id = ?")).bind(&id.0).fetch_optional(connection).await?;
    row.as_ref().map(record).transpose()
}

fn record(row: &SqliteRow) -> Result<KeyRecord, StoreError> {
    let mut columns = Columns { row, next: 0 };
    Ok(KeyRecord {
        id: KeyId(columns.text()?),
        name: columns.text()?,
        account: Account::new(columns.text()?),
        role: Role::default(),
        scopes: Scopes::EVERYTHING,
        expires_at: None,
        created_at: Timestamp::from_millis(columns.integer()?),
        created_by: None,
        revoked_at: columns.maybe_integer()?.map(Timestamp::from_millis),
        rotated_from: None,
    })
}
