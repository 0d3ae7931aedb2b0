//! What does the book say? Reads that never wait for the writer.

use std::fmt::Write;

use domain::{Account, ModelName, Money, RequestId, Usage};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqlitePool};

use super::codes;
use super::rows::{self, Columns, select_positions, word};
use super::store::{StoreError, bind_request};
use crate::time::Day;
use crate::{
    Dimension, Held, LedgerError, Position, PriceVersion, RequestEnd, RequestRow, UsageQuery, UsageRow,
};

pub async fn open_holds(readers: &SqlitePool) -> Result<Vec<Held>, StoreError> {
    let rows =
        sqlx::query(select_positions!("WHERE h.id IN (SELECT hold FROM open_hold) ORDER BY h.at, h.id"))
            .fetch_all(readers)
            .await?;
    let mut open = Vec::new();
    for row in &rows {
        if let Position::Open(held) = rows::position(row)?.position {
            open.push(held);
        }
    }
    Ok(open)
}

pub async fn recent(readers: &SqlitePool, limit: usize) -> Result<Vec<RequestRow>, StoreError> {
    let rows = sqlx::query(select_positions!("ORDER BY h.id DESC LIMIT ?"))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(readers)
        .await?;
    rows.iter().map(request).collect()
}

pub async fn by_id(readers: &SqlitePool, ids: &[RequestId]) -> Result<Vec<RequestRow>, StoreError> {
    const SQL: &str = select_positions!("WHERE h.request = ?");
    let mut found = Vec::new();
    for id in ids {
        if let Some(row) = bind_request(SQL, id).fetch_optional(readers).await? {
            found.push(request(&row)?);
        }
    }
    Ok(found)
}

pub async fn prices(readers: &SqlitePool) -> Result<Vec<PriceVersion>, StoreError> {
    let rows = sqlx::query(
        "SELECT m.name, p.id, p.valid_from, p.sheet FROM price p JOIN model m ON m.id = p.model ORDER BY p.id",
    )
    .fetch_all(readers)
    .await?;
    let mut versions = Vec::new();
    for row in &rows {
        let mut columns = Columns { row, next: 0 };
        let model = ModelName::new(columns.text()?);
        versions.extend(columns.price(&model)?);
    }
    Ok(versions)
}

pub async fn usage(readers: &SqlitePool, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    let rows = sqlx::query(AssertSqlSafe(usage_sql(&query.by)))
        .bind(query.since.millis())
        .bind(query.until.millis())
        .fetch_all(readers)
        .await?;
    rows.iter().map(usage_row).collect()
}

fn request(row: &SqliteRow) -> Result<RequestRow, StoreError> {
    match rows::position(row)?.position {
        Position::Open(held) => Ok(RequestRow { held, ending: None }),
        Position::Ended(held, ending) => Ok(RequestRow { held, ending: Some(ending) }),
        Position::Absent => unreachable!("a row is a request that is there"),
    }
}

/// Columns that are summed. SQLite adds in 64 bits and fails when that overflows, which money in picodollars can reach
/// (at 9.2 million USD); so the upper and the lower halves are summed apart and joined in 128 bits.
const SUMMED: [&str; 8] = [
    "input_uncached",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output",
    "reasoning",
    "compute_us",
    "cost",
];

