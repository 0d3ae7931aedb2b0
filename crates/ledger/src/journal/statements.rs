//! How are closed months kept? As they were told, and never again otherwise.

use super::codes::EARNED_ACCOUNT;
use super::database::{Readers, sql};
use super::store::{Store, StoreError};
use crate::statement::{Month, MonthStatement};
use crate::{LedgerError, Timestamp};

/// A month as it is to be kept.
#[derive(Clone, Debug)]
pub struct ClosedMonth {
    pub statement: MonthStatement,
    pub at: Timestamp,
    pub by: Option<String>,
}

impl Store {
    pub async fn close_month(&mut self, closed: &ClosedMonth) -> Result<(), StoreError> {
        let month = closed.statement.month;
        // What is earned is the ledger's as a whole, and so is the statement.
        let made =
            sql("INSERT INTO statement (account, period_start, period_end, closed_at, closed_by, body) \
             SELECT $1, $2, $3, $4, $5, $6 \
             WHERE NOT EXISTS (SELECT 1 FROM statement WHERE account = $1 AND period_start = $2)")
            .bind(EARNED_ACCOUNT)
            .bind(month.start().millis())
            .bind(month.end().millis())
            .bind(closed.at.millis())
            .bind(&closed.by)
            .bind(closed.statement.to_text())
            .execute(self.connection())
            .await?;
        match made {
            0 => Err(LedgerError::MonthClosed { month: month.to_string() }.into()),
            _ => Ok(()),
        }
    }
}

/// Returns the month as it was closed, if it was.
pub async fn closed(readers: &Readers, month: Month) -> Result<Option<MonthStatement>, StoreError> {
    let row = sql("SELECT body FROM statement WHERE account = $1 AND period_start = $2")
        .bind(EARNED_ACCOUNT)
        .bind(month.start().millis())
        .maybe(readers)
        .await?;
    row.map(|row| Ok(MonthStatement::from_text(&row.columns().text()?)?)).transpose()
}

/// Returns the months that are closed, oldest first.
pub async fn closed_months(readers: &Readers) -> Result<Vec<Month>, StoreError> {
    let rows = sql("SELECT period_start FROM statement WHERE account = $1 ORDER BY period_start")
        .bind(EARNED_ACCOUNT)
        .all(readers)
        .await?;
    rows.iter().map(|row| Ok(Month::of(Timestamp::from_millis(row.columns().integer()?)))).collect()
}
