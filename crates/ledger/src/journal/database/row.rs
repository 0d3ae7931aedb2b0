//! How are a row's columns read, whichever database it comes from?

use domain::RequestId;
use rusqlite::types::Value as Cell;
use sqlx::postgres::PgRow;
use sqlx::{Column, Row as _, TypeInfo};

use super::{StoreError, postgres};

pub enum Row {
    Sqlite(Vec<Cell>),
    Postgres(PgRow),
}

/// Reads columns from left to right, so that the order of the query is the order of the code.
pub struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl Row {
    pub fn columns(&self) -> Columns<'_> {
        Columns { row: self, next: 0 }
    }
}

/// Reads the next column: from a cell of SQLite's, by the patterns, or as Postgres' driver does.
macro_rules! column {
    ($columns:expr, $($cell:pat => $value:expr),+) => {{
        let place = $columns.next;
        $columns.next += 1;
        match $columns.row {
            Row::Sqlite(cells) => match cells.get(place) {
                $(Some($cell) => $value,)+
                other => return Err(StoreError::damaged(format!("column {place} holds {other:?}"))),
            },
            Row::Postgres(row) => row.try_get(place)?,
        }
    }};
}

impl Columns<'_> {
    pub fn integer(&mut self) -> Result<i64, StoreError> {
        self.maybe_integer()?.ok_or_else(|| StoreError::damaged("a number that must be there is not"))
    }
    pub fn maybe_integer(&mut self) -> Result<Option<i64>, StoreError> {
        // In Postgres a number that a statement itself says, such as a 0 for nothing, is a small one.
        if let Row::Postgres(row) = self.row
            && row.column(self.next).type_info().name() == "INT4"
        {
            self.next += 1;
            return Ok(row.try_get::<Option<i32>, _>(self.next - 1)?.map(i64::from));
        }
        Ok(column!(self, Cell::Integer(value) => Some(*value), Cell::Null => None))
    }
    pub fn text(&mut self) -> Result<String, StoreError> {
        Ok(column!(self, Cell::Text(text) => text.clone()))
    }
    pub fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        Ok(column!(self, Cell::Text(text) => Some(text.clone()), Cell::Null => None))
    }
    pub fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        Ok(column!(self, Cell::Blob(bytes) => bytes.clone()))
    }
    /// What a comparison gives: a number in one database, a truth in the other.
    pub fn truth(&mut self) -> Result<bool, StoreError> {
        Ok(column!(self, Cell::Integer(value) => *value != 0))
    }
    pub fn count(&mut self) -> Result<u64, StoreError> {
        let value = self.integer()?;
        u64::try_from(value).map_err(|_| StoreError::damaged(format!("a count is {value}")))
    }
    pub fn maybe_count(&mut self) -> Result<Option<u64>, StoreError> {
        let value = self.maybe_integer()?;
        let count = value.map(u64::try_from).transpose();
        count.map_err(|_| StoreError::damaged(format!("a count is {value:?}")))
    }

    /// A request's stored name.
    pub fn request(&mut self) -> Result<RequestId, StoreError> {
        if let Row::Sqlite(cells) = self.row {
            let is_bytes = matches!(cells.get(self.next), Some(Cell::Blob(_)));
            return if is_bytes { numbered(&self.bytes()?) } else { Ok(RequestId::new(self.text()?)) };
        }
        match postgres::stored_request(&self.bytes()?) {
            Some((postgres::NUMBER, bytes)) => numbered(bytes),
            Some((_, bytes)) => {
                let name = std::str::from_utf8(bytes);
                name.map(RequestId::from).map_err(|_| StoreError::damaged("a request's name is no text"))
            }
            None => Err(StoreError::damaged("a request has no name")),
        }
    }
}

fn numbered(bytes: &[u8]) -> Result<RequestId, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::damaged("a request's number is not 16 bytes"))?;
    Ok(RequestId::from_random(u128::from_be_bytes(bytes)))
}

pub fn postgres(rows: Vec<PgRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Postgres).collect()
}
