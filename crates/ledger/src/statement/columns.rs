//! Which columns do exports of usage have? One list for CSV, JSON and Parquet.

use domain::Money;

use super::{UsageSums, Used};

pub type Count = (&'static str, fn(&Used) -> u64);

/// What a part of the use is counted in.
pub const COUNTS: [Count; 8] = [
    ("requests", |used| used.requests),
    ("input_uncached", |used| used.usage.input_uncached),
    ("cache_read", |used| used.usage.cache_read),
    ("cache_write_5m", |used| used.usage.cache_write_5m),
    ("cache_write_1h", |used| used.usage.cache_write_1h),
    ("output", |used| used.usage.output),
    ("reasoning", |used| used.usage.reasoning),
    ("compute_us", |used| used.usage.compute_us),
];

/// A part of the sums, and whether it can have a cost.
pub struct Part {
    pub name: &'static str,
    pub of: fn(&UsageSums) -> &Used,
    pub cost: fn(&UsageSums) -> Option<Money>,
}

pub const PARTS: [Part; 4] = [
    Part { name: "priced", of: |sums| &sums.priced, cost: |sums| Some(sums.priced.cost) },
    Part { name: "unpriced", of: |sums| &sums.unpriced, cost: |_| None },
    Part { name: "estimated", of: |sums| &sums.estimated, cost: estimated_cost },
    Part { name: "saved", of: |sums| &sums.saved, cost: saved_worth },
];

/// A column's name, and how its number is read.
type Whole = (&'static str, fn(&UsageSums) -> u64);

/// Requests as a whole.
pub const WHOLES: [Whole; 3] = [
    ("requests", |sums| sums.requests),
    ("open_requests", |sums| sums.open_requests),
    ("unknown_requests", |sums| sums.unknown_requests),
];

/// An upper bound, as far as there are prices; nothing where none of it has one.
fn estimated_cost(sums: &UsageSums) -> Option<Money> {
    let all_unpriced =
        sums.estimated.requests > 0 && sums.estimated_unpriced_requests == sums.estimated.requests;
    (!all_unpriced).then_some(sums.estimated.cost)
}

/// As far as there are prices; nothing where none of it has one.
fn saved_worth(sums: &UsageSums) -> Option<Money> {
    let all_unpriced = sums.saved.requests > 0 && sums.saved_unpriced_requests == sums.saved.requests;
    (!all_unpriced).then_some(sums.saved.cost)
}

/// Returns the flat names, in the order of [`flat`].
pub fn flat_names() -> Vec<String> {
    let mut names: Vec<String> = WHOLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    for part in &PARTS {
        names.extend(COUNTS.iter().map(|(name, _)| format!("{}_{name}", part.name)));
        if part.name != "unpriced" {
            names.push(format!("{}_cost_usd", part.name));
        }
    }
    names.extend(["estimated_unpriced_requests", "saved_unpriced_requests"].map(str::to_owned));
    names
}

/// A cell of the flat form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Count(u64),
    Cost(Option<Money>),
}

/// Returns the cells of [`flat_names`].
pub fn flat(sums: &UsageSums) -> Vec<Cell> {
    let mut cells: Vec<Cell> = WHOLES.iter().map(|(_, count)| Cell::Count(count(sums))).collect();
    for part in &PARTS {
        cells.extend(COUNTS.iter().map(|(_, count)| Cell::Count(count((part.of)(sums)))));
        if part.name != "unpriced" {
            cells.push(Cell::Cost((part.cost)(sums)));
        }
    }
    cells.extend([sums.estimated_unpriced_requests, sums.saved_unpriced_requests].map(Cell::Count));
    cells
}
