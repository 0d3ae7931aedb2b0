//! How rows become nouns: one query shape for everything that the book knows of a request.

use domain::{Account, ModelName, Money, RequestId, Usage};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::codes::{self, Code};
use super::store::StoreError;
use crate::{Circumstances, Ending, Held, Hold, How, Position, PriceId, PriceVersion, Sheet, Timestamp};

/// The columns that [`position`] reads, followed by whatever restricts or orders them.
macro_rules! select_positions {
    ($rest:literal) => {
        concat!(
            "SELECT h.id, h.account, \
             CASE typeof(h.request) WHEN 'blob' THEN 'req-' || lower(hex(h.request)) ELSE h.request END, \
             a.name, m.name, h.at, \
             (SELECT count(*) FROM entry e WHERE e.hold = h.id), \
             (SELECT sum(e.input_uncached) FROM entry e WHERE e.hold = h.id AND e.to_account = 1), \
             (SELECT sum(e.cache_read) FROM entry e WHERE e.hold = h.id AND e.to_account = 1), \
             (SELECT sum(e.cache_write_5m) FROM entry e WHERE e.hold = h.id AND e.to_account = 1), \
             (SELECT sum(e.cache_write_1h) FROM entry e WHERE e.hold = h.id AND e.to_account = 1), \
             (SELECT sum(e.output) FROM entry e WHERE e.hold = h.id AND e.to_account = 1), \
             (SELECT sum(e.compute_us) FROM entry e WHERE e.hold = h.id AND e.to_account = 1), \
             p.id, p.valid_from, p.sheet, \
             x.how, x.at, x.reason, x.source, x.cost, \
             x.input_uncached, x.cache_read, x.cache_write_5m, x.cache_write_1h, x.output, x.compute_us, x.reasoning \
             FROM hold h \
             JOIN account a ON a.id = h.account \
             JOIN model m ON m.id = h.model \
             LEFT JOIN price p ON p.id = h.price \
             LEFT JOIN ending x ON x.hold = h.id ",
            $rest
        )
    };
}
pub(super) use select_positions;

/// A request's row number, its payer's row number, and what the book knows of it.
#[derive(Clone)]
pub struct Known {
    pub hold: i64,
    pub payer: i64,
    /// How many entries it has.
    pub lines: i64,
    pub position: Position,
}

/// Reads one row of [`select_positions!`].
pub fn position(row: &SqliteRow) -> Result<Known, StoreError> {
    let mut columns = Columns { row, next: 0 };
    let (id, payer) = (columns.integer()?, columns.integer()?);
    let request = RequestId::new(columns.text()?);
    let account = Account::new(columns.text()?);
    let model = ModelName::new(columns.text()?);
    let at = Timestamp::from_millis(columns.integer()?);
    let lines = columns.integer()?;
    let estimate = columns.usage()?;
    let price = columns.price(&model)?;
    let (key, task, end_user, circumstances) = (None, None, None, Circumstances::default());
    let hold = Hold { request, account, key, task, end_user, model, circumstances, estimate, at };
    let held = Held { hold, price };
    let ending = columns.ending()?;
    let position = match ending {
        None => Position::Open(held),
        Some(ending) => Position::Ended(held, ending),
    };
    Ok(Known { hold: id, payer, lines, position })
}

/// Reads columns from left to right, so that the order of the query is the order of the code.
pub struct Columns<'r> {
    pub row: &'r SqliteRow,
    pub next: usize,
}

impl Columns<'_> {
    pub fn maybe_integer(&mut self) -> Result<Option<i64>, StoreError> {
        self.next += 1;
        Ok(self.row.try_get(self.next - 1)?)
    }
    pub fn integer(&mut self) -> Result<i64, StoreError> {
        self.next += 1;
        Ok(self.row.try_get(self.next - 1)?)
    }
    pub fn text(&mut self) -> Result<String, StoreError> {
        self.next += 1;
        Ok(self.row.try_get(self.next - 1)?)
    }
    pub fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        self.next += 1;
        Ok(self.row.try_get(self.next - 1)?)
    }
    pub fn count(&mut self) -> Result<u64, StoreError> {
        let value = self.integer()?;
        u64::try_from(value).map_err(|_| StoreError::damaged(format!("a count is {value}")))
    }

    /// All dimensions, which `reasoning` is none of.
    pub fn usage(&mut self) -> Result<Usage, StoreError> {
        Ok(Usage {
            input_uncached: self.count()?,
            cache_read: self.count()?,
            cache_write_5m: self.count()?,
            cache_write_1h: self.count()?,
            output: self.count()?,
            reasoning: 0,
            compute_us: self.count()?,
        })
    }

    /// A version's id, start and sheet, or three columns of nothing.
    pub fn price(&mut self, model: &ModelName) -> Result<Option<PriceVersion>, StoreError> {
        let (id, valid_from) = (self.maybe_integer()?, self.maybe_integer()?);
        let sheet = self.maybe_text()?;
        let (Some(id), Some(valid_from), Some(sheet)) = (id, valid_from, sheet) else { return Ok(None) };
        Ok(Some(PriceVersion {
            id: PriceId(id),
            model: model.clone(),
            sheet: Sheet::from_text(&sheet)?,
            valid_from: Timestamp::from_millis(valid_from),
        }))
    }

    fn ending(&mut self) -> Result<Option<Ending>, StoreError> {
        let how = self.maybe_integer()?;
        let (at, reason) = (self.maybe_integer()?, self.maybe_integer()?);
        let (source, cost) = (self.maybe_integer()?, self.maybe_integer()?);
        let (Some(how), Some(at), Some(reason)) = (how, at, reason) else { return Ok(None) };
        let how = match how {
            codes::SETTLED => {
                let dimensions = self.usage()?;
                let usage = Usage { reasoning: self.count()?, ..dimensions };
                let source = source.ok_or_else(|| StoreError::damaged("a settlement has no source"))?;
                How::Settled { usage, end: word(reason)?, source: word(source)? }
            }
            codes::RELEASED => How::Released { reason: word(reason)? },
            codes::LOST => {
                let is_known = self.maybe_integer()?.is_some();
                self.next -= 1;
                let estimate = if is_known { Some(self.usage()?) } else { None };
                How::Lost { reason: word(reason)?, estimate }
            }
            other => return Err(StoreError::damaged(format!("an ending has the unknown kind {other}"))),
        };
        let cost = cost.map(|pico| Money::from_pico(pico.into()));
        Ok(Some(Ending { how, at: Timestamp::from_millis(at), cost }))
    }
}

pub fn word<T: Code>(code: i64) -> Result<T, StoreError> {
    T::from_code(code).ok_or_else(|| StoreError::damaged(format!("the unknown code {code}")))
}
