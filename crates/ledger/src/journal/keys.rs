//! How are keys kept, and found by their secret's hash?

use domain::Account;

use super::accounts;
use super::database::{Connection, Readers, Row, sql};
use super::store::{Store, StoreError};
use crate::{FoundKey, KeyId, KeyQuery, KeyRecord, KeyState, LedgerError, Rotation, Scopes, Timestamp};

macro_rules! select_keys {
    ($rest:literal) => {
        concat!(
            "SELECT k.id, k.name, a.name, k.role, k.scopes, k.expires_at, k.created_at, k.created_by, k.revoked_at, \
             k.rotated_from FROM api_key k JOIN account a ON a.id = k.account ",
            $rest
        )
    };
}

impl Store {
    pub async fn add_key(&mut self, record: &KeyRecord, hash: &[u8; 32]) -> Result<KeyRecord, StoreError> {
        let account = self.account(&record.account).await?;
        let taken =
            sql("SELECT count(*) FROM api_key WHERE account = $1 AND name = $2 AND revoked_at IS NULL")
                .bind(account)
                .bind(&record.name)
                .integer(self.connection())
                .await?;
        if taken > 0 {
            return Err(LedgerError::KeyNameTaken { name: record.name.clone() }.into());
        }
        self.insert_key(record, account, hash).await
    }

    /// The new key takes the old one's name, and the old one gets an end.
    pub async fn rotate_key(
        &mut self,
        rotation: &Rotation,
        hash: &[u8; 32],
    ) -> Result<KeyRecord, StoreError> {
        let old = by_id(self.connection(), &rotation.id).await?;
        let old = old.ok_or_else(|| LedgerError::NoSuchKey { id: rotation.id.0.clone() })?;
        let state = old.state(rotation.at);
        if state != KeyState::Active {
            return Err(LedgerError::KeyNotActive { id: old.id.0, state: state.word() }.into());
        }
        let successor = sql("SELECT id FROM api_key WHERE rotated_from = $1 AND revoked_at IS NULL")
            .bind(&old.id.0)
            .maybe(self.connection())
            .await?;
        if let Some(row) = successor {
            let by = row.columns().text()?;
            return Err(LedgerError::KeyReplaced { id: old.id.0, by }.into());
        }
        let (new, old_end) = old.rotated(hash, rotation);
        let account = self.account(&new.account).await?;
        let new = self.insert_key(&new, account, hash).await?;
        sql("UPDATE api_key SET expires_at = $2 WHERE id = $1")
            .bind(&old.id.0)
            .bind(old_end.millis())
            .execute(self.connection())
            .await?;
        Ok(new)
    }

    async fn insert_key(
        &mut self,
        record: &KeyRecord,
        account: i64,
        hash: &[u8; 32],
    ) -> Result<KeyRecord, StoreError> {
        let scopes = serde_json::to_string(&record.scopes).expect("scopes are plain data");
        sql(
            "INSERT INTO api_key (id, hash, name, account, role, scopes, expires_at, created_at, created_by, rotated_from) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(&record.id.0)
        .bind(hash.to_vec())
        .bind(&record.name)
        .bind(account)
        .bind(record.role.word())
        .bind(scopes)
        .bind(record.expires_at.map(Timestamp::millis))
        .bind(record.created_at.millis())
        .bind(record.created_by.as_ref().map(|key| key.0.clone()))
        .bind(record.rotated_from.as_ref().map(|key| key.0.clone()))
        .execute(self.connection())
        .await?;
        Ok(record.clone())
    }

    pub async fn revoke_key(&mut self, id: &KeyId, at: Timestamp) -> Result<KeyRecord, StoreError> {
        sql("UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
            .bind(&id.0)
            .bind(at.millis())
            .execute(self.connection())
            .await?;
        by_id(self.connection(), id).await?.ok_or_else(|| LedgerError::NoSuchKey { id: id.0.clone() }.into())
    }
}

/// Returns the key with this hash, whatever became of it. Asked anew for each request, so a key is revoked the moment it is,
/// by whichever process.
pub async fn find(readers: &Readers, hash: &[u8; 32]) -> Result<Option<FoundKey>, StoreError> {
    let row = sql(select_keys!("WHERE k.hash = $1")).bind(hash.to_vec()).maybe(readers).await?;
    let Some(record) = row.as_ref().map(record).transpose()? else { return Ok(None) };
    let closed = accounts::closed(readers, &record.account).await?;
    Ok(Some(FoundKey { record, closed }))
}

pub async fn list(readers: &Readers, query: &KeyQuery) -> Result<Vec<KeyRecord>, StoreError> {
    // Keys of one millisecond come in the order of their names, so that a page ends somewhere definite.
    let rows = sql(select_keys!(
        "WHERE ($1 = '' OR a.name = $1 OR (a.name > $1 || '/' AND a.name < $1 || '0')) \
         AND ($2 = '' OR (k.created_at, k.id) > (SELECT p.created_at, p.id FROM api_key p WHERE p.id = $2)) \
         ORDER BY k.created_at, k.id LIMIT $3"
    ))
    .bind(query.within.as_ref().map_or("", Account::as_str))
    .bind(query.after.as_ref().map_or("", |key| key.0.as_str()))
    .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
    .all(readers)
    .await?;
    rows.iter().map(record).collect()
}

pub async fn any_active(readers: &Readers) -> Result<bool, StoreError> {
    let active = sql("SELECT count(*) FROM (SELECT 1 FROM api_key WHERE revoked_at IS NULL LIMIT 1) active");
    Ok(active.integer(readers).await? == 1)
}

pub async fn one(readers: &Readers, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    let row = sql(select_keys!("WHERE k.id = $1")).bind(&id.0).maybe(readers).await?;
    row.as_ref().map(record).transpose()
}

async fn by_id(connection: &mut Connection, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    let row = sql(select_keys!("WHERE k.id = $1")).bind(&id.0).maybe(connection).await?;
    row.as_ref().map(record).transpose()
}

fn record(row: &Row) -> Result<KeyRecord, StoreError> {
    let mut columns = row.columns();
    Ok(KeyRecord {
        id: KeyId(columns.text()?),
        name: columns.text()?,
        account: Account::new(columns.text()?),
        role: columns.text()?.parse().map_err(StoreError::damaged)?,
        scopes: scopes(&columns.text()?)?,
        expires_at: columns.maybe_integer()?.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(columns.integer()?),
        created_by: columns.maybe_text()?.map(KeyId),
        revoked_at: columns.maybe_integer()?.map(Timestamp::from_millis),
        rotated_from: columns.maybe_text()?.map(KeyId),
    })
}

fn scopes(text: &str) -> Result<Scopes, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::damaged(format!("a key's scopes: {error}")))
}
