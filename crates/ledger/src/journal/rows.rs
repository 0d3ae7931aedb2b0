//! How rows become nouns: one query shape for everything that the book knows of a request.

use domain::{Account, ModelName, Money, Price, RequestId, Usage};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::codes::{self, Code};
use super::store::StoreError;
use crate::quantity::DIMENSIONS;
use crate::{Ending, Held, Hold, How, Position, PriceId, PriceVersion, Prices, Timestamp};

/// The columns that [`position`] reads, followed by whatever restricts or orders them.
macro_rules! select_positions {
    ($rest:literal) => {
        concat!(
            "SELECT h.id, h.account, \
             CASE typeof(h.request) WHEN 'blob' THEN 'req-' || lower(hex(h.request)) ELSE h.request END, \
             a.name, m.name, h.at, \
             e.input_uncached, e.cache_read, e.cache_write_5m, e.cache_write_1h, e.output, \
             p.id, p.valid_from, p.input_uncached, p.cache_read, p.cache_write_5m, p.cache_write_1h, p.output, \
             x.how, x.at, x.reason, x.source, x.cost, \
             x.input_uncached, x.cache_read, x.cache_write_5m, x.cache_write_1h, x.output, x.reasoning \
             FROM hold h \
             JOIN account a ON a.id = h.account \
             JOIN model m ON m.id = h.model \
             JOIN entry e ON e.hold = h.id AND e.line = 0 \
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
    pub position: Position,
}

/// Reads one row of [`select_positions!`].
pub fn position(row: &SqliteRow) -> Result<Known, StoreError> {
    let mut columns = Columns { row, next: 0 };
    let (hold, payer) = (columns.integer()?, columns.integer()?);
    let request = RequestId::new(columns.text()?);
    let account = Account::new(columns.text()?);
    let model = ModelName::new(columns.text()?);
    let at = Timestamp::from_millis(columns.integer()?);
    let estimate = columns.usage()?;
    let price = columns.price(&model)?;
    let held = Held { hold: Hold { request, account, model, estimate, at }, price };
    let ending = columns.ending()?;
    let position = match ending {
        None => Position::Open(held),
        Some(ending) => Position::Ended(held, ending),
    };
    Ok(Known { hold, payer, position })
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

    /// Five dimensions, without `reasoning`.
    pub fn usage(&mut self) -> Result<Usage, StoreError> {
        Ok(Usage {
            input_uncached: self.count()?,
            cache_read: self.count()?,
            cache_write_5m: self.count()?,
            cache_write_1h: self.count()?,
            output: self.count()?,
            reasoning: 0,
        })
    }

    /// A version's id, start and prices, or seven columns of nothing.
    pub fn price(&mut self, model: &ModelName) -> Result<Option<PriceVersion>, StoreError> {
        let (id, valid_from) = (self.maybe_integer()?, self.maybe_integer()?);
        let mut prices = [None; DIMENSIONS.len()];
        for price in &mut prices {
            *price = self.maybe_integer()?.map(|pico| Price::from_pico_per_token(pico.unsigned_abs()));
        }
        let (Some(id), Some(valid_from)) = (id, valid_from) else { return Ok(None) };
        Ok(Some(PriceVersion {
            id: PriceId(id),
            model: model.clone(),
            prices: Prices::from_dimensions(prices),
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
            codes::LOST => How::Lost { reason: word(reason)? },
            other => return Err(StoreError::damaged(format!("an ending has the unknown kind {other}"))),
        };
        let cost = cost.map(|pico| Money::from_pico(pico.into()));
        Ok(Some(Ending { how, at: Timestamp::from_millis(at), cost }))
    }
}

pub fn word<T: Code>(code: i64) -> Result<T, StoreError> {
    T::from_code(code).ok_or_else(|| StoreError::damaged(format!("the unknown code {code}")))
}
