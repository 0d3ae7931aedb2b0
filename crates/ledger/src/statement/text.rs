//! How does a statement look? A table for people, CSV for spreadsheets, JSON for programs.

use domain::{Money, Usage};
use serde_json::{Map, Value, json};

use super::columns::{COUNTS, Cell, PARTS, WHOLES, flat, flat_names};
use super::{Dimension, MonthStatement, UsageRow, UsageSums, Used};

/// Returns aligned tables: what is priced, with a sums line; then, where there is any, what is unpriced, what is estimated and
/// what is unknown, each in a section of its own, because none of it belongs into the sums. `input` is all input, of which
/// `cached` was read from a cache. Where answers were given again, `repeated` of the requests used nothing, which saved so much.
pub fn table(rows: &[UsageRow], by: &[Dimension]) -> String {
    let total = UsageRow::total(rows);
    let mut text = section(rows, by, &total, &Section::PRICED);
    for section_of in [&Section::UNPRICED, &Section::ESTIMATED] {
        let concerned: Vec<UsageRow> =
            rows.iter().filter(|row| !(section_of.of)(&row.sums).is_nothing()).cloned().collect();
        if !concerned.is_empty() {
            text += &format!("\n{}\n", section_of.title);
            text += &section(&concerned, by, &UsageRow::total(&concerned), section_of);
        }
    }
    if total.unknown_requests > 0 {
        let requests = grouped(total.unknown_requests);
        text += &format!(
            "\nUnknown: {requests} requests of which nobody can say what they used; they are in no sum.\n"
        );
    }
    text
}

/// Returns one line per row with the raw counts, after a line of names; a cost that is not known is empty.
pub fn csv(rows: &[UsageRow], by: &[Dimension]) -> String {
    let names = by.iter().map(|by| by.name().to_owned()).chain(flat_names());
    let mut lines = vec![names.collect::<Vec<_>>()];
    for row in rows {
        let cells = flat(&row.sums).into_iter().map(|cell| match cell {
            Cell::Count(count) => count.to_string(),
            Cell::Cost(cost) => cost.map(|cost| cost.to_string()).unwrap_or_default(),
        });
        lines.push(row.names.iter().cloned().chain(cells).collect());
    }
    csv_text(&lines)
}

/// Returns `{"rows": […], "total": {…}}`. Costs are decimal texts, for a JSON number may become a float on its way;
/// `null` where no cost is known.
pub fn json(rows: &[UsageRow], by: &[Dimension]) -> String {
    let row = |row: &UsageRow| {
        let mut object = Map::new();
        for (by, name) in by.iter().zip(&row.names) {
            object.insert(by.name().to_owned(), name.as_str().into());
        }
        object.extend(sums_json(&row.sums));
        Value::Object(object)
    };
    let rows_json: Vec<Value> = rows.iter().map(row).collect();
    let statement = json!({ "rows": rows_json, "total": sums_json(&UsageRow::total(rows)) });
    format!("{statement:#}\n")
}

/// Returns a month's statement as a person reads it: what each cost centre owes, and what is not in it.
pub fn month_table(statement: &MonthStatement) -> String {
    let mut text = format!("{}\n\n", statement.title());
    let mut lines = vec![
        ["cost centre", "requests", "input", "output", "list (USD)", "due (USD)"].map(str::to_owned).to_vec(),
    ];
    for line in &statement.cost_centres {
        lines.push(vec![
            line.cost_centre.clone().unwrap_or_else(|| "(unallocated)".into()),
            grouped(line.priced.requests),
            grouped(line.priced.usage.input()),
            grouped(line.priced.usage.output),
            line.priced.cost.to_string(),
            line.due.to_string(),
        ]);
    }
    let total = statement.total();
    lines.push(vec![
        "total".into(),
        grouped(total.requests),
        grouped(total.usage.input()),
        grouped(total.usage.output),
        total.cost.to_string(),
        statement.due().to_string(),
    ]);
    text += &aligned(&lines, 1);
    for bill in statement.bills.iter().filter(|bill| bill.bill.due() != bill.bill.list) {
        let (list, due) = (bill.bill.list, bill.bill.due());
        text += &format!("\n{}: list {list}, ", bill.provider);
        if bill.bill.discount != Money::ZERO {
            text += &format!("volume discount -{}, ", bill.bill.discount);
        }
        if bill.bill.shortfall != Money::ZERO {
            text += &format!("to meet the commitment +{}, ", bill.bill.shortfall);
        }
        text += &format!("due {due} USD");
    }
    if statement.bills.iter().any(|bill| bill.bill.due() != bill.bill.list) {
        text.push('\n');
    }
    for (used, title) in [
        (statement.unpriced(), "Unpriced, in no sum"),
        (statement.estimated(), "Estimated (at most), in no sum"),
        (statement.saved(), "Saved by answers that were given again, in no sum"),
        (statement.saved_unpriced(), "Saved, without a price"),
    ] {
        if !used.is_nothing() {
            text += &format!(
                "\n{title}: {} requests, {} tokens",
                grouped(used.requests),
                grouped(used.usage.total())
            );
            if used.cost != Money::ZERO {
                text += &format!(", {} USD", used.cost);
            }
            text.push('\n');
        }
    }
    text
}

