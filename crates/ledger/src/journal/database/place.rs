//! Where is a ledger?

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::LedgerError;

#[derive(Clone)]
pub enum Place {
    File(PathBuf),
    Server(Box<PgConnectOptions>),
}

/// Reads `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`.
impl FromStr for Place {
    type Err = LedgerError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.is_empty() {
                return Ok(Self::File(path.into()));
            }
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|error| bad(error.to_string()))?;
            return Ok(Self::Server(Box::new(options.application_name("baseload"))));
        }
        Err(bad("it is neither".into()))
    }
}

/// The URL itself is not said: it may hold a password.
fn bad(why: String) -> LedgerError {
    LedgerError::BadUrl { why }
}

/// Its options would say the password.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where it is, for people: a path, or a server without its password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(options) => {
                let database = options.get_database().unwrap_or_else(|| options.get_username());
                write!(f, "postgres://{}:{}/{database}", options.get_host(), options.get_port())
            }
        }
    }
}
