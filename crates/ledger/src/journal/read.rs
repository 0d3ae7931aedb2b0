//! What does the book say? Reads that never wait for the writer.

use std::collections::HashMap;

use domain::RequestId;

use super::database::{Bulk, Kind, Readers, StoreError, sql};
use super::rows::{self, Known, select_positions};
use crate::{Held, Position, RequestRow, Timestamp};

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
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let known = latest(readers, limit, RequestPlace::default()).await?;
    Ok(known.into_iter().map(request).collect())
}

/// Returns a page of the latest before this place, and where the next one begins.
pub async fn before(
    readers: &Readers,
    place: RequestPlace,
) -> Result<(Vec<RequestRow>, Option<RequestPlace>), StoreError> {
    let known = latest(readers, PAGE, place).await?;
    let next = known.last().filter(|_| known.len() as i64 == PAGE).map(place_of);
    Ok((known.into_iter().map(request).collect(), next))
}

async fn latest(readers: &Readers, limit: i64, before: RequestPlace) -> Result<Vec<Known>, StoreError> {
    let rows = sql(select_positions!(
        "hold h",
        "WHERE h.at <= $1 AND (h.at < $1 OR h.id < $2) ORDER BY h.at DESC, h.id DESC LIMIT $3"
    ))
    .bind(before.at.unwrap_or(i64::MAX))
    .bind(if before.at.is_some() { before.hold } else { i64::MAX })
    .bind(limit)
    .all(readers)
    .await?;
    rows::positions(&mut readers.into(), &rows).await
}

fn place_of(known: &Known) -> RequestPlace {
    match &known.position {
        Position::Open(held) | Position::Ended(held, _) => {
            RequestPlace { at: Some(held.hold.at.millis()), hold: known.hold }
        }
        Position::Absent => unreachable!("a row is a request that is there"),
    }
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

/// How far a reading of many requests has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestPlace {
    at: Option<i64>,
    hold: i64,
}

/// Requests of one page: some hundred bytes each.
const PAGE: i64 = 2_000;

pub async fn between(
    readers: &Readers,
    since: Timestamp,
    until: Timestamp,
    after: RequestPlace,
) -> Result<(Vec<RequestRow>, Option<RequestPlace>), StoreError> {
    let at = after.at.unwrap_or(since.millis());
    let rows = sql(select_positions!(
        "hold h",
        "WHERE h.at >= $1 AND h.at < $2 AND (h.at > $1 OR h.id > $3) ORDER BY h.at, h.id LIMIT $4"
    ))
    .bind(at)
    .bind(until.millis())
    .bind(if after.at.is_some() { after.hold } else { 0 })
    .bind(PAGE)
    .all(readers)
    .await?;
    let known = rows::positions(&mut readers.into(), &rows).await?;
    let next = known.last().filter(|_| known.len() as i64 == PAGE).map(place_of);
    let ended = |row: &RequestRow| row.ending.is_some();
    Ok((known.into_iter().map(request).filter(ended).collect(), next))
}

fn request(known: Known) -> RequestRow {
    match known.position {
        Position::Open(held) => RequestRow { held, ending: None },
        Position::Ended(held, ending) => RequestRow { held, ending: Some(ending) },
        Position::Absent => unreachable!("a row is a request that is there"),
    }
}
