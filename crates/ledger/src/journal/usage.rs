//! What do the rollups say? Whole hours from their sums, and the ragged ends of a range from the requests themselves.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{Account, Money, Usage};

use super::codes;
use super::database::{Bulk, Columns, Connection, Kind, Readers, Speaker, StoreError, sql, sql_of};
use super::rollup::{hour, hour_start};
use super::rows::word;
use crate::account::{ancestors, is_within};
use crate::statement::{ChargeRow, Month, UsageSums, Used};
use crate::{AccountKind, Circumstances, Dimension, PriceId, RequestEnd, Timestamp, UsageQuery, UsageRow};

/// Returns the sums of each group that has requests, in the order of the groups' names.
pub async fn usage(readers: &Readers, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    let mut snapshot = readers.snapshot().await?;
    let keys = Keys::of(query);
    let range = Range::of(query.since, query.until, dropped_before(&mut snapshot).await?);
    let mut facts = Vec::new();
    for part in range.parts() {
        facts.extend(part.read(&mut snapshot, &keys).await?);
    }
    let names = Names::load(&mut snapshot, &keys, &facts).await?;
    snapshot.close().await;
    let rows = facts.iter().filter(|fact| names.is_within(fact, query.within.as_ref())).map(|fact| {
        let group = query.by.iter().map(|by| names.name(fact, *by)).collect::<Result<_, _>>()?;
        Ok(UsageRow { names: group, sums: fact.sums()? })
    });
    let rows: Vec<UsageRow> = rows.collect::<Result<_, StoreError>>()?;
    Ok(UsageRow::grouped(rows))
}

/// Returns the sums of a range by day and by everything that a price depends on.
pub async fn charges(
    readers: &Readers,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<ChargeRow>, StoreError> {
    let mut snapshot = readers.snapshot().await?;
    let keys =
        Keys { account: true, model: true, circumstances: true, price: true, day: true, ..Keys::default() };
    let range = Range::of(since, until, dropped_before(&mut snapshot).await?);
    let mut facts = Vec::new();
    for part in range.parts().into_iter().filter(|part| !matches!(part, Part::Open { .. })) {
        facts.extend(part.read(&mut snapshot, &keys).await?);
    }
    let names = Names::load(&mut snapshot, &keys, &facts).await?;
    snapshot.close().await;
    let mut charges: BTreeMap<_, Used> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| !matches!(fact.certainty, Certainty::Nothing)) {
        let price = Some(fact.price).filter(|price| *price != 0).map(PriceId);
        let is_estimated = matches!(fact.certainty, Certainty::Estimated | Certainty::EstimatedUnpriced);
        let is_saved = matches!(fact.certainty, Certainty::Saved | Certainty::SavedUnpriced);
        let certainty = (is_estimated, is_saved);
        let key = (fact.day, fact.account, fact.model, fact.circumstances, price, fact.above, certainty);
        let used = charges.entry(key).or_default();
        *used = used.and(&fact.used()?);
    }
    let row = |((day, account, model, circumstances, price, above, (is_estimated, is_saved)), used)| {
        let account = names.account(account)?;
        Ok(ChargeRow {
            day: day_start(day),
            cost_centre: names.cost_centre(&account),
            account,
            model: names.model(model)?,
            circumstances: names.circumstances(circumstances),
            price,
            above_input_tokens: u64::try_from(above).unwrap_or(0),
            is_estimated,
            is_saved,
            used,
        })
    };
    charges.into_iter().filter(|(_, used)| !used.is_nothing()).map(row).collect()
}

/// By which columns the database groups; the others would only make more rows.
#[derive(Clone, Copy, Default)]
struct Keys {
    account: bool,
    model: bool,
    task: bool,
    circumstances: bool,
    end: bool,
    day: bool,
    price: bool,
}

