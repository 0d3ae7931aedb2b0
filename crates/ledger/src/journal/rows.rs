//! What does the book know of a request? One query shape for all who ask.

use std::collections::HashMap;
use std::sync::Arc;

use domain::{Account, ModelName, Money, Usage};

use super::codes::{self, Code};
use super::database::{Bulk, Columns, Kind, Row, Speaker, StoreError, sql};
use crate::budget::Charge;
use crate::{
    Circumstances, Ending, Held, Hold, How, KeyId, Position, PriceId, PriceVersion, Quantities, Sheet,
    TaskPath, Timestamp,
};

/// The columns that [`positions`] reads; the first text names where the holds `h` come from, the second restricts or
/// orders them.
macro_rules! select_positions {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT h.id, h.request, h.account, a.name, h.model, m.name, h.at, h.price, \
             k.text, coalesce(t.root, t.id, 0), t.path, u.text, coalesce(h.circumstances, 0), c.text, \
             x.how, x.at, x.reason, x.source, x.cost, \
             x.input_uncached, x.cache_read, x.cache_write_5m, x.cache_write_1h, x.output, x.compute_us, x.reasoning, \
             coalesce(h.process, 0), h.charges \
             FROM ",
            $from,
            " JOIN account a ON a.id = h.account \
             JOIN model m ON m.id = h.model \
             LEFT JOIN name k ON k.id = h.api_key \
             LEFT JOIN task t ON t.id = h.task \
             LEFT JOIN name u ON u.id = h.end_user \
             LEFT JOIN name c ON c.id = h.circumstances \
             LEFT JOIN ending x ON x.hold = h.id ",
            $rest
        )
    };
}
pub(super) use select_positions;

/// A request's row number, the row numbers of what it belongs to, and what the book knows of it.
#[derive(Clone, Debug)]
pub struct Known {
    pub hold: i64,
    pub payer: i64,
    pub model: i64,
    /// 0: no task.
    pub task_root: i64,
    /// 0: a request of the first schema.
    pub circumstances: i64,
    /// How many entries it has.
    pub lines: i64,
    /// Whose hold it is; 0: nobody's.
    pub process: i64,
    /// The windows that it is counted in.
    pub charges: Arc<[Charge]>,
    pub position: Position,
}

/// Returns the requests in these rows of [`select_positions!`], in their order.
pub async fn positions(speaker: &mut Speaker<'_>, rows: &[Row]) -> Result<Vec<Known>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        parts.push(Part::read(row)?);
    }
    let prices = prices(speaker, parts.iter().filter_map(|part| part.price)).await?;
    let mut held = held(speaker, parts.iter().map(|part| part.known.hold)).await?;
    parts
        .into_iter()
        .map(|part| {
            let (lines, quantities) = held.remove(&part.known.hold).unwrap_or_default();
            part.whole(&prices, lines, &quantities)
        })
        .collect()
}

/// A request as one row says it, without its price and its entries.
struct Part {
    known: Known,
    price: Option<i64>,
}

impl Part {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let mut columns = row.columns();
        let (id, request) = (columns.integer()?, columns.request()?);
        let (payer, account) = (columns.integer()?, Account::new(columns.text()?));
        let (model_id, model) = (columns.integer()?, ModelName::new(columns.text()?));
        let at = Timestamp::from_millis(columns.integer()?);
        let price = columns.maybe_integer()?;
        let key = columns.maybe_text()?.map(KeyId);
        let (task_root, task) = (columns.integer()?, columns.maybe_text()?);
        let task = task.as_deref().map(task_path).transpose()?;
        let end_user = columns.maybe_text()?;
        let (circumstances_id, circumstances) = (columns.integer()?, columns.maybe_text()?);
        let circumstances = circumstances.as_deref().map(circumstances_of).transpose()?.unwrap_or_default();
        let estimate = Usage::default();
        let hold = Hold { request, account, key, task, end_user, model, circumstances, estimate, at };
        let held = Held { hold, price: None };
        let position = match ending(&mut columns)? {
            None => Position::Open(held),
            Some(ending) => Position::Ended(held, ending),
        };
        let circumstances = circumstances_id;
        let (process, charges) = (columns.integer()?, columns.maybe_text()?);
        let charges = Charge::read(charges.as_deref());
        let charges = charges
            .ok_or_else(|| StoreError::damaged("the limits that a hold counts in are unreadable"))?
            .into();
        let (model, lines) = (model_id, 0);
        let known =
            Known { hold: id, payer, model, task_root, circumstances, lines, process, charges, position };
        Ok(Self { known, price })
    }

    fn whole(
        mut self,
        prices: &HashMap<i64, PriceVersion>,
        lines: i64,
        held_in_all: &Quantities,
    ) -> Result<Known, StoreError> {
        let (Position::Open(held) | Position::Ended(held, _)) = &mut self.known.position else {
            unreachable!("a row is a request that is there")
        };
        held.hold.estimate = held_in_all.usage();
        if let Some(price) = self.price {
            let version = prices.get(&price);
            held.price =
                Some(version.cloned().ok_or_else(|| StoreError::damaged("a hold's price is missing"))?);
        }
        self.known.lines = lines;
        Ok(self.known)
    }
}

