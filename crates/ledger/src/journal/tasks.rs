//! How are tasks kept, and summed up from their requests?

use domain::{Account, Money, Usage};

use super::codes::Code;
use super::database::{Columns, Readers, Row, Sql, StoreError, sql};
use super::rows::word;
use super::store::Store;
use crate::account::is_within;
use crate::budget::{Action, Amount, LimitError, Measure, NewLimit, Scope, Window};
use crate::{
    LedgerError, NewTask, TaskChange, TaskDeed, TaskPath, TaskQuery, TaskRecord, TaskRow, TaskState,
    TaskSums, Timestamp,
};

impl Code for TaskState {
    const TABLE: &'static [(Self, i64)] =
        &[(Self::Running, 1), (Self::HandingBack, 2), (Self::Stopped, 3), (Self::Approved, 4)];
}

macro_rules! select_tasks {
    ($rest:literal) => {
        concat!(
            "SELECT t.path, a.name, t.state, t.reason, t.created_at, t.state_at \
             FROM task t LEFT JOIN account a ON a.id = t.account WHERE ",
            $rest
        )
    };
}

/// What a task's own requests came to, without what they saved. Money is summed in halves: one sum of 64 bits would not fit
/// above 9.2 million USD.
macro_rules! sums {
    () => {
        "count(h.id), count(h.id) - count(x.hold), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 AND x.cost IS NULL AND x.input_uncached + x.cache_read \
             + x.cache_write_5m + x.cache_write_1h + x.output > 0 THEN 1 ELSE 0 END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.input_uncached END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.cache_read END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.cache_write_5m END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.cache_write_1h END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.output END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.compute_us END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.reasoning END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.cost >> 32 END), 0) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN x.how <> 4 THEN x.cost & 4294967295 END), 0) AS BIGINT), \
         CAST(coalesce(sum(x.at - h.at), 0) AS BIGINT), min(h.at), max(coalesce(x.at, h.at))"
    };
}

impl Store {
    /// Opens what is not there yet of a task and all that it is inside of; returns them, the outermost first.
    pub async fn open_task(&mut self, new: &NewTask) -> Result<Vec<TaskRecord>, StoreError> {
        let mut chain = Vec::new();
        for path in new.path.ancestors().skip(1) {
            let record = match self.task(&path).await? {
                Some(record) => record,
                None => {
                    if path == new.path {
                        // Before the task itself: one that is there has its limits.
                        for limit in &new.limits {
                            self.set_limit(limit, false).await?;
                        }
                    }
                    self.add_task(&path, new).await?;
                    self.task(&path).await?.expect("a task that was just opened is there")
                }
            };
            if chain.is_empty() && !is_within(&new.account, &record.account) {
                return Err(LedgerError::TaskNotYours { path: new.path.clone() }.into());
            }
            chain.push(record);
        }
        Ok(chain)
    }

    /// Raises every budget that the task has on these measures, its own and those around it: one that is raised alone would
    /// let nothing through.
    async fn raise_task(
        &mut self,
        path: &TaskPath,
        more: &[(Measure, i64)],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut raised = Vec::new();
        for (measure, more) in more {
            let before = raised.len();
            for task in path.ancestors() {
                let limit = total(task, *measure, at);
                let found = sql("SELECT amount FROM spending_limit WHERE name = $1 AND ended_at IS NULL")
                    .bind(limit.name());
                if let Some(row) = found.maybe(self.connection()).await? {
                    let amount = Amount(row.columns().integer()?.saturating_add(*more));
                    raised.push(NewLimit { amount, ..limit });
                }
            }
            if raised.len() == before {
                let name = total(path.clone(), *measure, at).name();
                return Err(LedgerError::from(LimitError::NoSuchLimit { name }).into());
            }
        }
        for limit in &raised {
            self.set_limit(limit, false).await?;
        }
        Ok(())
    }

