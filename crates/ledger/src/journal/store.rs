//! What the writer says to a database: one transaction at a time, read at its beginning and written at its end.
//!
//! ```text
//!   begin ─▶ prefetch ─▶ decide, decide, … ─▶ flush ─▶ commit
//!            a handful      in memory          a handful
//!            of statements                     of statements
//! ```
//!
//! What all calls of a batch need is fetched together, the book decides each by itself, and what it decided is written
//! together. So a batch of 256 holds costs as many round trips as one.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use domain::{Account, ModelName, Money, RequestId};

use super::Survives;
use super::codes;
use super::database::{Bulk, Connection, Kind, Place, Speaker, Value, sql};
use super::escrow::Escrow;
use super::names::{self, Name, Names};
use super::rollup::{self, Rollups};
use super::rows::{self, Known, select_positions};
use super::writer::Input;
use crate::budget::Charge;
use crate::{Ending, Entry, Held, HoldOutcome, Position, PriceChange, PriceVersion, Side, Timestamp};

pub use super::database::StoreError;

/// The writing connection, with what it need not ask twice. All of it can be read again, so it is forgotten whenever it may
/// no longer be true: after a rollback, and after another process has changed what it says.
pub struct Store {
    connection: Connection,
    process: Option<i64>,
    memory: Memory,
    batch: Batch,
    escrow: Escrow,
    /// Whether money limits let through what has no price.
    is_unpriced_allowed: bool,
    /// Free numbers for holds.
    numbers: Range<i64>,
}

#[derive(Default)]
struct Memory {
    /// The book's count of changes when all this was true.
    change: i64,
    names: Names,
    /// Every version of a model, in the order of (start, record).
    prices: HashMap<ModelName, Vec<PriceVersion>>,
    /// Requests of the batch, and holds that this process opened and that are open: only it ends them, while it lives.
    known: HashMap<RequestId, Known>,
}

/// What was decided and is not written yet.
#[derive(Default)]
struct Batch {
    now: Timestamp,
    holds: Vec<Vec<Value>>,
    opened: BTreeSet<i64>,
    entries: Vec<Vec<Value>>,
    endings: Vec<Vec<Value>>,
    ended: BTreeSet<i64>,
    rollups: Rollups,
    /// Requests that need not be remembered after the batch.
    settled: Vec<RequestId>,
}

/// Open holds remembered, some hundred bytes each; past this the memory starts afresh.
const KNOWN_MAX: usize = 20_000;
/// Models whose prices are remembered, some kilobytes each at most.
const PRICED_MAX: usize = 2_000;

/// What the beginning of a transaction found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    Alive,
    /// Others took this process for dead and ended its holds. It goes on under a new number.
    Ended,
}