/// Returns how many entries each of these holds has, and what was moved into it in all.
async fn held(
    speaker: &mut Speaker<'_>,
    holds: impl Iterator<Item = i64>,
) -> Result<HashMap<i64, (i64, Quantities)>, StoreError> {
    static ENTRIES: Bulk = Bulk {
        columns: &[("hold", Kind::Integer)],
        sql: "SELECT e.hold, e.to_account, e.input_uncached, e.cache_read, e.cache_write_5m, e.cache_write_1h, \
              e.output, e.compute_us, e.money FROM v JOIN entry e ON e.hold = v.hold",
    };
    let rows = ENTRIES.run(speaker, holds.map(|hold| vec![hold.into()]).collect()).await?;
    let mut held: HashMap<i64, (i64, Quantities)> = HashMap::new();
    for row in &rows {
        let mut columns = row.columns();
        let (lines, sum) = held.entry(columns.integer()?).or_default();
        *lines += 1;
        if columns.integer()? == codes::HELD_ACCOUNT {
            *sum = sum.with(&quantities(&mut columns)?);
        }
    }
    Ok(held)
}

async fn prices(
    speaker: &mut Speaker<'_>,
    ids: impl Iterator<Item = i64>,
) -> Result<HashMap<i64, PriceVersion>, StoreError> {
    static PRICES: Bulk = Bulk {
        columns: &[("id", Kind::Integer)],
        sql: "SELECT p.id, m.name, p.valid_from, p.sheet FROM v JOIN price p ON p.id = v.id \
              JOIN model m ON m.id = p.model",
    };
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = PRICES.run(speaker, ids.into_iter().map(|id| vec![id.into()]).collect()).await?;
    rows.iter().map(|row| price(&mut row.columns()).map(|version| (version.id.0, version))).collect()
}

/// Reads a version's id, model, start and sheet.
pub fn price(columns: &mut Columns<'_>) -> Result<PriceVersion, StoreError> {
    Ok(PriceVersion {
        id: PriceId(columns.integer()?),
        model: ModelName::new(columns.text()?),
        valid_from: Timestamp::from_millis(columns.integer()?),
        sheet: Sheet::from_text(&columns.text()?)?,
    })
}

pub async fn all_prices<'a>(from: impl Into<Speaker<'a>>) -> Result<Vec<PriceVersion>, StoreError> {
    let rows = sql("SELECT p.id, m.name, p.valid_from, p.sheet FROM price p JOIN model m ON m.id = p.model ORDER BY p.id")
        .all(from)
        .await?;
    rows.iter().map(|row| price(&mut row.columns())).collect()
}

/// Reads the six dimensions.
pub fn usage(columns: &mut Columns<'_>) -> Result<Usage, StoreError> {
    Ok(Usage {
        input_uncached: columns.count()?,
        cache_read: columns.count()?,
        cache_write_5m: columns.count()?,
        cache_write_1h: columns.count()?,
        output: columns.count()?,
        reasoning: 0,
        compute_us: columns.count()?,
    })
}

/// Reads the six dimensions and money.
pub fn quantities(columns: &mut Columns<'_>) -> Result<Quantities, StoreError> {
    let usage = usage(columns)?;
    Ok(Quantities::of(&usage, Some(Money::from_pico(columns.integer()?.into()))))
}

fn ending(columns: &mut Columns<'_>) -> Result<Option<Ending>, StoreError> {
    let how = columns.maybe_integer()?;
    let (at, reason) = (columns.maybe_integer()?, columns.maybe_integer()?);
    let (source, cost) = (columns.maybe_integer()?, columns.maybe_integer()?);
    let usage = maybe_usage(columns)?;
    let (Some(how), Some(at), Some(reason)) = (how, at, reason) else { return Ok(None) };
    let how = match how {
        codes::SETTLED => {
            let (Some(usage), Some(source)) = (usage, source) else {
                return Err(StoreError::damaged("a settlement has no usage or no source"));
            };
            How::Settled { usage, end: word(reason)?, source: word(source)? }
        }
        codes::RELEASED => How::Released { reason: word(reason)? },
        codes::SAVED => {
            let Some(usage) = usage else {
                return Err(StoreError::damaged("a saving does not say what was saved"));
            };
            let worth = cost.map(|pico| Money::from_pico(pico.into()));
            let how = How::Saved { usage, way: word(reason)?, worth };
            return Ok(Some(Ending { how, at: Timestamp::from_millis(at), cost: Some(Money::ZERO) }));
        }
        codes::LOST => How::Lost { reason: word(reason)?, estimate: usage },
        other => return Err(StoreError::damaged(format!("an ending has the unknown kind {other}"))),
    };
    let cost = cost.map(|pico| Money::from_pico(pico.into()));
    Ok(Some(Ending { how, at: Timestamp::from_millis(at), cost }))
}

/// The six dimensions and reasoning; all are there, or none.
fn maybe_usage(columns: &mut Columns<'_>) -> Result<Option<Usage>, StoreError> {
    let mut counts = [None; 7];
    for count in &mut counts {
        *count = columns.maybe_count()?;
    }
    let [
        Some(input_uncached),
        Some(cache_read),
        Some(cache_write_5m),
        Some(cache_write_1h),
        output,
        compute_us,
        reasoning,
    ] = counts
    else {
        return Ok(None);
    };
    let (Some(output), Some(compute_us), Some(reasoning)) = (output, compute_us, reasoning) else {
        return Err(StoreError::damaged("an ending's usage is known in part"));
    };
    Ok(Some(Usage {
        input_uncached,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        output,
        reasoning,
        compute_us,
    }))
}

pub fn word<T: Code>(code: i64) -> Result<T, StoreError> {
    T::from_code(code).ok_or_else(|| StoreError::damaged(format!("the unknown code {code}")))
}

pub fn task_path(path: &str) -> Result<TaskPath, StoreError> {
    TaskPath::parse(path).map_err(|error| StoreError::damaged(error.to_string()))
}

fn circumstances_of(text: &str) -> Result<Circumstances, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::damaged(format!("circumstances are unreadable: {error}")))
}
