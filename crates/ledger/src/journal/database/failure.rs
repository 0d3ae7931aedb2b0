//! What failed below the book, and whom does it concern?

use crate::LedgerError;

use super::Place;

#[derive(Debug)]
pub enum StoreError {
    Database(sqlx::Error),
    /// Something that is already said in the ledger's own words.
    Told(LedgerError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}
impl From<LedgerError> for StoreError {
    fn from(error: LedgerError) -> Self {
        Self::Told(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// This one statement was refused; others would be taken.
    Statement,
    Full,
    Damaged,
    Other,
}

impl StoreError {
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Told(LedgerError::Damaged(what.into()))
    }

    /// Whether the store refused this one statement, and would take others.
    pub fn blames_statement(&self) -> bool {
        self.trouble() == Trouble::Statement
    }

    pub fn tell(&self, doing: &'static str, place: &Place) -> LedgerError {
        match (self, self.trouble()) {
            (Self::Told(error), _) => error.clone(),
            (_, Trouble::Full) => LedgerError::DiskFull { ledger: place.to_string() },
            (Self::Database(error), Trouble::Damaged) => LedgerError::Damaged(error.to_string()),
            (Self::Database(error), _) => LedgerError::Unavailable { doing, why: error.to_string() },
        }
    }

    fn trouble(&self) -> Trouble {
        let Self::Database(sqlx::Error::Database(error)) = self else { return Trouble::Other };
        let Some(code) = error.code() else { return Trouble::Other };
        match error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
            Some(_) => sqlite_trouble(&code),
            None => postgres_trouble(&code),
        }
    }
}

/// SQLite's primary result codes: the lower eight bits; the upper ones tell variants of the same trouble apart.
fn sqlite_trouble(code: &str) -> Trouble {
    const ERROR: i64 = 1;
    const CORRUPT: i64 = 11;
    const FULL: i64 = 13;
    const TOO_BIG: i64 = 18;
    const CONSTRAINT: i64 = 19;
    const MISMATCH: i64 = 20;
    const NOT_A_DATABASE: i64 = 26;
    match code.parse::<i64>().map(|code| code & 0xff) {
        Ok(ERROR | TOO_BIG | CONSTRAINT | MISMATCH) => Trouble::Statement,
        Ok(FULL) => Trouble::Full,
        Ok(CORRUPT | NOT_A_DATABASE) => Trouble::Damaged,
        _ => Trouble::Other,
    }
}

/// Postgres' classes: data, constraints, serialization and deadlocks, syntax and names are of the statement.
fn postgres_trouble(code: &str) -> Trouble {
    match (code, code.get(..2)) {
        ("53100", _) => Trouble::Full,
        (_, Some("22" | "23" | "40" | "42")) => Trouble::Statement,
        ("XX001" | "XX002", _) => Trouble::Damaged,
        _ => Trouble::Other,
    }
}
