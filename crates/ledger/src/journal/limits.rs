//! How are limits set, ended and listed, and how do they stand?

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::Account;

use super::database::{Bulk, Columns, Connection, Kind, Readers, Row, Speaker, StoreError, Value, sql};
use super::store::Store;
use crate::account;
use crate::budget::{Amount, LimitError, Limits, Measure, NewLimit, Share, WindowKey};
use crate::{Alert, LedgerError, Limit, LimitId, Scope, Standing, Timestamp};

/// The columns that [`limit`] reads, and which rows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, scope, measure, amount, span, action, thresholds, created_at, ended_at \
             FROM spending_limit ",
            $rest
        )
    };
}

/// Standings told at once: a limit that tells end users apart has as many as there are end users.
pub const STANDINGS_MAX: i64 = 1_000;

impl Store {
    /// Sets a limit, or changes the one of its name; says so to all servers.
    pub async fn set_limit(&mut self, new: &NewLimit, is_declared: bool) -> Result<Limit, StoreError> {
        new.check().map_err(LedgerError::from)?;
        let name = new.name();
        let found =
            sql(select!("WHERE name = $1 AND ended_at IS NULL")).bind(&name).maybe(self.connection()).await?;
        let id = match found.as_ref().map(limit).transpose()? {
            Some(limit) => self.change_limit(&limit, new, is_declared).await?,
            None => self.add_limit(name, new, is_declared).await?,
        };
        self.announce_change().await?;
        limit(&sql(select!("WHERE id = $1")).bind(id).one(self.connection()).await?)
    }

    async fn change_limit(
        &mut self,
        limit: &Limit,
        new: &NewLimit,
        is_declared: bool,
    ) -> Result<i64, StoreError> {
        let different = |what| Err(LimitError::Different { name: limit.name.clone(), what });
        let same = match () {
            () if limit.scope != new.scope => different("scope"),
            () if limit.measure != new.measure => different("measure"),
            () if limit.window != new.window => different("window"),
            () => Ok(limit.id.0),
        };
        let id = same.map_err(LedgerError::from)?;
        sql("UPDATE spending_limit SET amount = $2, action = $3, thresholds = $4, declared = $5 WHERE id = $1")
            .bind(id)
            .bind(new.amount.0)
            .bind(new.action.to_string())
            .bind(percentages(&new.thresholds))
            .bind(i64::from(is_declared))
            .execute(self.connection())
            .await?;
        Ok(id)
    }

    async fn add_limit(
        &mut self,
        name: String,
        new: &NewLimit,
        is_declared: bool,
    ) -> Result<i64, StoreError> {
        let count = sql("SELECT count(*) FROM spending_limit WHERE ended_at IS NULL");
        let limits = count.integer(self.connection()).await?.unsigned_abs() as usize;
        if limits >= Limits::MAX {
            return Err(LedgerError::from(LimitError::TooMany { limits }).into());
        }
        sql("INSERT INTO spending_limit (name, scope, measure, amount, span, action, thresholds, declared, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id")
            .bind(name)
            .bind(new.scope.to_string())
            .bind(new.measure.to_string())
            .bind(new.amount.0)
            .bind(new.window.to_string())
            .bind(new.action.to_string())
            .bind(percentages(&new.thresholds))
            .bind(i64::from(is_declared))
            .bind(new.at.millis())
            .integer(self.connection())
            .await
    }

    /// Ends the limit in force of this name; what is held in it goes on being counted and refuses nothing.
    pub async fn end_limit(&mut self, name: &str, at: Timestamp) -> Result<Limit, StoreError> {
        let ended =
            sql("UPDATE spending_limit SET ended_at = $2 WHERE name = $1 AND ended_at IS NULL RETURNING id");
        let Some(row) = ended.bind(name).bind(at.millis()).maybe(self.connection()).await? else {
            return Err(LedgerError::from(LimitError::NoSuchLimit { name: name.to_owned() }).into());
        };
        let id = row.columns().integer()?;
        self.announce_change().await?;
        limit(&sql(select!("WHERE id = $1")).bind(id).one(self.connection()).await?)
    }

