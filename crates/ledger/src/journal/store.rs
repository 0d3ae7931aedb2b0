//! What the writer says to SQLite: one connection, inside one transaction at a time.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use domain::{Account, ModelName, Money, Price, RequestId};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};

use super::codes::{self, Code, StoredRequest};
use super::rows::{self, Columns, Known, select_positions};
use crate::quantity::tokens;
use crate::{Ending, Entry, Held, How, LedgerError, PriceChange, PriceVersion, Timestamp};

/// What failed below the book.
#[derive(Debug)]
pub enum StoreError {
    Sqlite(sqlx::Error),
    /// Something that is already said in the ledger's own words.
    Told(LedgerError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}
impl From<LedgerError> for StoreError {
    fn from(error: LedgerError) -> Self {
        Self::Told(error)
    }
}

impl StoreError {
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Told(LedgerError::Damaged(what.into()))
    }

    /// Returns SQLite's primary result code.
    fn code(&self) -> Option<i64> {
        let Self::Sqlite(sqlx::Error::Database(error)) = self else { return None };
        // The lower eight bits; the upper ones tell variants of the same trouble apart.
        error.code()?.parse::<i64>().ok().map(|code| code & 0xff)
    }

    /// Whether the store refused this one statement, and would take others.
    pub fn blames_statement(&self) -> bool {
        const ERROR: i64 = 1;
        const TOO_BIG: i64 = 18;
        const CONSTRAINT: i64 = 19;
        const MISMATCH: i64 = 20;
        matches!(self.code(), Some(ERROR | TOO_BIG | CONSTRAINT | MISMATCH))
    }

    pub fn tell(&self, doing: &'static str, path: &Path) -> LedgerError {
        const CORRUPT: i64 = 11;
        const FULL: i64 = 13;
        const NOT_A_DATABASE: i64 = 26;
        match (self, self.code()) {
            (Self::Told(error), _) => error.clone(),
            (_, Some(FULL)) => LedgerError::DiskFull { path: path.to_owned() },
            (Self::Sqlite(error), Some(CORRUPT | NOT_A_DATABASE)) => LedgerError::Damaged(error.to_string()),
            (Self::Sqlite(error), _) => LedgerError::Unavailable { doing, why: error.to_string() },
        }
    }
}

/// Settings that every connection to a ledger shares.
pub fn connect_options(path: &Path, busy: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit returns when the disk has it: an acknowledged entry survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(busy)
        // After a burst the log shrinks back to this.
        .pragma("journal_size_limit", "67108864")
}

/// The writing connection. Ids that were looked up once are remembered; they never change, but a rollback may take back
/// those that it had added, so every rollback forgets them all.
pub struct Store {
    connection: SqliteConnection,
    accounts: HashMap<Account, i64>,
    models: HashMap<ModelName, i64>,
}

/// Ids remembered per table; past this the memory starts afresh.
const REMEMBERED_MAX: usize = 10_000;

