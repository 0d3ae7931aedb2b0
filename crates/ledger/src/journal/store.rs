//! What the writer says to SQLite: one connection, inside one transaction at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;
use std::time::Duration;

use domain::{Account, ModelName, Money, RequestId, Usage, UsageSource};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, Sqlite, SqliteConnection};

use super::codes::{self, Code, StoredRequest};
use super::rows::{self, Columns, Known, select_positions};
use crate::quantity::tokens;
use crate::{
    DIMENSIONS, Ending, Entry, Held, How, LedgerError, Position, PriceChange, PriceVersion, Timestamp,
};

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

/// The writing connection, with what it need not ask twice. All of it can be read again, so it is forgotten whenever it may
/// no longer be true: after a rollback, and after another process has written.
pub struct Store {
    connection: SqliteConnection,
    memory: Memory,
    /// SQLite's count of what other connections have written.
    data_version: i64,
}

#[derive(Default)]
struct Memory {
    accounts: HashMap<Account, i64>,
    models: HashMap<ModelName, i64>,
    /// Every version of a model, in the order of (start, record).
    prices: HashMap<ModelName, Vec<PriceVersion>>,
    /// Holds that this connection opened and that are open.
    open: HashMap<RequestId, Known>,
}

/// Things remembered of each kind, some hundred bytes each; past this the memory starts afresh.
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
        Ok(Self { connection, memory: Memory::default(), data_version: 0 })
    }

    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    pub async fn begin(&mut self) -> Result<(), StoreError> {
        // Immediate: the right to write is had at the start, or the batch fails before it has done anything.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        let data_version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.connection).await?;
        if std::mem::replace(&mut self.data_version, data_version) != data_version {
            self.memory = Memory::default();
        }
        Ok(())
    }
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        Ok(())
    }
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        self.memory = Memory::default();
        sqlx::query("ROLLBACK").execute(&mut self.connection).await?;
        Ok(())
    }
    pub async fn close(self) {
        // Whatever fails here, all that was acknowledged is on disk already.
        let _ = self.connection.close().await;
    }

    pub async fn known(&mut self, request: &RequestId) -> Result<Option<Known>, StoreError> {
        const SQL: &str = select_positions!("WHERE h.request = ?");
        if let Some(known) = self.memory.open.get(request) {
            return Ok(Some(known.clone()));
        }
        let row = bind_request(SQL, request).fetch_optional(&mut self.connection).await?;
        row.as_ref().map(rows::position).transpose()
    }

    /// Returns the model's price version in force at this time: the latest start wins, then the latest record.
    pub async fn price_at(
        &mut self,
        model: &ModelName,
        at: Timestamp,
    ) -> Result<Option<PriceVersion>, StoreError> {
        if !self.memory.prices.contains_key(model) {
            let versions = self.versions(model).await?;
            remember(&mut self.memory.prices, model.clone(), versions);
        }
        let versions = &self.memory.prices[model];
        let begun = versions.partition_point(|version| version.valid_from <= at);
        Ok(begun.checked_sub(1).map(|last| versions[last].clone()))
    }

    async fn versions(&mut self, model: &ModelName) -> Result<Vec<PriceVersion>, StoreError> {
        let model_id = self.model(model).await?;
        let rows = sqlx::query(
            "SELECT id, valid_from, sheet FROM price WHERE model = ? ORDER BY valid_from, id",
        )
        .bind(model_id)
        .fetch_all(&mut self.connection)
        .await?;
        let mut versions = Vec::new();
        for row in &rows {
            versions.extend(Columns { row, next: 0 }.price(model)?);
        }
        Ok(versions)
    }

    pub async fn add_price(&mut self, change: &PriceChange) -> Result<i64, StoreError> {
        let model = self.model(&change.model).await?;
        let query = sqlx::query("INSERT INTO price (model, valid_from, sheet) VALUES (?, ?, ?)")
            .bind(model)
            .bind(change.valid_from.millis())
            .bind(change.sheet.to_text());
        self.memory.prices.remove(&change.model);
        Ok(query.execute(&mut self.connection).await?.last_insert_rowid())
    }

    pub async fn add_hold(&mut self, held: &Held, entries: &[Entry]) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO hold (request, account, model, price, at) VALUES (?, ?, ?, ?, ?); \
             INSERT INTO open_hold (hold) VALUES (last_insert_rowid()); \
             INSERT INTO entry (hold, line, from_account, to_account, input_uncached, cache_read, cache_write_5m, \
             cache_write_1h, output, compute_us, money) VALUES (last_insert_rowid(), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let [entry] = entries else { unreachable!("a hold opens with one entry") };
        let payer = self.account(&held.hold.account).await?;
        let model = self.model(&held.hold.model).await?;
        let query = bind_request(SQL, &held.hold.request)
            .bind(payer)
            .bind(model)
            .bind(held.price.as_ref().map(|version| version.id.0))
            .bind(held.hold.at.millis());
        let written = bind_entry(query, 0, payer, entry).execute(&mut self.connection).await?;
        let known =
            Known { hold: written.last_insert_rowid(), payer, lines: 1, position: Position::Open(held.clone()) };
        remember(&mut self.memory.open, held.hold.request.clone(), known);
        Ok(())
    }

    pub async fn add_growth(
        &mut self,
        known: &Known,
        held: &Held,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO entry (hold, line, from_account, to_account, input_uncached, cache_read, \
             cache_write_5m, cache_write_1h, output, compute_us, money) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        for (line, entry) in (known.lines..).zip(entries) {
            let query = sqlx::query(SQL).bind(known.hold);
            bind_entry(query, line, known.payer, entry).execute(&mut self.connection).await?;
        }
        let lines = known.lines + integer(entries.len() as u64);
        let known = Known { lines, position: Position::Open(held.clone()), ..known.clone() };
        remember(&mut self.memory.open, held.hold.request.clone(), known);
        Ok(())
    }

    /// Each statement that is sent costs a change of threads, so an end with all its entries is one.
    pub async fn add_ending(
        &mut self,
        known: &Known,
        request: &RequestId,
        ending: &Ending,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let (how, reason, source, usage) = match ending.how {
            How::Settled { usage, end, source } => {
                (codes::SETTLED, end.code(), Some(source.code()), Some(usage))
            }
            How::Released { reason } => (codes::RELEASED, reason.code(), None, Some(Usage::default())),
            How::Lost { reason, estimate } => {
                (codes::LOST, reason.code(), estimate.map(|_| UsageSource::Estimated.code()), estimate)
            }
        };
        let mut query = sqlx::query(END_WITH_ENTRIES[entries.len()])
            .bind(known.hold)
            .bind(ending.at.millis())
            .bind(how)
            .bind(reason)
            .bind(source)
            .bind(ending.cost.map(entry_pico));
        let dimensions = usage.map(|usage| tokens(&usage));
        for dimension in 0..DIMENSIONS.len() {
            query = query.bind(dimensions.map(|tokens| integer(tokens[dimension])));
        }
        query = query.bind(usage.map(|usage| integer(usage.reasoning))).bind(known.hold);
        for (line, entry) in (known.lines..).zip(entries) {
            query = bind_entry(query.bind(known.hold), line, known.payer, entry);
        }
        query.execute(&mut self.connection).await?;
        self.memory.open.remove(request);
        Ok(())
    }

    pub async fn account(&mut self, account: &Account) -> Result<i64, StoreError> {
        if let Some(id) = self.memory.accounts.get(account) {
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
        remember(&mut self.memory.accounts, account.clone(), id);
        Ok(id)
    }

    async fn model(&mut self, model: &ModelName) -> Result<i64, StoreError> {
        if let Some(id) = self.memory.models.get(model) {
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
        remember(&mut self.memory.models, model.clone(), id);
        Ok(id)
    }
}

macro_rules! ending_sql {
    ($($entries:literal)?) => {
        concat!(
            "INSERT INTO ending (hold, at, how, reason, source, cost, \
             input_uncached, cache_read, cache_write_5m, cache_write_1h, output, compute_us, reasoning) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?); \
             DELETE FROM open_hold WHERE hold = ?" $(, "; INSERT INTO entry (hold, line, from_account, to_account, input_uncached, cache_read, cache_write_5m, \
             cache_write_1h, output, compute_us, money) VALUES ", $entries)?
        )
    };
}

/// An end moves its hold in at most three entries: used, unused, and beyond the hold.
const END_WITH_ENTRIES: [&str; 4] = [
    ending_sql!(),
    ending_sql!("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
    ending_sql!("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
    ending_sql!(
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ),
];

type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Returns the query with the request's stored name as its first value.
pub fn bind_request<'q>(sql: &'static str, request: &RequestId) -> Bound<'q> {
    match StoredRequest::of(request) {
        StoredRequest::Bytes(bytes) => sqlx::query(sql).bind(bytes),
        StoredRequest::Text(text) => sqlx::query(sql).bind(text),
    }
}

/// Binds an entry's columns after its hold, in the order of the table.
fn bind_entry<'q>(query: Bound<'q>, line: i64, payer: i64, entry: &Entry) -> Bound<'q> {
    let mut query = query
        .bind(line)
        .bind(codes::side_account(entry.from, payer))
        .bind(codes::side_account(entry.to, payer));
    for tokens in entry.quantities.tokens {
        query = query.bind(integer(tokens));
    }
    query.bind(entry_pico(entry.quantities.money))
}

fn remember<K: Hash + Eq, V>(memory: &mut HashMap<K, V>, name: K, value: V) {
    if memory.len() >= REMEMBERED_MAX {
        memory.clear();
    }
    memory.insert(name, value);
}

/// The book bounds its counts well below this. One that does not fit was never decided by it, and the writer stops rather
/// than book it.
fn integer(count: u64) -> i64 {
    i64::try_from(count).expect("a decided count fits an entry")
}

fn entry_pico(money: Money) -> i64 {
    money.entry_pico().expect("a decided amount fits an entry")
}