    async fn add_task(&mut self, path: &TaskPath, new: &NewTask) -> Result<(), StoreError> {
        let root = self.task_id(&path.top(2)).await?;
        sql("INSERT INTO account (name, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(new.account.as_str())
            .bind(new.at.millis())
            .execute(self.connection())
            .await?;
        sql("INSERT INTO task (path, root, account, state, created_at, state_at) \
             SELECT $1, $2, a.id, $4, $5, $5 FROM account a WHERE a.name = $3 AND a.system = 0 ON CONFLICT (path) DO NOTHING")
            .bind(path.as_str())
            .bind(root)
            .bind(new.account.as_str())
            .bind(TaskState::Running.code())
            .bind(new.at.millis())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Returns the tasks that the deed changed: none where it came too late.
    pub async fn change_task(&mut self, change: &TaskChange) -> Result<Vec<TaskRecord>, StoreError> {
        let TaskChange { path, deed, reason, at } = change;
        let task = self.task(path).await?.ok_or_else(|| LedgerError::NoSuchTask { path: path.clone() })?;
        let Some(state) = task.state.after(deed) else { return Ok(Vec::new()) };
        let mut paths = vec![path.clone()];
        if let TaskDeed::Approve(more) = deed {
            self.raise_task(path, more, *at).await?;
            let inside = within(self.task_id(&path.top(2)).await?, path);
            let rows = inside.all(self.connection()).await?;
            let waiting = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
            paths.extend(waiting.into_iter().filter(|task| !task.state.is_going()).map(|task| task.path));
        }
        let mut changed = Vec::new();
        for path in paths {
            sql("UPDATE task SET state = $2, reason = $3, state_at = $4 WHERE path = $1")
                .bind(path.as_str())
                .bind(state.code())
                .bind(reason)
                .bind(at.millis())
                .execute(self.connection())
                .await?;
            changed.extend(self.task(&path).await?);
        }
        Ok(changed)
    }

    async fn task(&mut self, path: &TaskPath) -> Result<Option<TaskRecord>, StoreError> {
        let row = sql(select_tasks!("t.path = $1")).bind(path.as_str()).maybe(self.connection()).await?;
        row.as_ref().map(record).transpose()
    }

    async fn task_id(&mut self, path: &TaskPath) -> Result<Option<i64>, StoreError> {
        let row =
            sql("SELECT id FROM task WHERE path = $1").bind(path.as_str()).maybe(self.connection()).await?;
        row.map(|row| row.columns().integer()).transpose()
    }
}

/// Returns those tasks that are there of a path's, the outermost first.
pub async fn chain(readers: &Readers, path: &TaskPath) -> Result<Vec<TaskRecord>, StoreError> {
    let mut paths: Vec<TaskPath> = path.ancestors().collect();
    paths.resize(TaskPath::DEPTH_MAX, path.clone());
    let mut query = sql(select_tasks!(
        "t.path IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ORDER BY length(t.path)"
    ));
    for path in &paths {
        query = query.bind(path.as_str());
    }
    query.all(readers).await?.iter().map(record).collect()
}

/// Returns a task and all inside of it, each with its own requests' sums.
pub async fn tree(readers: &Readers, top: &TaskPath) -> Result<Vec<TaskRow>, StoreError> {
    const SQL: &str = concat!(
        "SELECT t.path, a.name, t.state, t.reason, t.created_at, t.state_at, ",
        sums!(),
        " FROM task t LEFT JOIN account a ON a.id = t.account \
         LEFT JOIN hold h ON h.task = t.id LEFT JOIN ending x ON x.hold = h.id \
         WHERE (t.path = $2 OR t.root = (SELECT id FROM task WHERE path = $1)) \
         AND (t.path = $2 OR substr(t.path, 1, length($2) + 1) = $2 || '/') \
         GROUP BY t.id, t.path, a.name, t.state, t.reason, t.created_at, t.state_at ORDER BY t.path"
    );
    let rows = sql(SQL).bind(top.root()).bind(top.as_str()).all(readers).await?;
    rows.iter().map(summed).collect()
}

/// Returns the latest runs, the newest first, each with the sums of its whole tree.
pub async fn list(readers: &Readers, query: &TaskQuery) -> Result<Vec<TaskRow>, StoreError> {
    const SQL: &str = concat!(
        "SELECT t.path, a.name, t.state, t.reason, t.created_at, t.state_at, ",
        sums!(),
        " FROM (SELECT r.* FROM task r LEFT JOIN account o ON o.id = r.account WHERE r.root IS NULL \
             AND ($1 = '' OR o.name = $1 OR substr(o.name, 1, length($1) + 1) = $1 || '/') \
             AND ($2 = 0 OR r.state = $2 OR EXISTS (SELECT 1 FROM task i WHERE i.root = r.id AND i.state = $2)) \
             ORDER BY r.id DESC LIMIT $3) t \
         LEFT JOIN account a ON a.id = t.account \
         LEFT JOIN task n ON n.id = t.id OR n.root = t.id \
         LEFT JOIN hold h ON h.task = n.id LEFT JOIN ending x ON x.hold = h.id \
         GROUP BY t.id, t.path, a.name, t.state, t.reason, t.created_at, t.state_at ORDER BY t.id DESC"
    );
    let rows = sql(SQL)
        .bind(query.within.as_ref().map_or("", Account::as_str))
        .bind(query.state.map_or(0, Code::code))
        .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
        .all(readers)
        .await?;
    rows.iter().map(summed).collect()
}

/// Returns the budget of a task on this measure, as the door sets it.
fn total(task: TaskPath, measure: Measure, at: Timestamp) -> NewLimit {
    NewLimit {
        name: None,
        scope: Scope::Task(task),
        measure,
        amount: Amount(0),
        window: Window::Total,
        action: Action::Refuse,
        thresholds: Vec::new(),
        at,
    }
}

fn within(run: Option<i64>, path: &TaskPath) -> Sql {
    sql(select_tasks!("t.root = $1 AND substr(t.path, 1, length($2) + 1) = $2 || '/'"))
        .bind(run)
        .bind(path.as_str())
}

fn record(row: &Row) -> Result<TaskRecord, StoreError> {
    read_record(&mut row.columns())
}

fn summed(row: &Row) -> Result<TaskRow, StoreError> {
    let mut columns = row.columns();
    let record = read_record(&mut columns)?;
    let (calls, open_calls, unpriced_calls) = (columns.count()?, columns.count()?, columns.count()?);
    let usage = Usage {
        input_uncached: columns.count()?,
        cache_read: columns.count()?,
        cache_write_5m: columns.count()?,
        cache_write_1h: columns.count()?,
        output: columns.count()?,
        compute_us: columns.count()?,
        reasoning: columns.count()?,
    };
    let (upper, lower) = (columns.integer()?, columns.integer()?);
    let cost = Money::from_pico((i128::from(upper) << 32) + i128::from(lower));
    let busy_ms = columns.integer()?.max(0).unsigned_abs();
    let first_at = columns.maybe_integer()?.map(Timestamp::from_millis);
    let last_at = columns.maybe_integer()?.map(Timestamp::from_millis);
    let own = TaskSums { calls, open_calls, unpriced_calls, usage, cost, busy_ms, first_at, last_at };
    Ok(TaskRow { record, own })
}

fn read_record(columns: &mut Columns<'_>) -> Result<TaskRecord, StoreError> {
    let path = columns.text()?;
    let path = TaskPath::parse(&path).map_err(|error| StoreError::damaged(error.to_string()))?;
    Ok(TaskRecord {
        path,
        account: Account::new(columns.maybe_text()?.unwrap_or_default()),
        state: word(columns.integer()?)?,
        reason: columns.maybe_text()?,
        created_at: Timestamp::from_millis(columns.integer()?),
        state_at: Timestamp::from_millis(columns.integer()?),
    })
}