impl Keys {
    fn of(query: &UsageQuery) -> Self {
        use Dimension::{
            Account, App, CostCentre, Day, End, Model, Month, Organisation, Provider, Region, Task, Team,
            Tier, User,
        };
        let asks = |dimensions: &[Dimension]| query.by.iter().any(|by| dimensions.contains(by));
        Self {
            account: asks(&[Organisation, Team, App, User, CostCentre, Account]) || query.within.is_some(),
            model: asks(&[Model]),
            task: asks(&[Task]),
            circumstances: asks(&[Provider, Tier, Region]),
            end: asks(&[End]),
            day: asks(&[Day, Month]),
            price: false,
        }
    }

    /// Each column with the expression that groups by it, or a constant where nobody asks.
    fn columns(&self) -> [(&'static str, bool); 8] {
        [
            ("account", self.account),
            ("model", self.model),
            ("task_root", self.task),
            ("circumstances", self.circumstances),
            ("how", self.end),
            ("reason", self.end),
            // A day has 24 hours, rounded down on both sides of 1970.
            ("(hour - ((hour % 24) + 24) % 24) / 24", self.day),
            ("price", self.price),
        ]
    }
}

/// Hours that are read whole from the rollups, and the instants before and after them.
struct Range {
    since: i64,
    until: i64,
    first_hour: i64,
    hours_end: i64,
}

impl Range {
    /// A ragged end whose requests were dropped is read as its whole hour: its sums are all that is left.
    fn of(since: Timestamp, until: Timestamp, dropped_before: i64) -> Self {
        let round = |at: Timestamp| {
            let start = hour_start(hour(at));
            if start.millis() < dropped_before { start } else { at }
        };
        let (since, until) = (round(since), round(until));
        let first_hour = if hour_start(hour(since)) == since { hour(since) } else { hour(since) + 1 };
        let hours_end = if until == Timestamp::MAX { i64::MAX / 3_600_000 } else { hour(until) };
        Self {
            since: since.millis(),
            until: until.millis(),
            first_hour,
            hours_end: hours_end.max(first_hour),
        }
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Open { since: self.since, until: self.until }];
        let head_end = hour_start(self.first_hour).millis().min(self.until);
        if self.since < head_end {
            parts.push(Part::Requests { since: self.since, until: head_end });
        }
        parts.push(Part::Hours { first: self.first_hour, end: self.hours_end });
        let tail = hour_start(self.hours_end).millis().max(self.since);
        if self.until != i64::MAX && tail < self.until && head_end < self.until {
            parts.push(Part::Requests { since: tail.max(head_end), until: self.until });
        }
        parts
    }
}

enum Part {
    Hours { first: i64, end: i64 },
    Requests { since: i64, until: i64 },
    Open { since: i64, until: i64 },
}

/// How sure we are of what was used, and whether it has a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    /// Nothing was used, or nobody knows what.
    Nothing,
    Priced,
    Unpriced,
    Estimated,
    EstimatedUnpriced,
    /// It was not used at all, and would have been.
    Saved,
    SavedUnpriced,
}

const CERTAINTY: &str = "CASE WHEN how = 4 THEN CASE WHEN price = 0 THEN 6 ELSE 5 END WHEN how = 2 OR source = 0 THEN 0 \
     WHEN source = 3 THEN CASE WHEN price = 0 THEN 4 ELSE 3 END WHEN price = 0 THEN 2 ELSE 1 END";

/// One row that the database has summed.
struct Fact {
    account: i64,
    model: i64,
    task: i64,
    circumstances: i64,
    how: i64,
    reason: i64,
    day: i64,
    price: i64,
    above: i64,
    certainty: Certainty,
    is_open: bool,
    requests: u64,
    unknown: u64,
    unpriced: u64,
    usage: Usage,
    cost: Money,
}