impl Store {
    pub async fn connect(
        path: &Path,
        busy: Duration,
        size_bytes_max: Option<u64>,
    ) -> Result<Self, StoreError> {
        let options = connect_options(path, busy).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        if let Some(bytes) = size_bytes_max {
            let page_bytes: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await?;
            let pragma = format!("PRAGMA max_page_count = {}", bytes / page_bytes.unsigned_abs());
            sqlx::raw_sql(sqlx::AssertSqlSafe(pragma)).execute(&mut connection).await?;
        }
        Ok(Self { connection, accounts: HashMap::new(), models: HashMap::new() })
    }

    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    pub async fn begin(&mut self) -> Result<(), StoreError> {
        // Immediate: the right to write is had at the start, or the batch fails before it has done anything.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        Ok(())
    }
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        Ok(())
    }
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        self.accounts.clear();
        self.models.clear();
        sqlx::query("ROLLBACK").execute(&mut self.connection).await?;
        Ok(())
    }
    pub async fn close(self) {
        // Whatever fails here, all that was acknowledged is on disk already.
        let _ = self.connection.close().await;
    }

    pub async fn known(&mut self, request: &RequestId) -> Result<Option<Known>, StoreError> {
        const SQL: &str = select_positions!("WHERE h.request = ?");
        let query = match StoredRequest::of(request) {
            StoredRequest::Bytes(bytes) => sqlx::query(SQL).bind(bytes),
            StoredRequest::Text(text) => sqlx::query(SQL).bind(text),
        };
        query.fetch_optional(&mut self.connection).await?.as_ref().map(rows::position).transpose()
    }

    /// Returns the model's price version in force at this time: the latest start wins, then the latest record.
    pub async fn price_at(
        &mut self,
        model: &ModelName,
        at: Timestamp,
    ) -> Result<Option<PriceVersion>, StoreError> {
        let model_id = self.model(model).await?;
        let row = sqlx::query(
            "SELECT id, valid_from, input_uncached, cache_read, cache_write_5m, cache_write_1h, output \
             FROM price WHERE model = ? AND valid_from <= ? ORDER BY valid_from DESC, id DESC LIMIT 1",
        )
        .bind(model_id)
        .bind(at.millis())
        .fetch_optional(&mut self.connection)
        .await?;
        match row {
            Some(row) => Columns { row: &row, next: 0 }.price(model),
            None => Ok(None),
        }
    }

    pub async fn add_price(&mut self, change: &PriceChange) -> Result<i64, StoreError> {
        let model = self.model(&change.model).await?;
        let mut query = sqlx::query(
            "INSERT INTO price (model, valid_from, input_uncached, cache_read, cache_write_5m, cache_write_1h, output) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(model)
        .bind(change.valid_from.millis());
        for price in change.prices.by_dimension() {
            query = query.bind(price.map(|price| price_pico(change, price)).transpose()?);
        }
        Ok(query.execute(&mut self.connection).await?.last_insert_rowid())
    }

    pub async fn add_hold(&mut self, held: &Held, entries: &[Entry]) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO hold (request, account, model, price, at) VALUES (?1, ?2, ?3, ?4, ?5); \
             INSERT INTO open_hold (hold) VALUES (last_insert_rowid())";
        let payer = self.account(&held.hold.account).await?;
        let model = self.model(&held.hold.model).await?;
        let query = match StoredRequest::of(&held.hold.request) {
            StoredRequest::Bytes(bytes) => sqlx::query(SQL).bind(bytes),
            StoredRequest::Text(text) => sqlx::query(SQL).bind(text),
        };
        let hold = query
            .bind(payer)
            .bind(model)
            .bind(held.price.as_ref().map(|version| version.id.0))
            .bind(held.hold.at.millis())
            .execute(&mut self.connection)
            .await?
            .last_insert_rowid();
        self.add_entries(hold, payer, 0, entries).await
    }

    pub async fn add_ending(
        &mut self,
        known: &Known,
        ending: &Ending,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let (how, reason, source, usage) = match ending.how {
            How::Settled { usage, end, source } => {
                (codes::SETTLED, end.code(), Some(source.code()), Some(usage))
            }
            How::Released { reason } => (codes::RELEASED, reason.code(), None, Some(Default::default())),
            How::Lost { reason } => (codes::LOST, reason.code(), None, None),
        };
        let mut query = sqlx::query(
            "INSERT INTO ending (hold, at, how, reason, source, cost, \
             input_uncached, cache_read, cache_write_5m, cache_write_1h, output, reasoning) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12); \
             DELETE FROM open_hold WHERE hold = ?1",
        )
        .bind(known.hold)
        .bind(ending.at.millis())
        .bind(how)
        .bind(reason)
        .bind(source)
        .bind(ending.cost.map(entry_pico));
        let dimensions = usage.map(|usage| tokens(&usage));
        for dimension in 0..crate::DIMENSIONS.len() {
            query = query.bind(dimensions.map(|tokens| integer(tokens[dimension])));
        }
        query = query.bind(usage.map(|usage| integer(usage.reasoning)));
        query.execute(&mut self.connection).await?;
        self.add_entries(known.hold, known.payer, 1, entries).await
    }

    /// `line`: the number of the first of these entries within its hold.
    async fn add_entries(
        &mut self,
        hold: i64,
        payer: i64,
        line: i64,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        for (line, entry) in (line..).zip(entries) {
            let mut query = sqlx::query(
                "INSERT INTO entry (hold, line, from_account, to_account, \
                 input_uncached, cache_read, cache_write_5m, cache_write_1h, output, money) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(hold)
            .bind(line)
            .bind(codes::side_account(entry.from, payer))
            .bind(codes::side_account(entry.to, payer));
            for tokens in entry.quantities.tokens {
                query = query.bind(integer(tokens));
            }
            query.bind(entry_pico(entry.quantities.money)).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    pub async fn account(&mut self, account: &Account) -> Result<i64, StoreError> {
        if let Some(id) = self.accounts.get(account) {
            return Ok(*id);
        }
        sqlx::query("INSERT INTO account (name) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(account.as_str())
            .execute(&mut self.connection)
            .await?;
        let id = sqlx::query_scalar("SELECT id FROM account WHERE name = ? AND system = 0")
            .bind(account.as_str())
            .fetch_one(&mut self.connection)
            .await?;
        remember(&mut self.accounts, account.clone(), id);
        Ok(id)
    }

    async fn model(&mut self, model: &ModelName) -> Result<i64, StoreError> {
        if let Some(id) = self.models.get(model) {
            return Ok(*id);
        }
        sqlx::query("INSERT INTO model (name) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(model.as_str())
            .execute(&mut self.connection)
            .await?;
        let id = sqlx::query_scalar("SELECT id FROM model WHERE name = ?")
            .bind(model.as_str())
            .fetch_one(&mut self.connection)
            .await?;
        remember(&mut self.models, model.clone(), id);
        Ok(id)
    }
}

fn remember<K: std::hash::Hash + Eq>(ids: &mut HashMap<K, i64>, name: K, id: i64) {
    if ids.len() >= REMEMBERED_MAX {
        ids.clear();
    }
    ids.insert(name, id);
}

/// The book bounds its counts well below this. One that does not fit was never decided by it, and the writer stops rather
/// than book it.
fn integer(count: u64) -> i64 {
    i64::try_from(count).expect("a decided count fits an entry")
}

fn price_pico(change: &PriceChange, price: Price) -> Result<i64, LedgerError> {
    i64::try_from(price.pico_per_token()).map_err(|_| LedgerError::TooLarge {
        what: format!("a price of model {}", change.model),
        value: format!("{} picodollars a token", price.pico_per_token()),
        limit: format!("{} picodollars a token", i64::MAX),
    })
}

fn entry_pico(money: Money) -> i64 {
    money.entry_pico().expect("a decided amount fits an entry")
}