impl Store {
    pub async fn connect(
        place: &Place,
        patience: Duration,
        size_bytes_max: Option<u64>,
        survives: Survives,
    ) -> Result<Self, StoreError> {
        let connection = Connection::open(place, patience, size_bytes_max, survives).await?;
        let (memory, batch) = (Memory::default(), Batch::default());
        let (escrow, is_unpriced_allowed) = (Escrow::default(), false);
        Ok(Self { connection, process: None, memory, batch, escrow, is_unpriced_allowed, numbers: 0..0 })
    }

    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
    fn speaker(&mut self) -> Speaker<'_> {
        Speaker::Connection(&mut self.connection)
    }
    /// The number of this server among those that share the ledger; none for a tool.
    pub fn process(&self) -> Option<i64> {
        self.process
    }
    pub fn set_process(&mut self, process: Option<i64>) {
        self.process = process;
    }
    pub fn allow_unpriced(&mut self, is_allowed: bool) {
        self.is_unpriced_allowed = is_allowed;
    }
    pub fn is_unpriced_allowed(&self) -> bool {
        self.is_unpriced_allowed
    }
    pub fn escrow(&mut self) -> &mut Escrow {
        &mut self.escrow
    }
    pub fn escrow_ref(&self) -> &Escrow {
        &self.escrow
    }
    /// The book's count of changes, as of the beginning of this transaction.
    pub fn change(&self) -> i64 {
        self.memory.change
    }

    pub async fn begin(&mut self) -> Result<Fence, StoreError> {
        self.batch = Batch::default();
        self.connection.begin(self.process).await?;
        let row = sql(
            "SELECT c.number, CAST(CASE WHEN p.ended_at IS NULL THEN 0 ELSE 1 END AS BIGINT) FROM change c \
             LEFT JOIN process p ON p.id = $1",
        )
        .bind(self.process)
        .one(&mut self.connection)
        .await?;
        let mut columns = row.columns();
        let (change, is_fenced) = (columns.integer()?, columns.integer()? == 1);
        if change != self.memory.change || is_fenced {
            self.memory = Memory { change, ..Memory::default() };
        }
        self.memory.names.trim();
        if self.memory.known.len() > KNOWN_MAX {
            self.memory.known.clear();
        }
        if self.memory.prices.len() > PRICED_MAX {
            self.memory.prices.clear();
        }
        Ok(if is_fenced { Fence::Ended } else { Fence::Alive })
    }

    /// Writes what was decided, and makes it durable.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        self.flush_limits().await?;
        self.flush().await?;
        self.connection.commit().await?;
        for request in std::mem::take(&mut self.batch.settled) {
            self.memory.known.remove(&request);
        }
        Ok(())
    }
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        self.memory = Memory::default();
        self.batch = Batch::default();
        self.escrow = Escrow::default();
        self.connection.rollback().await
    }
    pub async fn close(self) {
        self.connection.close().await;
    }

    /// Says to all writers, this one too, that what they remember is no longer true after this transaction.
    pub async fn announce_change(&mut self) -> Result<(), StoreError> {
        sql("UPDATE change SET number = number + 1").execute(&mut self.connection).await?;
        Ok(())
    }

    /// Fetches all that the book must know for these calls.
    pub async fn prefetch(&mut self, inputs: &[&Input]) -> Result<(), StoreError> {
        let mut names = BTreeSet::new();
        let mut requests = Vec::new();
        let mut models = BTreeSet::new();
        let mut holds = 0;
        for input in inputs {
            if let Some(hold) = input.opens() {
                holds += 1;
                self.batch.now = self.batch.now.max(hold.at);
                names.extend(names::names_of(&hold));
                models.insert(hold.circumstances.priced_as(&hold.model));
            }
            match input {
                Input::Hold(hold) | Input::HoldServed(hold) => requests.push(&hold.request),
                Input::Save(saving) => requests.push(&saving.request),
                Input::Grow(grow) => requests.push(&grow.request),
                Input::Settle(settlement) => requests.push(&settlement.request),
                Input::Release(release) => requests.push(&release.request),
                Input::Expire { requests: more, .. } => requests.extend(more),
                _ => {}
            }
        }
        self.look_up(requests).await?;
        let now = self.batch.now;
        self.memory.names.learn(&mut Speaker::Connection(&mut self.connection), &names, now).await?;
        for model in models {
            self.learn_prices(&model).await?;
        }
        self.reserve_numbers(holds).await
    }

    /// Fetches what the book knows of these requests, but for those that are remembered.
    pub async fn look_up(&mut self, requests: Vec<&RequestId>) -> Result<(), StoreError> {
        static KNOWN: Bulk = Bulk {
            columns: &[("request", Kind::Request)],
            sql: select_positions!("v JOIN hold h ON h.request = v.request", ""),
        };
        let unknown: BTreeSet<&RequestId> =
            requests.into_iter().filter(|request| !self.memory.known.contains_key(*request)).collect();
        let rows: Vec<Vec<Value>> = unknown.into_iter().map(|request| vec![request.into()]).collect();
        let mut speaker = Speaker::Connection(&mut self.connection);
        let rows = KNOWN.run(&mut speaker, rows).await?;
        for known in rows::positions(&mut speaker, &rows).await? {
            if let Position::Open(held) | Position::Ended(held, _) = &known.position {
                let request = held.hold.request.clone();
                // It may belong to another process, or have ended: true now, and nothing to remember.
                self.batch.settled.push(request.clone());
                self.memory.known.insert(request, known);
            }
        }
        Ok(())
    }

    /// Returns what was fetched of a request.
    pub fn known(&self, request: &RequestId) -> Option<&Known> {
        self.memory.known.get(request)
    }
    pub fn position(&self, request: &RequestId) -> Position {
        self.known(request).map_or(Position::Absent, |known| known.position.clone())
    }

    pub fn add_hold(&mut self, held: &Held, entries: &[Entry], charges: Arc<[Charge]>) {
        let hold = &held.hold;
        let number = self.numbers.next().expect("numbers were reserved for the batch");
        let names = &self.memory.names;
        let circumstances = names.number(&Name::Circumstances(names::text(&hold.circumstances)));
        let task_root = hold.task.as_ref().map(|task| names.number(&Name::TaskRoot(task.top(2))));
        let known = Known {
            hold: number,
            payer: names.number(&Name::Account(hold.account.clone())),
            model: names.number(&Name::Model(hold.model.clone())),
            task_root: task_root.unwrap_or(0),
            circumstances,
            lines: 0,
            process: self.process.unwrap_or(0),
            charges,
            position: Position::Open(held.clone()),
        };
        self.batch.holds.push(vec![
            number.into(),
            (&hold.request).into(),
            known.payer.into(),
            known.model.into(),
            held.price.as_ref().map(|version| version.id.0).into(),
            hold.at.millis().into(),
            self.process.into(),
            hold.key.clone().map(|key| names.number(&Name::Key(key))).into(),
            hold.task.as_ref().map(|task| names.number(&names::task_name(task))).into(),
            hold.end_user.clone().map(|user| names.number(&Name::EndUser(user))).into(),
            circumstances.into(),
            Charge::write(&known.charges).into(),
        ]);
        self.batch.opened.insert(number);
        self.memory.known.insert(hold.request.clone(), known);
        self.add_entries(&hold.request, entries);
    }

    pub fn add_growth(&mut self, held: &Held, entries: &[Entry]) {
        self.add_entries(&held.hold.request, entries);
        let known = self.memory.known.get_mut(&held.hold.request).expect("a hold that grows is known");
        known.position = Position::Open(held.clone());
    }

    pub fn add_ending(&mut self, held: &Held, ending: &Ending, entries: &[Entry]) {
        self.settle_charges(held, ending);
        let request = &held.hold.request;
        self.add_entries(request, entries);
        let known = self.memory.known.get_mut(request).expect("a hold that ends is known");
        let codes::Coded { how, reason, source, usage, money } = codes::ending(ending);
        let count =
            |part: fn(&domain::Usage) -> u64| Value::from(usage.as_ref().map(|usage| integer(part(usage))));
        self.batch.endings.push(vec![
            known.hold.into(),
            ending.at.millis().into(),
            how.into(),
            reason.into(),
            source.into(),
            count(|usage| usage.input_uncached),
            count(|usage| usage.cache_read),
            count(|usage| usage.cache_write_5m),
            count(|usage| usage.cache_write_1h),
            count(|usage| usage.output),
            count(|usage| usage.reasoning),
            count(|usage| usage.compute_us),
            money.map(entry_pico).into(),
        ]);
        rollup::add(&mut self.batch.rollups, known, held, ending);
        self.batch.ended.insert(known.hold);
        self.batch.settled.push(request.clone());
        known.position = Position::Ended(held.clone(), ending.clone());
    }

    fn add_entries(&mut self, request: &RequestId, entries: &[Entry]) {
        let known = self.memory.known.get_mut(request).expect("a request with entries is known");
        for Entry { from, to, quantities } in entries {
            let account = |side: &Side| codes::side_account(*side, known.payer);
            let mut row: Vec<Value> =
                vec![known.hold.into(), known.lines.into(), account(from).into(), account(to).into()];
            row.extend(quantities.tokens.into_iter().map(|tokens| Value::from(integer(tokens))));
            row.push(entry_pico(quantities.money).into());
            self.batch.entries.push(row);
            known.lines += 1;
        }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let process = self.process;
        let batch = &mut self.batch;
        let opened = batch.opened.difference(&batch.ended);
        let opened: Vec<Vec<Value>> = opened.map(|hold| vec![(*hold).into(), process.into()]).collect();
        let closed = batch.ended.difference(&batch.opened);
        let closed: Vec<Vec<Value>> = closed.map(|hold| vec![(*hold).into()]).collect();
        let mut speaker = Speaker::Connection(&mut self.connection);
        ADD_HOLDS.run(&mut speaker, std::mem::take(&mut batch.holds)).await?;
        ADD_OPEN_HOLDS.run(&mut speaker, opened).await?;
        ADD_ENTRIES.run(&mut speaker, std::mem::take(&mut batch.entries)).await?;
        ADD_ENDINGS.run(&mut speaker, std::mem::take(&mut batch.endings)).await?;
        DROP_OPEN_HOLDS.run(&mut speaker, closed).await?;
        rollup::write(&mut speaker, process.unwrap_or(0), &batch.rollups).await
    }

    /// Returns the price in force at this time, of what was fetched: the latest start wins, then the latest record.
    pub fn price_at(&self, model: &ModelName, at: Timestamp) -> Option<PriceVersion> {
        let versions =
            self.memory.prices.get(model).expect("a model's prices are fetched before they are asked");
        let begun = versions.partition_point(|version| version.valid_from <= at);
        begun.checked_sub(1).map(|last| versions[last].clone())
    }

    pub async fn learn_prices(&mut self, model: &ModelName) -> Result<(), StoreError> {
        if self.memory.prices.contains_key(model) {
            return Ok(());
        }
        let rows =
            sql("SELECT p.id, m.name, p.valid_from, p.sheet FROM price p JOIN model m ON m.id = p.model \
             WHERE m.name = $1 ORDER BY p.valid_from, p.id")
            .bind(model.as_str())
            .all(self.speaker())
            .await?;
        let versions = rows.iter().map(|row| rows::price(&mut row.columns())).collect::<Result<_, _>>()?;
        self.memory.prices.insert(model.clone(), versions);
        Ok(())
    }

    pub async fn add_price(&mut self, change: &PriceChange) -> Result<i64, StoreError> {
        let model = self.number(Name::Model(change.model.clone())).await?;
        let add = sql("INSERT INTO price (model, valid_from, sheet) VALUES ($1, $2, $3) RETURNING id");
        let add = add.bind(model).bind(change.valid_from.millis()).bind(change.sheet.to_text());
        let id = add.integer(self.speaker()).await?;
        self.memory.prices.remove(&change.model);
        // A hold of the same model may come behind it in this transaction.
        self.learn_prices(&change.model).await?;
        self.announce_change().await?;
        Ok(id)
    }

    /// Returns the row number of an account, which is made where there is none.
    pub async fn account(&mut self, account: &Account) -> Result<i64, StoreError> {
        self.number(Name::Account(account.clone())).await
    }
    async fn number(&mut self, name: Name) -> Result<i64, StoreError> {
        let now = self.batch.now;
        let names = BTreeSet::from([name.clone()]);
        self.memory.names.learn(&mut Speaker::Connection(&mut self.connection), &names, now).await?;
        Ok(self.memory.names.number(&name))
    }

    async fn reserve_numbers(&mut self, count: i64) -> Result<(), StoreError> {
        if self.numbers.end - self.numbers.start >= count {
            return Ok(());
        }
        if self.connection.is_shared() {
            // A block of the sequence at a time; what is left of the last is given up, numbers are many.
            let first = sql("SELECT nextval('hold_block')").integer(self.speaker()).await?;
            self.numbers = first..first + NUMBERS_IN_BLOCK;
            assert!(count <= NUMBERS_IN_BLOCK, "a batch is smaller than a block of numbers");
        } else {
            let last = sql("SELECT coalesce(max(id), 0) FROM hold").integer(self.speaker()).await?;
            self.numbers = last + 1..i64::MAX;
        }
        Ok(())
    }
}