/// The requests of a ragged end, in the columns of the rollups.
const REQUESTS: &str = "(SELECT (h.at - ((h.at % 3600000) + 3600000) % 3600000) / 3600000 AS hour, h.account, h.model, \
     coalesce(t.root, t.id, 0) AS task_root, coalesce(h.circumstances, 0) AS circumstances, x.how, x.reason, \
     coalesce(x.source, 0) AS source, CASE WHEN x.cost IS NULL THEN 0 ELSE coalesce(h.price, 0) END AS price, \
     0 AS above, 1 AS requests, CASE WHEN x.input_uncached IS NULL THEN 1 ELSE 0 END AS unknown, \
     CASE WHEN x.cost IS NULL AND x.input_uncached + x.cache_read + x.cache_write_5m + x.cache_write_1h \
         + x.output + x.compute_us > 0 THEN 1 ELSE 0 END AS unpriced, \
     coalesce(x.input_uncached, 0) AS input_uncached, coalesce(x.cache_read, 0) AS cache_read, \
     coalesce(x.cache_write_5m, 0) AS cache_write_5m, coalesce(x.cache_write_1h, 0) AS cache_write_1h, \
     coalesce(x.output, 0) AS output, coalesce(x.reasoning, 0) AS reasoning, \
     coalesce(x.compute_us, 0) AS compute_us, coalesce(x.cost >> 32, 0) AS cost_upper, \
     coalesce(x.cost & 4294967295, 0) AS cost_lower \
     FROM hold h JOIN ending x ON x.hold = h.id LEFT JOIN task t ON t.id = h.task \
     WHERE h.at >= $1 AND h.at < $2) f";

const OPEN: &str = "(SELECT (h.at - ((h.at % 3600000) + 3600000) % 3600000) / 3600000 AS hour, h.account, h.model, \
     coalesce(t.root, t.id, 0) AS task_root, coalesce(h.circumstances, 0) AS circumstances, 0 AS how, 0 AS reason, \
     0 AS source, 0 AS price, 0 AS above, 1 AS requests, 0 AS unknown, 0 AS unpriced, 0 AS input_uncached, \
     0 AS cache_read, 0 AS cache_write_5m, 0 AS cache_write_1h, 0 AS output, 0 AS reasoning, 0 AS compute_us, \
     0 AS cost_upper, 0 AS cost_lower \
     FROM open_hold o JOIN hold h ON h.id = o.hold LEFT JOIN task t ON t.id = h.task \
     WHERE h.at >= $1 AND h.at < $2) f";

const SUMMED: [&str; 12] = [
    "requests",
    "unknown",
    "unpriced",
    "input_uncached",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output",
    "reasoning",
    "compute_us",
    "cost_upper",
    "cost_lower",
];

impl Part {
    async fn read(&self, snapshot: &mut Connection, keys: &Keys) -> Result<Vec<Fact>, StoreError> {
        let (from, first, end) = match self {
            Part::Hours { first, end } => ("rollup WHERE hour >= $1 AND hour < $2", *first, *end),
            Part::Requests { since, until } => (REQUESTS, *since, *until),
            Part::Open { since, until } => (OPEN, *since, *until),
        };
        let mut columns = Vec::new();
        // How sure we are is always asked, in the tenth column.
        let mut groups = vec!["10".to_owned()];
        for (place, (expression, is_asked)) in keys.columns().into_iter().enumerate() {
            if is_asked {
                columns.push(expression.to_owned());
                groups.push((place + 1).to_string());
            } else {
                columns.push("CAST(0 AS BIGINT)".to_owned());
            }
        }
        // Requests of one price in different context tiers have different rates.
        columns.push(if keys.price { "above".to_owned() } else { "CAST(0 AS BIGINT)".to_owned() });
        if keys.price {
            groups.push("9".to_owned());
        }
        columns.push(format!("CAST({CERTAINTY} AS BIGINT)"));
        columns.extend(SUMMED.iter().map(|column| format!("CAST(sum({column}) AS BIGINT)")));
        let text = format!("SELECT {} FROM {from} GROUP BY {}", columns.join(", "), groups.join(", "));
        let is_open = matches!(self, Part::Open { .. });
        let rows = sql_of(text).bind(first).bind(end).all(snapshot).await?;
        rows.iter().map(|row| Fact::read(&mut row.columns(), is_open)).collect()
    }
}