    /// Makes the limits of configuration files these, and no others.
    pub async fn declare_limits(
        &mut self,
        declared: &[NewLimit],
        at: Timestamp,
    ) -> Result<Vec<Limit>, StoreError> {
        let rows = sql(select!("WHERE declared = 1 AND ended_at IS NULL")).all(self.connection()).await?;
        let names: Vec<String> = declared.iter().map(NewLimit::name).collect();
        for old in rows.iter().map(limit).collect::<Result<Vec<_>, _>>()? {
            if !names.contains(&old.name) {
                self.end_limit(&old.name, at).await?;
            }
        }
        let mut limits = Vec::new();
        for new in declared {
            limits.push(self.set_limit(new, true).await?);
        }
        Ok(limits)
    }

    /// Returns alerts that are to be told now, and puts their next try off, the longer the more often they were tried: so
    /// that no two servers tell one at a time, and one that dies over it is followed by another.
    pub async fn take_alerts(&mut self, at: Timestamp, count_max: i64) -> Result<Vec<Alert>, StoreError> {
        let rows = sql(
            "UPDATE alert SET tries = tries + 1, next_try_at = $1 + CASE \
               WHEN tries < 9 THEN CAST(5000 AS BIGINT) * (1 << CAST(tries AS INTEGER)) ELSE 3600000 END \
             WHERE delivered_at IS NULL AND next_try_at <= $1 AND tries < $3 \
               AND (spending_limit, subject, window_start, threshold) IN \
                 (SELECT spending_limit, subject, window_start, threshold FROM alert \
                  WHERE delivered_at IS NULL AND next_try_at <= $1 AND tries < $3 ORDER BY next_try_at LIMIT $2) \
             RETURNING spending_limit, subject, window_start, threshold, at, spent, tries",
        )
        .bind(at.millis())
        .bind(count_max)
        .bind(ALERT_TRIES_MAX)
        .all(self.connection())
        .await?;
        let mut alerts = Vec::new();
        for row in &rows {
            let mut columns = row.columns();
            let id = columns.integer()?;
            let limit = limit(&sql(select!("WHERE id = $1")).bind(id).one(self.connection()).await?)?;
            alerts.push(Alert {
                limit: Arc::new(limit),
                subject: columns.text()?,
                window_start: Timestamp::from_millis(columns.integer()?),
                threshold: u8::try_from(columns.integer()?).unwrap_or(u8::MAX),
                at: Timestamp::from_millis(columns.integer()?),
                spent: Amount(columns.integer()?),
                tries: columns.integer()?,
            });
        }
        Ok(alerts)
    }

