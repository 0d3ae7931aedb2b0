//! What failed below the book, and whom does it concern?

use rusqlite::ffi;

use crate::LedgerError;

use super::Place;

#[derive(Debug)]
pub enum StoreError {
    Server(sqlx::Error),
    File(rusqlite::Error),
    /// Something that is already said in the ledger's own words.
    Told(LedgerError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Server(error)
    }
}
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error)
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
        let why = match self {
            Self::Told(error) => return error.clone(),
            Self::Server(error) => error.to_string(),
            Self::File(error) => error.to_string(),
        };
        match self.trouble() {
            Trouble::Full => LedgerError::DiskFull { ledger: place.to_string() },
            Trouble::Damaged => LedgerError::Damaged(why),
            Trouble::Statement | Trouble::Other => LedgerError::Unavailable { doing, why },
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            Self::File(error) => error.sqlite_error().map_or(Trouble::Other, sqlite_trouble),
            Self::Server(sqlx::Error::Database(error)) => {
                error.code().map_or(Trouble::Other, |code| postgres_trouble(&code))
            }
            Self::Server(_) | Self::Told(_) => Trouble::Other,
        }
    }
}

/// By SQLite's primary result codes: the lower eight bits; the upper ones tell variants of the same trouble apart.
fn sqlite_trouble(error: &ffi::Error) -> Trouble {
    match error.extended_code & 0xff {
        ffi::SQLITE_ERROR | ffi::SQLITE_TOOBIG | ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH => {
            Trouble::Statement
        }
        ffi::SQLITE_FULL => Trouble::Full,
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Trouble::Damaged,
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