impl Fact {
    fn read(columns: &mut Columns<'_>, is_open: bool) -> Result<Self, StoreError> {
        Ok(Self {
            account: columns.integer()?,
            model: columns.integer()?,
            task: columns.integer()?,
            circumstances: columns.integer()?,
            how: columns.integer()?,
            reason: columns.integer()?,
            day: columns.integer()?,
            price: columns.integer()?,
            above: columns.integer()?,
            certainty: match columns.integer()? {
                1 => Certainty::Priced,
                2 => Certainty::Unpriced,
                3 => Certainty::Estimated,
                4 => Certainty::EstimatedUnpriced,
                5 => Certainty::Saved,
                6 => Certainty::SavedUnpriced,
                _ => Certainty::Nothing,
            },
            is_open,
            requests: columns.count()?,
            unknown: columns.count()?,
            unpriced: columns.count()?,
            usage: Usage {
                input_uncached: columns.count()?,
                cache_read: columns.count()?,
                cache_write_5m: columns.count()?,
                cache_write_1h: columns.count()?,
                output: columns.count()?,
                reasoning: columns.count()?,
                compute_us: columns.count()?,
            },
            cost: Money::from_pico((i128::from(columns.integer()?) << 32) + i128::from(columns.integer()?)),
        })
    }

    fn used(&self) -> Result<Used, StoreError> {
        // A request for a model without a price that used nothing lacks nothing.
        let requests = if self.certainty == Certainty::Unpriced { self.unpriced } else { self.requests };
        Ok(Used { requests, usage: self.usage, cost: self.cost })
    }

    fn sums(&self) -> Result<UsageSums, StoreError> {
        let mut sums =
            UsageSums { requests: self.requests, unknown_requests: self.unknown, ..UsageSums::default() };
        if self.is_open {
            sums.open_requests = self.requests;
            return Ok(sums);
        }
        match self.certainty {
            Certainty::Nothing => {}
            Certainty::Priced => sums.priced = self.used()?,
            Certainty::Unpriced => sums.unpriced = self.used()?,
            Certainty::Estimated => sums.estimated = self.used()?,
            Certainty::EstimatedUnpriced => {
                sums.estimated = self.used()?;
                sums.estimated_unpriced_requests = self.requests;
            }
            Certainty::Saved => sums.saved = self.used()?,
            Certainty::SavedUnpriced => {
                sums.saved = self.used()?;
                sums.saved_unpriced_requests = self.unpriced;
            }
        }
        Ok(sums)
    }
}

/// What the numbers in the rows stand for.
#[derive(Default)]
struct Names {
    accounts: HashMap<i64, Account>,
    records: HashMap<Account, (Option<AccountKind>, Option<String>)>,
    models: HashMap<i64, String>,
    tasks: HashMap<i64, String>,
    circumstances: HashMap<i64, Circumstances>,
}

impl Names {
    async fn load(snapshot: &mut Connection, keys: &Keys, facts: &[Fact]) -> Result<Self, StoreError> {
        let mut names = Self::default();
        if keys.account {
            for row in &sql("SELECT id, name, kind, cost_centre FROM account WHERE system = 0")
                .all(&mut *snapshot)
                .await?
            {
                let mut columns = row.columns();
                let (id, account) = (columns.integer()?, Account::new(columns.text()?));
                let kind = columns.maybe_integer()?.map(word::<AccountKind>).transpose()?;
                names.records.insert(account.clone(), (kind, columns.maybe_text()?));
                names.accounts.insert(id, account);
            }
        }
        if keys.model {
            for row in &sql("SELECT id, name FROM model").all(&mut *snapshot).await? {
                let mut columns = row.columns();
                names.models.insert(columns.integer()?, columns.text()?);
            }
        }
        if keys.circumstances {
            for row in &sql("SELECT id, text FROM name WHERE kind = 3").all(&mut *snapshot).await? {
                let mut columns = row.columns();
                let (id, text) = (columns.integer()?, columns.text()?);
                let circumstances = serde_json::from_str(&text)
                    .map_err(|error| StoreError::damaged(format!("circumstances are unreadable: {error}")))?;
                names.circumstances.insert(id, circumstances);
            }
        }
        if keys.task {
            static PATHS: Bulk = Bulk {
                columns: &[("id", Kind::Integer)],
                sql: "SELECT t.id, t.path FROM v JOIN task t ON t.id = v.id",
            };
            let asked: HashSet<i64> = facts.iter().map(|fact| fact.task).filter(|task| *task != 0).collect();
            let asked = asked.into_iter().map(|task| vec![task.into()]).collect();
            for row in &PATHS.run(&mut Speaker::Connection(snapshot), asked).await? {
                let mut columns = row.columns();
                names.tasks.insert(columns.integer()?, columns.text()?);
            }
        }
        Ok(names)
    }

