//! Does the book on disk balance? A check that recomputes what the facts imply and compares it with what is written.

use domain::Money;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};

use super::codes::{EARNED_ACCOUNT, HELD_ACCOUNT};
use super::rows::{self, Columns, Known, select_positions};
use super::store::StoreError;
use crate::book;
use crate::{DIMENSIONS, Entry, Integrity, Position, Quantities, Side};

/// Requests read at a time, so that the check's memory does not grow with the book.
const PAGE: i64 = 1_000;
const FAULTS_MAX: usize = 20;

/// Checks one snapshot of the book, while the writer goes on.
pub async fn check(readers: &SqlitePool) -> Result<Integrity, StoreError> {
    let mut snapshot = readers.begin().await?;
    let mut audit = Audit::default();
    let mut after = 0;
    loop {
        let page = holds(&mut snapshot, after).await?;
        let Some(last) = page.last().map(|known| known.hold) else { break };
        let mut entries = entries(&mut snapshot, after, last).await?.into_iter().peekable();
        for known in &page {
            let mut written = Vec::new();
            while entries.peek().is_some_and(|row| row.hold <= known.hold) {
                written.extend(entries.next());
            }
            audit.request(known, &written);
        }
        after = last;
    }
    audit.compare_open_holds(&mut snapshot).await?;
    audit.compare_counts(&mut snapshot).await?;
    audit.compare_sums();
    audit.ask_sqlite(&mut snapshot).await?;
    snapshot.rollback().await?;
    Ok(audit.findings)
}

#[derive(Default)]
struct Audit {
    findings: Integrity,
    /// In tokens of each dimension, then money: what was held, settled inside holds, released, and is still open.
    held: Sums,
    settled: Sums,
    released: Sums,
    open: Sums,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sums([i128; DIMENSIONS.len() + 1]);

struct EntryRow {
    hold: i64,
    from: i64,
    to: i64,
    quantities: Quantities,
}

impl Audit {
    /// One request: the entries on disk are those that its hold, its end and its price version imply.
    fn request(&mut self, known: &Known, written: &[EntryRow]) {
        let request = |position: &Position| match position {
            Position::Open(held) | Position::Ended(held, _) => held.hold.request.clone(),
            Position::Absent => unreachable!("a row is a request that is there"),
        };
        self.findings.requests += 1;
        self.findings.entries += written.len() as u64;
        if let Position::Ended(held, ending) = &known.position {
            let cost = book::cost(held, &ending.how);
            if cost != ending.cost {
                self.fault(format!(
                    "request {}: its cost is written as {:?}, its usage times its price is {cost:?}",
                    held.hold.request, ending.cost
                ));
            }
        } else {
            self.findings.open_holds += 1;
        }
        let mut sides = Vec::new();
        for row in written {
            if row.hold != known.hold {
                self.fault(format!("an entry belongs to the hold {}, which is not there", row.hold));
            }
            match (self.side(row.from, known), self.side(row.to, known)) {
                (Some(from), Some(to)) => sides.push(Entry { from, to, quantities: row.quantities }),
                _ => self.fault(format!(
                    "request {}: an entry moves a stranger's account",
                    request(&known.position)
                )),
            }
        }
        if joined(&sides) != book::entries(&known.position) {
            self.fault(format!(
                "request {}: its entries are not those of its hold and end",
                request(&known.position)
            ));
        }
        self.add(&sides, matches!(known.position, Position::Open(_)));
    }

    fn add(&mut self, entries: &[Entry], open: bool) {
        for entry in entries {
            match (entry.from, entry.to) {
                (Side::Payer, Side::Held) => {
                    self.held.add(&entry.quantities);
                    if open {
                        self.open.add(&entry.quantities);
                    }
                }
                (Side::Held, Side::Earned) => self.settled.add(&entry.quantities),
                (Side::Held, Side::Payer) => self.released.add(&entry.quantities),
                _ => {}
            }
        }
    }

    fn side(&self, account: i64, known: &Known) -> Option<Side> {
        match account {
            HELD_ACCOUNT => Some(Side::Held),
            EARNED_ACCOUNT => Some(Side::Earned),
            _ if account == known.payer => Some(Side::Payer),
            _ => None,
        }
    }

    /// Conservation: what was held was settled, released, or is open.
    fn compare_sums(&mut self) {
        let mut accounted = Sums::default();
        for part in [self.settled, self.released, self.open] {
            for (sum, part) in accounted.0.iter_mut().zip(part.0) {
                *sum += part;
            }
        }
        if accounted != self.held {
            self.fault(format!("held is {:?}, settled + released + open is {accounted:?}", self.held));
        }
    }

