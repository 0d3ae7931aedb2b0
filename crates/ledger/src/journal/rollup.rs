//! What do the ended requests of an hour sum to?
//!
//! The sums are booked with the ends, in one transaction, in rows that only the booking process writes. So a report over
//! months reads a few rows for each hour, and no two processes wait for each other to count.

use std::collections::BTreeMap;

use domain::Money;

use super::codes;
use super::database::{Bulk, Kind, Speaker, StoreError, Value};
use super::rows::Known;
use crate::quantity::tokens;
use crate::{Ending, Held, Timestamp};

const HOUR_MS: i64 = 3_600_000;

/// Which requests are summed together, by the row numbers of what they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Of the hold.
    pub hour: i64,
    pub account: i64,
    pub model: i64,
    pub task_root: i64,
    pub circumstances: i64,
    pub how: i64,
    pub reason: i64,
    pub source: i64,
    /// The version that gave the cost; 0 where there is no cost. So one group is either priced or not, and at one price.
    pub price: i64,
    /// The context tier: input tokens that each of the requests exceeded.
    pub above: i64,
}

/// Requests, unknown and unpriced ones, the six dimensions with reasoning before the last, and the cost's two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub [i64; SUMS]);

const SUMS: usize = 12;

pub type Rollups = BTreeMap<Group, Sums>;

/// Returns the number of the hour since 1970 in which an instant lies.
pub fn hour(at: Timestamp) -> i64 {
    at.millis().div_euclid(HOUR_MS)
}

pub fn hour_start(hour: i64) -> Timestamp {
    Timestamp::from_millis(hour.saturating_mul(HOUR_MS))
}

/// Adds one ended request. What was saved is summed by itself: the end's kind is part of every group.
pub fn add(rollups: &mut Rollups, known: &Known, held: &Held, ending: &Ending) {
    let codes::Coded { how, reason, source, usage, money } = codes::ending(ending);
    let count = |count: u64| i64::try_from(count).expect("a decided count fits an entry");
    let priced = held.price.as_ref().filter(|_| money.is_some());
    let input = usage.map_or(0, |usage| usage.input());
    let group = Group {
        hour: hour(held.hold.at),
        account: known.payer,
        model: known.model,
        task_root: known.task_root,
        circumstances: known.circumstances,
        how,
        reason,
        source: source.unwrap_or(0),
        price: priced.map_or(0, |version| version.id.0),
        above: priced.map_or(0, |version| count(version.sheet.context_tier(input, &held.hold.circumstances))),
    };
    let used = usage.unwrap_or_default();
    let is_unpriced = usage.is_some() && money.is_none() && tokens(&used).iter().any(|count| *count > 0);
    let cost = money.unwrap_or(Money::ZERO).entry_pico().expect("a decided amount fits an entry");
    let one = [
        1,
        i64::from(usage.is_none()),
        i64::from(is_unpriced),
        count(used.input_uncached),
        count(used.cache_read),
        count(used.cache_write_5m),
        count(used.cache_write_1h),
        count(used.output),
        count(used.reasoning),
        count(used.compute_us),
        cost >> 32,
        cost & 0xffff_ffff,
    ];
    let sums = &mut rollups.entry(group).or_default().0;
    for (sum, part) in sums.iter_mut().zip(one) {
        *sum += part;
    }
}

pub async fn write(speaker: &mut Speaker<'_>, process: i64, rollups: &Rollups) -> Result<(), StoreError> {
    static ADD: Bulk = Bulk {
        columns: COLUMNS,
        sql: "INSERT INTO rollup (hour, process, account, model, task_root, circumstances, how, reason, source, \
              price, above, requests, unknown, unpriced, input_uncached, cache_read, cache_write_5m, cache_write_1h, output, \
              reasoning, compute_us, cost_upper, cost_lower) SELECT * FROM v WHERE true \
              ON CONFLICT (hour, process, account, model, task_root, circumstances, how, reason, source, price, above) \
              DO UPDATE SET \
              requests = rollup.requests + excluded.requests, unknown = rollup.unknown + excluded.unknown, \
              unpriced = rollup.unpriced + excluded.unpriced, \
              input_uncached = rollup.input_uncached + excluded.input_uncached, \
              cache_read = rollup.cache_read + excluded.cache_read, \
              cache_write_5m = rollup.cache_write_5m + excluded.cache_write_5m, \
              cache_write_1h = rollup.cache_write_1h + excluded.cache_write_1h, \
              output = rollup.output + excluded.output, reasoning = rollup.reasoning + excluded.reasoning, \
              compute_us = rollup.compute_us + excluded.compute_us, \
              cost_upper = rollup.cost_upper + excluded.cost_upper, \
              cost_lower = rollup.cost_lower + excluded.cost_lower",
    };
    let row = |(group, sums): (&Group, &Sums)| -> Vec<Value> {
        let Group { hour, account, model, task_root, circumstances, how, reason, source, price, above } =
            *group;
        [hour, process, account, model, task_root, circumstances, how, reason, source, price, above]
            .into_iter()
            .chain(sums.0)
            .map(Value::from)
            .collect()
    };
    ADD.run(speaker, rollups.iter().map(row).collect()).await?;
    Ok(())
}

const COLUMNS: &[(&str, Kind)] = &[
    ("hour", Kind::Integer),
    ("process", Kind::Integer),
    ("account", Kind::Integer),
    ("model", Kind::Integer),
    ("task_root", Kind::Integer),
    ("circumstances", Kind::Integer),
    ("how", Kind::Integer),
    ("reason", Kind::Integer),
    ("source", Kind::Integer),
    ("price", Kind::Integer),
    ("above", Kind::Integer),
    ("requests", Kind::Integer),
    ("unknown", Kind::Integer),
    ("unpriced", Kind::Integer),
    ("input_uncached", Kind::Integer),
    ("cache_read", Kind::Integer),
    ("cache_write_5m", Kind::Integer),
    ("cache_write_1h", Kind::Integer),
    ("output", Kind::Integer),
    ("reasoning", Kind::Integer),
    ("compute_us", Kind::Integer),
    ("cost_upper", Kind::Integer),
    ("cost_lower", Kind::Integer),
];

/// Returns all sums from an hour on, of all processes together.
pub async fn read(speaker: &mut Speaker<'_>, since_hour: i64) -> Result<Rollups, StoreError> {
    let rows = super::database::sql(
        "SELECT hour, account, model, task_root, circumstances, how, reason, source, price, above, requests, unknown, unpriced, \
         input_uncached, cache_read, cache_write_5m, cache_write_1h, output, reasoning, compute_us, cost_upper, cost_lower \
         FROM rollup WHERE hour >= $1",
    )
    .bind(since_hour)
    .all(speaker.again())
    .await?;
    let mut rollups = Rollups::new();
    for row in &rows {
        let mut columns = row.columns();
        let group = Group {
            hour: columns.integer()?,
            account: columns.integer()?,
            model: columns.integer()?,
            task_root: columns.integer()?,
            circumstances: columns.integer()?,
            how: columns.integer()?,
            reason: columns.integer()?,
            source: columns.integer()?,
            price: columns.integer()?,
            above: columns.integer()?,
        };
        let sums = rollups.entry(group).or_default();
        for sum in &mut sums.0 {
            *sum += columns.integer()?;
        }
    }
    Ok(rollups)
}