    fn is_within(&self, fact: &Fact, top: Option<&Account>) -> bool {
        top.is_none_or(|top| self.accounts.get(&fact.account).is_some_and(|account| is_within(account, top)))
    }

    fn name(&self, fact: &Fact, by: Dimension) -> Result<String, StoreError> {
        let of_kind = |kind| Ok(self.nearest(&self.account(fact.account)?, kind));
        let circumstances = || self.circumstances(fact.circumstances);
        match by {
            Dimension::Organisation => of_kind(AccountKind::Organisation),
            Dimension::Team => of_kind(AccountKind::Team),
            Dimension::App => of_kind(AccountKind::App),
            Dimension::User => of_kind(AccountKind::User),
            Dimension::CostCentre => Ok(self.cost_centre(&self.account(fact.account)?).unwrap_or_default()),
            Dimension::Account => Ok(self.account(fact.account)?.to_string()),
            Dimension::Model => self.model(fact.model),
            Dimension::Task => Ok(self.tasks.get(&fact.task).cloned().unwrap_or_default()),
            Dimension::Day => Ok(day_start(fact.day).day().to_string()),
            Dimension::Month => Ok(Month::of(day_start(fact.day)).to_string()),
            Dimension::End => Ok(request_end(fact.how, fact.reason)?.to_string()),
            Dimension::Provider => Ok(circumstances().provider.to_string()),
            Dimension::Tier => Ok(circumstances().service_tier.to_string()),
            Dimension::Region => {
                Ok(circumstances().region.map(|region| region.to_string()).unwrap_or_default())
            }
        }
    }

    fn account(&self, id: i64) -> Result<Account, StoreError> {
        self.accounts
            .get(&id)
            .cloned()
            .ok_or_else(|| StoreError::damaged(format!("there is no account {id}")))
    }
    fn model(&self, id: i64) -> Result<String, StoreError> {
        self.models.get(&id).cloned().ok_or_else(|| StoreError::damaged(format!("there is no model {id}")))
    }
    /// Requests of the first version were all our own.
    fn circumstances(&self, id: i64) -> Circumstances {
        self.circumstances.get(&id).cloned().unwrap_or_default()
    }

    /// Returns the account itself or the nearest one above it that is of this kind.
    fn nearest(&self, account: &Account, kind: AccountKind) -> String {
        let is_kind =
            |account: &Account| self.records.get(account).is_some_and(|(found, _)| *found == Some(kind));
        Self::upwards(account).find(is_kind).map(|account| account.to_string()).unwrap_or_default()
    }
    fn cost_centre(&self, account: &Account) -> Option<String> {
        Self::upwards(account).find_map(|account| self.records.get(&account)?.1.clone())
    }
    fn upwards(account: &Account) -> impl Iterator<Item = Account> {
        std::iter::once(account.clone()).chain(ancestors(account))
    }
}

async fn dropped_before(snapshot: &mut Connection) -> Result<i64, StoreError> {
    sql("SELECT dropped_before FROM retention").integer(snapshot).await
}

fn day_start(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(86_400_000))
}

fn request_end(how: i64, reason: i64) -> Result<RequestEnd, StoreError> {
    match how {
        0 => Ok(RequestEnd::Open),
        codes::SETTLED => Ok(RequestEnd::Settled(word(reason)?)),
        codes::RELEASED => Ok(RequestEnd::Released(word(reason)?)),
        codes::LOST => Ok(RequestEnd::Lost),
        codes::SAVED => Ok(RequestEnd::Saved(word(reason)?)),
        other => Err(StoreError::damaged(format!("an ending has the unknown kind {other}"))),
    }
}
