//! What does the book say? Reads that never wait for the writer.

use std::collections::HashMap;
use std::fmt::Write;

use domain::{Account, ModelName, Money, RequestId, Usage};

use super::codes;
use super::database::{Bulk, Columns, Kind, Readers, Row, StoreError, sql, sql_of};
use super::rows::{self, Known, select_positions, word};
use crate::time::Day;
use crate::{Dimension, Held, LedgerError, Position, RequestEnd, RequestRow, UsageQuery, UsageRow};

/// Returns the open holds of all processes, or of one.
pub async fn open_holds(readers: &Readers, process: Option<i64>) -> Result<Vec<Held>, StoreError> {
    const SQL: &str = select_positions!(
        "open_hold o JOIN hold h ON h.id = o.hold",
        "WHERE $1 = 0 OR o.process = $1 ORDER BY h.at, h.id"
    );
    let rows = sql(SQL).bind(process.unwrap_or(0)).all(readers).await?;
    let open = rows::positions(&mut readers.into(), &rows).await?;
    Ok(open
        .into_iter()
        .filter_map(|known| match known.position {
            Position::Open(held) => Some(held),
            Position::Absent | Position::Ended(..) => None,
        })
        .collect())
}

pub async fn recent(readers: &Readers, limit: usize) -> Result<Vec<RequestRow>, StoreError> {
    let rows = sql(select_positions!("hold h", "ORDER BY h.at DESC, h.id DESC LIMIT $1"))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .all(readers)
        .await?;
    Ok(rows::positions(&mut readers.into(), &rows).await?.into_iter().map(request).collect())
}

pub async fn by_id(readers: &Readers, ids: &[RequestId]) -> Result<Vec<RequestRow>, StoreError> {
    static KNOWN: Bulk = Bulk {
        columns: &[("request", Kind::Request)],
        sql: select_positions!("v JOIN hold h ON h.request = v.request", ""),
    };
    let rows = KNOWN.run(&mut readers.into(), ids.iter().map(|id| vec![id.into()]).collect()).await?;
    let found = rows::positions(&mut readers.into(), &rows).await?;
    let mut by_id: HashMap<RequestId, RequestRow> =
        found.into_iter().map(request).map(|row| (row.held.hold.request.clone(), row)).collect();
    Ok(ids.iter().filter_map(|id| by_id.remove(id)).collect())
}

pub async fn usage(readers: &Readers, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    let rows = sql_of(usage_sql(&query.by))
        .bind(query.since.millis())
        .bind(query.until.millis())
        .all(readers)
        .await?;
    rows.iter().map(usage_row).collect()
}

fn request(known: Known) -> RequestRow {
    match known.position {
        Position::Open(held) => RequestRow { held, ending: None },
        Position::Ended(held, ending) => RequestRow { held, ending: Some(ending) },
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
        (Dimension::End, "coalesce(x.how, 0)", "how"),
        (Dimension::End, "coalesce(x.reason, 0)", "reason"),
    ];
    let mut inner = String::from("SELECT ");
    let mut groups = Vec::new();
    for (dimension, expression, name) in dimensions {
        if by.contains(&dimension) {
            let _ = write!(inner, "{expression} AS {name}, ");
            groups.push(name);
        } else {
            let _ = write!(inner, "CAST(NULL AS BIGINT) AS {name}, ");
        }
    }
    inner.push_str(
        "count(*) AS requests, \
         count(*) - count(x.hold) AS open_requests, \
         count(CASE WHEN x.how = 3 AND x.input_uncached IS NULL THEN 1 END) AS unknown_requests, \
         count(CASE WHEN x.how <> 2 AND x.cost IS NULL AND x.input_uncached + x.cache_read + x.cache_write_5m \
             + x.cache_write_1h + x.output + x.compute_us > 0 THEN 1 END) AS unpriced_requests",
    );
    for column in SUMMED {
        let _ = write!(
            inner,
            ", CAST(coalesce(sum(x.{column} >> 32), 0) AS BIGINT) AS {column}_upper, \
             CAST(coalesce(sum(x.{column} & 4294967295), 0) AS BIGINT) AS {column}_lower"
        );
    }
    inner.push_str(" FROM hold h LEFT JOIN ending x ON x.hold = h.id WHERE h.at >= $1 AND h.at < $2");
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

fn usage_row(row: &Row) -> Result<UsageRow, StoreError> {
    let mut columns = row.columns();
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