/// As the sequence in Postgres' schema says.
const NUMBERS_IN_BLOCK: i64 = 1_000;

/// Whether a hold was opened: only then is there something to write.
pub fn opened(outcome: &HoldOutcome) -> Option<&Held> {
    match outcome {
        HoldOutcome::Opened(held, _) => Some(held),
        HoldOutcome::AlreadyOpen(_) | HoldOutcome::AlreadyEnded(..) | HoldOutcome::Refused(_) => None,
    }
}

static ADD_HOLDS: Bulk = Bulk {
    columns: &[
        ("id", Kind::Integer),
        ("request", Kind::Request),
        ("account", Kind::Integer),
        ("model", Kind::Integer),
        ("price", Kind::Integer),
        ("at", Kind::Integer),
        ("process", Kind::Integer),
        ("api_key", Kind::Integer),
        ("task", Kind::Integer),
        ("end_user", Kind::Integer),
        ("circumstances", Kind::Integer),
        ("charges", Kind::Text),
    ],
    sql: "INSERT INTO hold (id, request, account, model, price, at, process, api_key, task, end_user, circumstances, \
          charges) SELECT * FROM v",
};

static ADD_OPEN_HOLDS: Bulk = Bulk {
    columns: &[("hold", Kind::Integer), ("process", Kind::Integer)],
    sql: "INSERT INTO open_hold (hold, process) SELECT * FROM v",
};

