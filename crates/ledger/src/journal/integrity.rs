//! Does the book on disk balance? A check that recomputes what the facts imply and compares it with what is written.

use super::codes::{EARNED_ACCOUNT, HELD_ACCOUNT};
use super::database::{Bulk, Connection, Kind, Readers, Row, Speaker, StoreError, sql};
use super::rollup::{self, Rollups};
use super::rows::{self, Known, select_positions};
use crate::book;
use crate::{DIMENSIONS, Entry, Held, Integrity, Position, Quantities, Side, Timestamp};

/// Requests read at a time, so that the check's memory does not grow with the book.
const PAGE: i64 = 1_000;
const FAULTS_MAX: usize = 20;

/// Checks one snapshot of the book, while the writer goes on.
pub async fn check(readers: &Readers) -> Result<Integrity, StoreError> {
    let mut snapshot = readers.snapshot().await?;
    let mut audit = Audit::default();
    let mut after = i64::MIN;
    loop {
        let page = holds(&mut snapshot, after).await?;
        let Some(last) = page.last().map(|known| known.hold) else { break };
        let mut entries = entries(&mut snapshot, &page).await?.into_iter().peekable();
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
    audit.compare_rollups(&mut snapshot).await?;
    audit.compare_leases(&mut snapshot).await?;
    audit.ask_sqlite(&mut snapshot).await?;
    snapshot.close().await;
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
    /// What the ended requests sum to.
    rollups: Rollups,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sums([i128; DIMENSIONS.len() + 1]);

struct EntryRow {
    hold: i64,
    line: i64,
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
            rollup::add(&mut self.rollups, known, held, ending);
            let cost = book::cost(held, &ending.how);
            if cost != ending.cost {
                self.fault(format!(
                    "request {}: its cost is written as {:?}, its usage times its price is {cost:?}",
                    held.hold.request, ending.cost
                ));
            }
            if let Some((usage, worth)) = ending.saved().filter(|(usage, worth)| held.cost(usage) != *worth) {
                self.fault(format!(
                    "request {}: what it saved is written as {worth:?}, its usage times its price is {:?}",
                    held.hold.request,
                    held.cost(&usage)
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
        if let Position::Open(held) | Position::Ended(held, _) = &known.position
            && !grew_at_its_price(held, &sides)
        {
            self.fault(format!("request {}: it grew by other money than its price", held.hold.request));
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

    async fn compare_open_holds(&mut self, snapshot: &mut Connection) -> Result<(), StoreError> {
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
    async fn compare_counts(&mut self, snapshot: &mut Connection) -> Result<(), StoreError> {
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

    /// The rollups say the same as the requests, but for hours whose requests were dropped.
    async fn compare_rollups(&mut self, snapshot: &mut Connection) -> Result<(), StoreError> {
        let dropped = scalar(snapshot, "SELECT dropped_before FROM retention").await?;
        let since = rollup::hour(Timestamp::from_millis(dropped));
        let written = rollup::read(&mut Speaker::Connection(snapshot), since).await?;
        let mut facts = std::mem::take(&mut self.rollups);
        facts.retain(|group, _| group.hour >= since);
        for (group, sums) in &facts {
            if written.get(group) != Some(sums) {
                let rolled = written.get(group).copied().unwrap_or_default();
                self.fault(format!(
                    "the requests of {group:?} sum to {:?}, their rollup says {:?}",
                    sums.0, rolled.0
                ));
            }
        }
        for group in written.keys().filter(|group| !facts.contains_key(group)) {
            self.fault(format!("there is a rollup of {group:?}, but no request"));
        }
        Ok(())
    }

    /// What processes were granted of a limit is what its window says was granted, and never more than the limit.
    async fn compare_leases(&mut self, snapshot: &mut Connection) -> Result<(), StoreError> {
        let wrong = scalar(
            snapshot,
            "SELECT count(*) FROM limit_window w WHERE w.granted_total <> coalesce((SELECT CAST(sum(e.granted) AS BIGINT) \
             FROM escrow e WHERE e.spending_limit = w.spending_limit AND e.subject = w.subject \
             AND e.window_start = w.window_start), 0)",
        )
        .await?;
        if wrong > 0 {
            self.fault(format!(
                "the leases of {wrong} windows do not sum to what the windows say was granted"
            ));
        }
        Ok(())
    }

    async fn ask_sqlite(&mut self, snapshot: &mut Connection) -> Result<(), StoreError> {
        if snapshot.is_shared() {
            return Ok(());
        }
        for row in sql("PRAGMA integrity_check(20)").all(&mut *snapshot).await? {
            let answer = row.columns().text()?;
            if answer != "ok" {
                self.fault(answer);
            }
        }
        let strays = sql("PRAGMA foreign_key_check").all(&mut *snapshot).await?;
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

/// Whether each line by which the hold grew has the money of what it added: the price of all that is held, after each line,
/// is the money that is held.
fn grew_at_its_price(held: &Held, entries: &[Entry]) -> bool {
    let mut sum = Quantities::default();
    let lines = entries.iter().filter(|entry| (entry.from, entry.to) == (Side::Payer, Side::Held));
    lines.into_iter().all(|line| {
        sum = sum.with(&line.quantities);
        Quantities::of(&sum.usage(), held.cost(&sum.usage())).money == sum.money
    })
}

async fn holds(snapshot: &mut Connection, after: i64) -> Result<Vec<Known>, StoreError> {
    let rows = sql(select_positions!("hold h", "WHERE h.id > $1 ORDER BY h.id LIMIT $2"))
        .bind(after)
        .bind(PAGE)
        .all(&mut *snapshot)
        .await?;
    rows::positions(&mut Speaker::Connection(snapshot), &rows).await
}

/// Returns the entries of these holds, in order.
async fn entries(snapshot: &mut Connection, page: &[Known]) -> Result<Vec<EntryRow>, StoreError> {
    static ENTRIES: Bulk = Bulk {
        columns: &[("hold", Kind::Integer)],
        sql: "SELECT e.hold, e.line, e.from_account, e.to_account, e.input_uncached, e.cache_read, e.cache_write_5m, \
              e.cache_write_1h, e.output, e.compute_us, e.money FROM v JOIN entry e ON e.hold = v.hold",
    };
    let holds = page.iter().map(|known| vec![known.hold.into()]).collect();
    let rows = ENTRIES.run(&mut Speaker::Connection(snapshot), holds).await?;
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| (entry.hold, entry.line));
    Ok(entries)
}

fn entry(row: &Row) -> Result<EntryRow, StoreError> {
    let mut columns = row.columns();
    Ok(EntryRow {
        hold: columns.integer()?,
        line: columns.integer()?,
        from: columns.integer()?,
        to: columns.integer()?,
        quantities: rows::quantities(&mut columns)?,
    })
}

async fn scalar(snapshot: &mut Connection, text: &'static str) -> Result<i64, StoreError> {
    sql(text).integer(snapshot).await
}
