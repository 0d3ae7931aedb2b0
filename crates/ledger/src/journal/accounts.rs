//! How are accounts kept, and found by their place in the tree?

use domain::Account;

use super::codes::Code;
use super::database::{Readers, Row, sql};
use super::rows::word;
use super::store::{Store, StoreError};
use crate::account::{ROOT, ancestors};
use crate::{AccountChange, AccountQuery, AccountRecord, LedgerError, NewAccount, Timestamp};

macro_rules! select_accounts {
    ($rest:literal) => {
        concat!(
            "SELECT a.name, a.kind, a.display_name, a.cost_centre, a.created_at, a.closed_at \
             FROM account a WHERE a.system = 0 AND ",
            $rest
        )
    };
}

impl Store {
    /// One that was only booked to until now is described; one that is described is not made twice.
    pub async fn create_account(&mut self, new: &NewAccount) -> Result<AccountRecord, StoreError> {
        let made = sql(
            "INSERT INTO account (name, kind, display_name, cost_centre, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (name, system) DO UPDATE SET kind = excluded.kind, display_name = excluded.display_name, \
             cost_centre = excluded.cost_centre, created_at = excluded.created_at WHERE account.kind IS NULL",
        )
        .bind(new.account.as_str())
        .bind(new.kind.code())
        .bind(&new.display_name)
        .bind(&new.cost_centre)
        .bind(new.at.millis())
        .execute(self.connection())
        .await?;
        if made == 0 {
            return Err(LedgerError::AccountExists { account: new.account.clone() }.into());
        }
        self.described(&new.account).await
    }

    pub async fn change_account(
        &mut self,
        account: &Account,
        change: &AccountChange,
    ) -> Result<AccountRecord, StoreError> {
        let changed = change.applied_to(&self.described(account).await?);
        sql(
            "UPDATE account SET kind = $2, display_name = $3, cost_centre = $4 WHERE name = $1 AND system = 0",
        )
        .bind(account.as_str())
        .bind(changed.kind.map(Code::code))
        .bind(&changed.display_name)
        .bind(&changed.cost_centre)
        .execute(self.connection())
        .await?;
        Ok(changed)
    }

    /// Closes it, or with no time opens it again; closing twice keeps the first time.
    pub async fn close_account(
        &mut self,
        account: &Account,
        closed_at: Option<Timestamp>,
    ) -> Result<AccountRecord, StoreError> {
        let record = self.described(account).await?;
        let closed_at = closed_at.map(|at| record.closed_at.unwrap_or(at));
        sql("UPDATE account SET closed_at = $2 WHERE name = $1 AND system = 0")
            .bind(account.as_str())
            .bind(closed_at.map(Timestamp::millis))
            .execute(self.connection())
            .await?;
        Ok(AccountRecord { closed_at, ..record })
    }

    async fn described(&mut self, account: &Account) -> Result<AccountRecord, StoreError> {
        let row =
            sql(select_accounts!("a.name = $1")).bind(account.as_str()).maybe(self.connection()).await?;
        let found = row.as_ref().map(record).transpose()?;
        found.ok_or_else(|| LedgerError::NoSuchAccount { account: account.clone() }.into())
    }
}

pub async fn by_name(readers: &Readers, account: &Account) -> Result<Option<AccountRecord>, StoreError> {
    let row = sql(select_accounts!("a.name = $1")).bind(account.as_str()).maybe(readers).await?;
    row.as_ref().map(record).transpose()
}

pub async fn list(readers: &Readers, query: &AccountQuery) -> Result<Vec<AccountRecord>, StoreError> {
    // Below `a` are the names from `a/` to before `a0`: `0` follows `/` in the order of bytes.
    let rows = sql(select_accounts!(
        "a.name <> $1 AND a.name > $2 AND ($3 = '' OR a.name = $3 OR (a.name > $3 || '/' AND a.name < $3 || '0')) \
         AND ($4 = 1 OR a.closed_at IS NULL) ORDER BY a.name LIMIT $5"
    ))
    .bind(ROOT)
    .bind(query.after.as_ref().map_or("", Account::as_str))
    .bind(query.within.as_ref().map_or("", Account::as_str))
    .bind(i64::from(query.with_closed))
    .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
    .all(readers)
    .await?;
    rows.iter().map(record).collect()
}

/// Returns the account itself, or the one above it, that is closed: the highest, if several are.
pub async fn closed(readers: &Readers, account: &Account) -> Result<Option<Account>, StoreError> {
    let mut names: Vec<Account> = ancestors(account).collect();
    names.push(account.clone());
    // A path has at most eight segments; names of before there were paths have one.
    names.resize(8, account.clone());
    let mut query = sql("SELECT a.name FROM account a WHERE a.system = 0 AND a.closed_at IS NOT NULL \
         AND a.name IN ($1, $2, $3, $4, $5, $6, $7, $8) ORDER BY length(a.name) LIMIT 1");
    for name in &names {
        query = query.bind(name.as_str().to_owned());
    }
    let row = query.maybe(readers).await?;
    row.map(|row| row.columns().text().map(Account::new)).transpose()
}

fn record(row: &Row) -> Result<AccountRecord, StoreError> {
    let mut columns = row.columns();
    Ok(AccountRecord {
        account: Account::new(columns.text()?),
        kind: columns.maybe_integer()?.map(word).transpose()?,
        display_name: columns.maybe_text()?,
        cost_centre: columns.maybe_text()?,
        // 0 stands for "nobody wrote it down".
        created_at: Some(columns.integer()?).filter(|at| *at != 0).map(Timestamp::from_millis),
        closed_at: columns.maybe_integer()?.map(Timestamp::from_millis),
    })
}