/// Returns the lines of a month's statement, each with its account and model.
pub fn month_csv(statement: &MonthStatement) -> String {
    let names = ["month", "cost_centre", "account", "provider", "model", "tier", "kind"];
    let mut header: Vec<String> = names.map(str::to_owned).to_vec();
    header.extend(COUNTS.iter().map(|(name, _)| (*name).to_owned()));
    header.push("cost_usd".into());
    let mut lines = vec![header];
    for line in &statement.lines {
        let mut cells = vec![
            statement.month.to_string(),
            line.cost_centre.clone().unwrap_or_default(),
            line.account.clone(),
            line.provider.clone(),
            line.model.clone(),
            line.tier.clone(),
            line.kind.clone(),
        ];
        cells.extend(COUNTS.iter().map(|(_, count)| count(&line.used).to_string()));
        cells.push(if line.kind.ends_with("unpriced") { String::new() } else { line.used.cost.to_string() });
        lines.push(cells);
    }
    csv_text(&lines)
}

/// A heading, and the money under it.
type CostColumn = (&'static str, fn(&UsageSums) -> String);

/// A part of the sums as a table of its own.
struct Section {
    title: &'static str,
    of: fn(&UsageSums) -> &Used,
    requests: fn(&UsageSums) -> u64,
    cost: Option<CostColumn>,
    /// Whether it tells of all requests, those under way and those that used nothing too.
    is_whole: bool,
}

impl Section {
    const PRICED: Section = Section {
        title: "",
        of: |sums| &sums.priced,
        requests: |sums| sums.requests,
        cost: Some(("cost (USD)", priced_cost)),
        is_whole: true,
    };
    const UNPRICED: Section = Section {
        title: "Unpriced: no price was in force for this, so it is in none of the sums above",
        of: |sums| &sums.unpriced,
        requests: |sums| sums.unpriced.requests,
        cost: None,
        is_whole: false,
    };
    const ESTIMATED: Section = Section {
        title: "Estimated: at most this was used by requests whose end nobody saw; it is in none of the sums above",
        of: |sums| &sums.estimated,
        requests: |sums| sums.estimated.requests,
        cost: Some(("at most (USD)", estimated_cost)),
        is_whole: false,
    };
}

fn section(rows: &[UsageRow], by: &[Dimension], total: &UsageSums, section: &Section) -> String {
    let used = section.of;
    let shows_open = section.is_whole && total.open_requests > 0;
    let shows_saved = section.is_whole && total.saved.requests > 0;
    let shows_time = used(total).usage.compute_us > 0;
    let mut heading: Vec<String> = by.iter().map(|by| by.name().replace('_', " ")).collect();
    heading.push("requests".into());
    if shows_open {
        heading.push("open".into());
    }
    heading.extend(["input", "cached", "output"].map(str::to_owned));
    if shows_time {
        heading.push("machine time".into());
    }
    heading.extend(section.cost.map(|(name, _)| name.to_owned()));
    if shows_saved {
        heading.extend(["repeated", "saved (USD)"].map(str::to_owned));
    }
    let cells = |sums: &UsageSums| {
        let Usage { cache_read, output, compute_us, .. } = used(sums).usage;
        let mut cells = vec![grouped((section.requests)(sums))];
        if shows_open {
            cells.push(grouped(sums.open_requests));
        }
        cells.extend([used(sums).usage.input(), cache_read, output].map(grouped));
        if shows_time {
            cells.push(duration(compute_us));
        }
        cells.extend(section.cost.map(|(_, cost)| cost(sums)));
        if shows_saved {
            cells.extend([grouped(sums.saved.requests), saved_worth(sums)]);
        }
        cells
    };
    let mut lines = vec![heading];
    for row in rows {
        let names = row.names.iter().map(|name| if name.is_empty() { "-".to_owned() } else { name.clone() });
        lines.push(names.chain(cells(&row.sums)).collect());
    }
    if !by.is_empty() || rows.is_empty() {
        let mut names = vec![String::new(); by.len()];
        if let Some(first) = names.first_mut() {
            *first = "total".into();
        }
        lines.push(names.into_iter().chain(cells(total)).collect());
    }
    aligned(&lines, by.len())
}

/// Nothing where nothing is priced, because 0 would be a made-up price.
fn priced_cost(sums: &UsageSums) -> String {
    let has_unpriced = sums.unpriced.requests > 0 || sums.estimated.requests > 0 || sums.unknown_requests > 0;
    let is_all_open = sums.requests > 0 && sums.open_requests == sums.requests;
    if sums.priced.requests == 0 && (has_unpriced || is_all_open) {
        "-".into()
    } else {
        sums.priced.cost.to_string()
    }
}

fn estimated_cost(sums: &UsageSums) -> String {
    match (PARTS[2].cost)(sums) {
        None => "unpriced".into(),
        Some(cost) if sums.estimated_unpriced_requests > 0 => {
            format!("{cost} + {} unpriced", grouped(sums.estimated_unpriced_requests))
        }
        Some(cost) => cost.to_string(),
    }
}

fn saved_worth(sums: &UsageSums) -> String {
    match (PARTS[3].cost)(sums) {
        None => "unpriced".into(),
        Some(worth) if sums.saved_unpriced_requests > 0 => {
            format!("{worth} + {} unpriced", grouped(sums.saved_unpriced_requests))
        }
        Some(worth) => worth.to_string(),
    }
}

fn sums_json(sums: &UsageSums) -> Map<String, Value> {
    let mut object: Map<String, Value> =
        WHOLES.iter().map(|(name, count)| ((*name).to_owned(), count(sums).into())).collect();
    for part in &PARTS {
        let mut inner = used_json((part.of)(sums));
        if part.name != "unpriced" {
            inner.insert("cost_usd".into(), (part.cost)(sums).map(|cost| cost.to_string()).into());
        }
        match part.name {
            "estimated" => inner.insert("unpriced_requests".into(), sums.estimated_unpriced_requests.into()),
            "saved" => inner.insert("unpriced_requests".into(), sums.saved_unpriced_requests.into()),
            _ => None,
        };
        object.insert(part.name.to_owned(), inner.into());
    }
    object
}

fn used_json(used: &Used) -> Map<String, Value> {
    COUNTS.iter().map(|(name, count)| ((*name).to_owned(), count(used).into())).collect()
}

/// `1234567` as `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Hours, minutes and seconds, as much as there is: `1:02:03.5`.
fn duration(micros: u64) -> String {
    let tenths = micros / 100_000;
    let (hours, minutes, seconds) = (tenths / 36_000, tenths / 600 % 60, tenths / 10 % 60);
    let rest = tenths % 10;
    match hours {
        0 => format!("{minutes}:{seconds:02}.{rest}"),
        hours => format!("{}:{minutes:02}:{seconds:02}.{rest}", grouped(hours)),
    }
}

fn csv_text(lines: &[Vec<String>]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        writer.write_record(line).expect("a vector takes every line");
    }
    let bytes = writer.into_inner().expect("a vector needs no flush");
    String::from_utf8(bytes).expect("cells are text")
}

/// Returns lines of equal columns: the first `left` are names and begin at the left; the others are numbers and end at the
/// right.
pub fn aligned(lines: &[Vec<String>], left: usize) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let cells: Vec<String> = cells.collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
