//! How are many rows written or asked for at once?

use std::fmt::Write;

use sqlx::AssertSqlSafe;

use super::{Connection, Readers, Row, Speaker, Sql, StoreError, Value, postgres, row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Text,
    Request,
}

/// A statement over a list of rows, which it knows as the table `v` with these columns. An `INSERT … SELECT … FROM v` with
/// `ON CONFLICT` needs a `WHERE true` before it, or SQLite takes the `ON` for a join's.
pub struct Bulk {
    pub columns: &'static [(&'static str, Kind)],
    pub sql: &'static str,
}

/// Rows of one SQLite statement, which has a place for each value: a few thousand places, far below its limit of 32,766.
/// Lists are cut into powers of two, so that there are few texts and each is prepared once.
const ROWS_MAX: usize = 128;

impl Bulk {
    /// Returns the rows of all statements, in no order.
    pub async fn run(
        &self,
        speaker: &mut Speaker<'_>,
        mut rows: Vec<Vec<Value>>,
    ) -> Result<Vec<Row>, StoreError> {
        debug_assert!(rows.iter().all(|row| row.len() == self.columns.len()));
        let mut answers = Vec::new();
        if rows.is_empty() {
            return Ok(answers);
        }
        let all = |rows| {
            let columns = self.columns.iter().map(|(_, kind)| *kind);
            postgres::query_columns(AssertSqlSafe(self.postgres_text()), columns, rows)
        };
        match speaker.again() {
            Speaker::Connection(Connection::Postgres(connection)) => {
                return Ok(row::postgres(all(rows).fetch_all(connection).await?));
            }
            Speaker::Readers(Readers::Postgres(pool)) => {
                return Ok(row::postgres(all(rows).fetch_all(pool).await?));
            }
            _ => {}
        }
        while !rows.is_empty() {
            let count = (1 << rows.len().ilog2()).min(ROWS_MAX);
            let values = rows.drain(..count).flatten().collect();
            let statement = Sql { text: AssertSqlSafe(self.sqlite_text(count)), values };
            answers.extend(statement.all(speaker.again()).await?);
        }
        Ok(answers)
    }

    /// `WITH v (a, b) AS (VALUES (?, ?), (?, ?)) …`: without numbers, because SQLite looks a numbered place up in a list, and a
    /// thousand lookups in a list of a thousand took a third of a batch's time.
    fn sqlite_text(&self, rows: usize) -> String {
        let row = format!("(?{})", ", ?".repeat(self.columns.len() - 1));
        let more = format!(", {row}").repeat(rows - 1);
        format!("{}VALUES {row}{more}) {}", self.opening(), self.sql)
    }

    /// `WITH v (a, b) AS (SELECT * FROM UNNEST($1::bigint[], $2::text[])) …`
    fn postgres_text(&self) -> String {
        let mut text = self.opening();
        text.push_str("SELECT * FROM UNNEST(");
        for (place, (_, kind)) in (1..).zip(self.columns) {
            let comma = if place == 1 { "" } else { ", " };
            let _ = write!(text, "{comma}${place}::{}[]", postgres::type_name(*kind));
        }
        text.push_str(")) ");
        text + self.sql
    }

    fn opening(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        format!("WITH v ({}) AS (", names.join(", "))
    }
}