    pub async fn alert_delivered(&mut self, alert: &Alert, at: Timestamp) -> Result<(), StoreError> {
        sql("UPDATE alert SET delivered_at = $5 WHERE spending_limit = $1 AND subject = $2 AND window_start = $3 \
             AND threshold = $4 AND delivered_at IS NULL")
            .bind(alert.limit.id.0)
            .bind(&alert.subject)
            .bind(alert.window_start.millis())
            .bind(i64::from(alert.threshold))
            .bind(at.millis())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

/// An alert that nobody has taken after so many tries, a day and a half of them, is given up and stays listed as undelivered.
const ALERT_TRIES_MAX: i64 = 45;

/// Returns the limits in force.
pub async fn in_force(connection: &mut Connection) -> Result<Vec<Limit>, StoreError> {
    let rows = sql(select!("WHERE ended_at IS NULL ORDER BY id")).all(connection).await?;
    rows.iter().map(limit).collect()
}

/// Returns the limits in force on `within` and everything below it, or all of them.
pub async fn list(readers: &Readers, within: Option<&Account>) -> Result<Vec<Limit>, StoreError> {
    let rows = sql(select!("WHERE ended_at IS NULL ORDER BY id")).all(readers).await?;
    let mut limits = rows.iter().map(limit).collect::<Result<Vec<_>, _>>()?;
    limits.retain(|limit| within.is_none_or(|top| account::is_within(&payer(&limit.scope), top)));
    Ok(limits)
}

/// Returns how limits on `within` and below stand in the windows of this moment.
pub async fn standings(
    readers: &Readers,
    within: Option<&Account>,
    at: Timestamp,
) -> Result<Vec<Standing>, StoreError> {
    static SUMS: Bulk = Bulk {
        columns: &[
            ("spending_limit", Kind::Integer),
            ("first_start", Kind::Integer),
            ("window_start", Kind::Integer),
        ],
        sql: "SELECT v.spending_limit, e.subject, v.window_start, e.spent, e.held FROM v JOIN escrow e \
              ON e.spending_limit = v.spending_limit AND e.window_start BETWEEN v.first_start AND v.window_start",
    };
    let limits: BTreeMap<LimitId, Arc<Limit>> =
        list(readers, within).await?.into_iter().map(|limit| (limit.id, Arc::new(limit))).collect();
    let rows = limits.values().map(|limit| {
        let start = limit.window.span(at).start;
        let since = limit.window.counted_since(start);
        vec![Value::from(limit.id.0), since.millis().into(), start.millis().into()]
    });
    let rows = SUMS.run(&mut Speaker::Readers(readers), rows.collect()).await?;
    let mut sums: BTreeMap<WindowKey, Share> = BTreeMap::new();
    for limit in limits.values().filter(|limit| !matches!(limit.scope, Scope::Each { .. })) {
        let start = limit.window.span(at).start;
        sums.insert(WindowKey { limit: limit.id, subject: "".into(), start }, Share::default());
    }
    for row in &rows {
        let mut columns = row.columns();
        let key = WindowKey {
            limit: LimitId(columns.integer()?),
            subject: columns.text()?.into(),
            start: Timestamp::from_millis(columns.integer()?),
        };
        let sum = sums.entry(key).or_default();
        sum.spent = sum.spent.saturating_add(columns.integer()?);
        sum.held = sum.held.saturating_add(columns.integer()?);
    }
    let standing = |(key, share): (WindowKey, Share)| {
        let limit = limits[&key.limit].clone();
        let remaining = limit.amount.0.saturating_sub(share.spent).saturating_sub(share.held).max(0);
        Standing {
            subject: key.subject.to_string(),
            window_start: key.start,
            resets_at: limit.window.span(key.start).end,
            spent: Amount(share.spent),
            held: Amount(share.held),
            remaining: Amount(remaining),
            limit,
        }
    };
    Ok(sums.into_iter().take(STANDINGS_MAX as usize).map(standing).collect())
}

/// Reads one row of [`select!`].
fn limit(row: &Row) -> Result<Limit, StoreError> {
    let mut columns = row.columns();
    Ok(Limit {
        id: LimitId(columns.integer()?),
        name: columns.text()?,
        scope: read(&mut columns)?,
        measure: read::<Measure>(&mut columns)?,
        amount: Amount(columns.integer()?),
        window: read(&mut columns)?,
        action: read(&mut columns)?,
        thresholds: {
            let text = columns.text()?;
            serde_json::from_str(&text)
                .map_err(|error| StoreError::damaged(format!("thresholds are {text:?}: {error}")))?
        },
        created_at: Timestamp::from_millis(columns.integer()?),
        ended_at: columns.maybe_integer()?.map(Timestamp::from_millis),
    })
}

/// A word of a limit that is not understood may be a newer version's. Going on without that limit would be wrong money.
fn read<T: std::str::FromStr<Err: std::fmt::Display>>(columns: &mut Columns<'_>) -> Result<T, StoreError> {
    let text = columns.text()?;
    text.parse().map_err(|error| StoreError::damaged(format!("a limit says {text:?}: {error}")))
}

fn percentages(thresholds: &[u8]) -> String {
    serde_json::to_string(thresholds).expect("numbers can be written")
}

/// Who pays for what a scope covers: a task's organisation is the first part of its path.
fn payer(scope: &Scope) -> Account {
    match scope {
        Scope::Account(owner) | Scope::Each { owner, .. } => owner.clone(),
        Scope::Task(task) => Account::new(task.top(1).as_str()),
    }
}