static DROP_OPEN_HOLDS: Bulk = Bulk {
    columns: &[("hold", Kind::Integer)],
    sql: "DELETE FROM open_hold WHERE hold IN (SELECT hold FROM v)",
};

static ADD_ENTRIES: Bulk = Bulk {
    columns: &[
        ("hold", Kind::Integer),
        ("line", Kind::Integer),
        ("from_account", Kind::Integer),
        ("to_account", Kind::Integer),
        ("input_uncached", Kind::Integer),
        ("cache_read", Kind::Integer),
        ("cache_write_5m", Kind::Integer),
        ("cache_write_1h", Kind::Integer),
        ("output", Kind::Integer),
        ("compute_us", Kind::Integer),
        ("money", Kind::Integer),
    ],
    sql: "INSERT INTO entry (hold, line, from_account, to_account, input_uncached, cache_read, cache_write_5m, \
          cache_write_1h, output, compute_us, money) SELECT * FROM v",
};

static ADD_ENDINGS: Bulk = Bulk {
    columns: &[
        ("hold", Kind::Integer),
        ("at", Kind::Integer),
        ("how", Kind::Integer),
        ("reason", Kind::Integer),
        ("source", Kind::Integer),
        ("input_uncached", Kind::Integer),
        ("cache_read", Kind::Integer),
        ("cache_write_5m", Kind::Integer),
        ("cache_write_1h", Kind::Integer),
        ("output", Kind::Integer),
        ("reasoning", Kind::Integer),
        ("compute_us", Kind::Integer),
        ("cost", Kind::Integer),
    ],
    sql: "INSERT INTO ending (hold, at, how, reason, source, input_uncached, cache_read, cache_write_5m, \
          cache_write_1h, output, reasoning, compute_us, cost) SELECT * FROM v",
};

/// The book bounds its counts well below this. One that does not fit was never decided by it, and the writer stops rather
/// than book it.
fn integer(count: u64) -> i64 {
    i64::try_from(count).expect("a decided count fits an entry")
}

fn entry_pico(money: Money) -> i64 {
    money.entry_pico().expect("a decided amount fits an entry")
}
