//! How do requests leave the book when they have become old?
//!
//! Only here, only ended ones, and only below a mark that is raised first: the databases refuse to delete anything above it.
//! Their sums stay in the rollups, which were written with their ends.

use super::database::{Bulk, Kind, Speaker, Value, sql};
use super::rollup;
use super::store::{Store, StoreError};
use crate::Timestamp;

/// Requests dropped in one transaction: few enough to let bookings in between.
const DROPPED_MAX: i64 = 1_000;

impl Store {
    /// Drops some of the ended requests whose holds began before this instant's hour; returns how many.
    pub async fn drop_old(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let before = rollup::hour_start(rollup::hour(before)).millis();
        let connection = self.connection();
        sql("UPDATE retention SET dropped_before = $1 WHERE dropped_before < $1")
            .bind(before)
            .execute(&mut *connection)
            .await?;
        let rows = sql(
            "SELECT h.id FROM hold h JOIN ending x ON x.hold = h.id WHERE h.at < $1 ORDER BY h.at, h.id LIMIT $2",
        )
        .bind(before)
        .bind(DROPPED_MAX)
        .all(&mut *connection)
        .await?;
        let mut holds: Vec<Vec<Value>> = Vec::with_capacity(rows.len());
        for row in &rows {
            holds.push(vec![row.columns().integer()?.into()]);
        }
        let mut speaker = Speaker::Connection(connection);
        for drop in [&DROP_ENTRIES, &DROP_ENDINGS, &DROP_HOLDS] {
            drop.run(&mut speaker, holds.clone()).await?;
        }
        Ok(rows.len() as u64)
    }
}

const HOLDS: &[(&str, Kind)] = &[("hold", Kind::Integer)];
static DROP_ENTRIES: Bulk =
    Bulk { columns: HOLDS, sql: "DELETE FROM entry WHERE hold IN (SELECT hold FROM v)" };
static DROP_ENDINGS: Bulk =
    Bulk { columns: HOLDS, sql: "DELETE FROM ending WHERE hold IN (SELECT hold FROM v)" };
static DROP_HOLDS: Bulk = Bulk { columns: HOLDS, sql: "DELETE FROM hold WHERE id IN (SELECT hold FROM v)" };
