//! How are many rows written or asked for at once?

use std::fmt::Write;

use super::{Connection, Readers, Row, Speaker, StoreError, Value, postgres, row, sqlite};

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

impl Bulk {
    /// Returns the rows of all, in no order.
    pub async fn run(
        &self,
        speaker: &mut Speaker<'_>,
        rows: Vec<Vec<Value>>,
    ) -> Result<Vec<Row>, StoreError> {
        debug_assert!(rows.iter().all(|row| row.len() == self.columns.len()));
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let each = |rows: Vec<Vec<Value>>| {
            let text = self.sqlite_text();
            move |file: &_| sqlite::each(file, &text, &rows)
        };
        let at_once = |rows| {
            let columns = self.columns.iter().map(|(_, kind)| *kind);
            postgres::query_columns(self.postgres_text(), columns, rows)
        };
        match speaker.again() {
            Speaker::Connection(Connection::Sqlite(link)) => link.run(each(rows)).await,
            Speaker::Readers(Readers::Sqlite(pool)) => pool.run(each(rows)).await,
            Speaker::Connection(Connection::Postgres(connection)) => {
                Ok(row::postgres(at_once(rows).fetch_all(connection).await?))
            }
            Speaker::Readers(Readers::Postgres(pool)) => {
                Ok(row::postgres(at_once(rows).fetch_all(pool).await?))
            }
        }
    }

    /// `WITH v (a, b) AS (VALUES (?, ?)) …`, said once for each row: SQLite is no round trip away, and a text that never changes
    /// is prepared once.
    fn sqlite_text(&self) -> String {
        let places = ", ?".repeat(self.columns.len() - 1);
        format!("{}VALUES (?{places})) {}", self.opening(), self.sql)
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