/// Groups by the numbers of accounts and models, and looks up their names only for the few rows that come out.
fn usage_sql(by: &[Dimension]) -> String {
    // A day is 86,400,000 ms, rounded down on both sides of 1970.
    let dimensions = [
        (Dimension::Account, "h.account", "account"),
        (Dimension::Model, "h.model", "model"),
        (Dimension::Day, "(h.at - ((h.at % 86400000) + 86400000) % 86400000) / 86400000", "day"),
        (Dimension::End, "ifnull(x.how, 0)", "how"),
        (Dimension::End, "ifnull(x.reason, 0)", "reason"),
    ];
    let mut inner = String::from("SELECT ");
    let mut groups = Vec::new();
    for (dimension, expression, name) in dimensions {
        if by.contains(&dimension) {
            let _ = write!(inner, "{expression} AS {name}, ");
            groups.push(name);
        } else {
            let _ = write!(inner, "NULL AS {name}, ");
        }
    }
    inner.push_str(
        "count(*) AS requests, \
         count(*) - count(x.hold) AS open_requests, \
         ifnull(sum(x.how = 3 AND x.input_uncached IS NULL), 0) AS unknown_requests, \
         ifnull(sum(x.how <> 2 AND x.cost IS NULL AND \
             x.input_uncached + x.cache_read + x.cache_write_5m + x.cache_write_1h + x.output > 0), 0) \
             AS unpriced_requests",
    );
    for column in SUMMED {
        let _ = write!(
            inner,
            ", ifnull(sum(x.{column} >> 32), 0) AS {column}_upper, \
             ifnull(sum(x.{column} & 4294967295), 0) AS {column}_lower"
        );
    }
    inner.push_str(" FROM hold h LEFT JOIN ending x ON x.hold = h.id WHERE h.at >= ? AND h.at < ?");
    if !groups.is_empty() {
        let _ = write!(inner, " GROUP BY {}", groups.join(", "));
    }
    let sums: String = SUMMED.iter().map(|column| format!(", g.{column}_upper, g.{column}_lower")).collect();
    format!(
        "SELECT a.name, m.name, g.day, g.how, g.reason, \
         g.requests, g.open_requests, g.unknown_requests, g.unpriced_requests{sums} \
         FROM ({inner}) g LEFT JOIN account a ON a.id = g.account LEFT JOIN model m ON m.id = g.model \
         WHERE g.requests > 0 ORDER BY g.day, a.name, m.name, g.how, g.reason"
    )
}

fn usage_row(row: &SqliteRow) -> Result<UsageRow, StoreError> {
    let mut columns = Columns { row, next: 0 };
    let account = columns.maybe_text()?.map(Account::new);
    let model = columns.maybe_text()?.map(ModelName::new);
    let day = columns.maybe_integer()?.map(Day);
    let end = match (columns.maybe_integer()?, columns.maybe_integer()?) {
        (Some(how), Some(reason)) => Some(request_end(how, reason)?),
        _ => None,
    };
    Ok(UsageRow {
        account,
        model,
        day,
        end,
        requests: columns.count()?,
        open_requests: columns.count()?,
        unknown_requests: columns.count()?,
        unpriced_requests: columns.count()?,
        usage: Usage {
            input_uncached: tokens_sum(&mut columns)?,
            cache_read: tokens_sum(&mut columns)?,
            cache_write_5m: tokens_sum(&mut columns)?,
            cache_write_1h: tokens_sum(&mut columns)?,
            output: tokens_sum(&mut columns)?,
            reasoning: tokens_sum(&mut columns)?,
            compute_us: tokens_sum(&mut columns)?,
        },
        cost: Money::from_pico(sum(&mut columns)?),
    })
}

fn request_end(how: i64, reason: i64) -> Result<RequestEnd, StoreError> {
    match how {
        0 => Ok(RequestEnd::Open),
        codes::SETTLED => Ok(RequestEnd::Settled(word(reason)?)),
        codes::RELEASED => Ok(RequestEnd::Released(word(reason)?)),
        codes::LOST => Ok(RequestEnd::Lost),
        other => Err(StoreError::damaged(format!("an ending has the unknown kind {other}"))),
    }
}

fn sum(columns: &mut Columns<'_>) -> Result<i128, StoreError> {
    let (upper, lower) = (columns.integer()?, columns.integer()?);
    Ok((i128::from(upper) << 32) + i128::from(lower))
}

fn tokens_sum(columns: &mut Columns<'_>) -> Result<u64, StoreError> {
    let sum = sum(columns)?;
    u64::try_from(sum).map_err(|_| {
        StoreError::Told(LedgerError::TooLarge {
            what: "the sum of tokens".into(),
            value: sum.to_string(),
            limit: u64::MAX.to_string(),
        })
    })
}