    async fn compare_open_holds(&mut self, snapshot: &mut SqliteConnection) -> Result<(), StoreError> {
        let listed: i64 = scalar(snapshot, "SELECT count(*) FROM open_hold").await?;
        let wrongly: i64 = scalar(
            snapshot,
            "SELECT count(*) FROM open_hold o WHERE EXISTS (SELECT 1 FROM ending x WHERE x.hold = o.hold)",
        )
        .await?;
        if wrongly > 0 || listed.unsigned_abs() != self.findings.open_holds {
            self.fault(format!(
                "{} holds have no end, {listed} are listed as open, {wrongly} of these have ended",
                self.findings.open_holds
            ));
        }
        Ok(())
    }

    /// Nothing lies beside the book: no end and no entry without its hold, no hold that the reading passed over.
    async fn compare_counts(&mut self, snapshot: &mut SqliteConnection) -> Result<(), StoreError> {
        let ended = self.findings.requests - self.findings.open_holds;
        for (sql, read, what) in [
            ("SELECT count(*) FROM hold", self.findings.requests, "holds"),
            ("SELECT count(*) FROM entry", self.findings.entries, "entries"),
            ("SELECT count(*) FROM ending", ended, "ends"),
        ] {
            let written = scalar(snapshot, sql).await?;
            if written.unsigned_abs() != read {
                self.fault(format!("{written} {what} are written, {read} belong to a request"));
            }
        }
        Ok(())
    }

    async fn ask_sqlite(&mut self, snapshot: &mut SqliteConnection) -> Result<(), StoreError> {
        let answers: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&mut *snapshot).await?;
        for answer in answers.into_iter().filter(|answer| answer != "ok") {
            self.fault(answer);
        }
        let strays = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *snapshot).await?;
        if !strays.is_empty() {
            self.fault(format!("{} rows refer to rows that are not there", strays.len()));
        }
        Ok(())
    }

    fn fault(&mut self, fault: String) {
        if self.findings.faults.len() < FAULTS_MAX {
            self.findings.faults.push(fault);
        }
    }
}

/// The lines by which a hold grew, made one with the line that opened it.
fn joined(entries: &[Entry]) -> Vec<Entry> {
    let mut joined: Vec<Entry> = Vec::new();
    let holds = |entry: &Entry| (entry.from, entry.to) == (Side::Payer, Side::Held);
    for entry in entries {
        match joined.last_mut() {
            Some(opening) if holds(opening) && holds(entry) => {
                opening.quantities = opening.quantities.with(&entry.quantities);
            }
            _ => joined.push(*entry),
        }
    }
    joined
}

impl Sums {
    fn add(&mut self, quantities: &Quantities) {
        for (sum, tokens) in self.0.iter_mut().zip(quantities.tokens) {
            *sum += i128::from(tokens);
        }
        self.0[DIMENSIONS.len()] += quantities.money.pico();
    }
}

async fn holds(snapshot: &mut SqliteConnection, after: i64) -> Result<Vec<Known>, StoreError> {
    let rows = sqlx::query(select_positions!("WHERE h.id > ? ORDER BY h.id LIMIT ?"))
        .bind(after)
        .bind(PAGE)
        .fetch_all(snapshot)
        .await?;
    rows.iter().map(rows::position).collect()
}

async fn entries(
    snapshot: &mut SqliteConnection,
    after: i64,
    last: i64,
) -> Result<Vec<EntryRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT hold, from_account, to_account, \
         input_uncached, cache_read, cache_write_5m, cache_write_1h, output, compute_us, money \
         FROM entry WHERE hold > ? AND hold <= ? ORDER BY hold, line",
    )
    .bind(after)
    .bind(last)
    .fetch_all(snapshot)
    .await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &SqliteRow) -> Result<EntryRow, StoreError> {
    let mut columns = Columns { row, next: 0 };
    let (hold, from, to) = (columns.integer()?, columns.integer()?, columns.integer()?);
    let usage = columns.usage()?;
    let money = Money::from_pico(columns.integer()?.into());
    Ok(EntryRow { hold, from, to, quantities: Quantities::of(&usage, Some(money)) })
}

async fn scalar(snapshot: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(sql).fetch_one(snapshot).await?)
}
