//! How a statement looks: a table for people, CSV for spreadsheets, JSON for programs.

use domain::Money;
use serde_json::{Map, Value, json};

use super::{Dimension, UsageRow, total};

/// Returns an aligned table that ends with a sums line. `input` is all input, of which `cached` was read from a cache;
/// columns for requests that are open or unknown appear when there are any.
pub fn table(rows: &[UsageRow], by: &[Dimension]) -> String {
    let total = total(rows);
    let mut columns: Vec<Column> = by.iter().map(|dimension| Column::Dimension(*dimension)).collect();
    columns.push(Column::Requests);
    if total.open_requests > 0 {
        columns.push(Column::Open);
    }
    if total.unknown_requests > 0 {
        columns.push(Column::Unknown);
    }
    columns.extend([Column::Input, Column::Cached, Column::Output, Column::Cost]);

    let mut lines = vec![columns.iter().map(Column::heading).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| column.cell(row)).collect()));
    let mut sums: Vec<String> = columns.iter().map(|column| column.cell(&total)).collect();
    if let Some(first) = sums.first_mut().filter(|_| !by.is_empty()) {
        *first = "total".to_owned();
        lines.push(sums);
    } else if rows.is_empty() {
        lines.push(sums);
    }
    aligned(&lines, by.len())
}

/// Returns one line per row with the raw counts, after a line of names; a cost that is not known in full is empty.
pub fn csv(rows: &[UsageRow], by: &[Dimension]) -> String {
    let mut names: Vec<String> = by.iter().map(Dimension::to_string).collect();
    names.extend(COUNTS.iter().map(|(name, _)| (*name).to_owned()));
    names.push("cost_usd".to_owned());
    let mut text = names.join(",") + "\n";
    for row in rows {
        let mut cells: Vec<String> = by.iter().map(|by| quoted(&dimension(row, *by))).collect();
        cells.extend(COUNTS.iter().map(|(_, count)| count(row).to_string()));
        cells.push(priced(row).map(|cost| cost.to_string()).unwrap_or_default());
        text += &(cells.join(",") + "\n");
    }
    text
}

/// Returns `{"rows": […], "total": {…}}`. Costs are decimal texts, for a JSON number may become a float on its way;
/// `null` where no cost is known.
pub fn json(rows: &[UsageRow], by: &[Dimension]) -> String {
    let rows_json: Vec<Value> = rows.iter().map(|row| object(row, by)).collect();
    let statement = json!({ "rows": rows_json, "total": object(&total(rows), &[]) });
    format!("{statement:#}\n")
}

type Count = (&'static str, fn(&UsageRow) -> u64);

/// The raw counts, as CSV and JSON give them.
const COUNTS: [Count; 10] = [
    ("requests", |row| row.requests),
    ("open_requests", |row| row.open_requests),
    ("unknown_requests", |row| row.unknown_requests),
    ("unpriced_requests", |row| row.unpriced_requests),
    ("input_uncached", |row| row.usage.input_uncached),
    ("cache_read", |row| row.usage.cache_read),
    ("cache_write_5m", |row| row.usage.cache_write_5m),
    ("cache_write_1h", |row| row.usage.cache_write_1h),
    ("output", |row| row.usage.output),
    ("reasoning", |row| row.usage.reasoning),
];

enum Column {
    Dimension(Dimension),
    Requests,
    Open,
    Unknown,
    Input,
    Cached,
    Output,
    Cost,
}

impl Column {
    fn heading(&self) -> String {
        match self {
            Column::Dimension(dimension) => dimension.to_string(),
            Column::Requests => "requests".into(),
            Column::Open => "open".into(),
            Column::Unknown => "unknown".into(),
            Column::Input => "input".into(),
            Column::Cached => "cached".into(),
            Column::Output => "output".into(),
            Column::Cost => "cost (USD)".into(),
        }
    }
    fn cell(&self, row: &UsageRow) -> String {
        match self {
            Column::Dimension(by) => dimension(row, *by),
            Column::Requests => grouped(row.requests),
            Column::Open => grouped(row.open_requests),
            Column::Unknown => grouped(row.unknown_requests),
            Column::Input => grouped(row.usage.input()),
            Column::Cached => grouped(row.usage.cache_read),
            Column::Output => grouped(row.usage.output),
            Column::Cost => cost(row),
        }
    }
}

fn dimension(row: &UsageRow, by: Dimension) -> String {
    let text = match by {
        Dimension::Account => row.account.as_ref().map(ToString::to_string),
        Dimension::Model => row.model.as_ref().map(ToString::to_string),
        Dimension::Day => row.day.map(|day| day.to_string()),
        Dimension::End => row.end.map(|end| end.to_string()),
    };
    text.unwrap_or_default()
}

fn cost(row: &UsageRow) -> String {
    match (priced(row), row.unpriced_requests) {
        (Some(cost), 0) => cost.to_string(),
        (Some(cost), unpriced) => format!("{cost} + {} unpriced", grouped(unpriced)),
        (None, unpriced) if unpriced > 0 => "unpriced".to_owned(),
        (None, _) if row.unknown_requests > 0 => "unknown".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

/// Returns the cost of what is priced; nothing where nothing is, because 0 would be a made-up price.
fn priced(row: &UsageRow) -> Option<Money> {
    let told = row.requests - row.open_requests - row.unknown_requests;
    let nothing = told == 0 || (row.unpriced_requests > 0 && row.cost == Money::ZERO);
    if nothing && row.requests > 0 { None } else { Some(row.cost) }
}

fn object(row: &UsageRow, by: &[Dimension]) -> Value {
    let mut object = Map::new();
    for by in by {
        object.insert(by.to_string(), dimension(row, *by).into());
    }
    for (name, count) in COUNTS {
        object.insert(name.to_owned(), count(row).into());
    }
    object.insert("cost_usd".to_owned(), priced(row).map(|cost| cost.to_string()).into());
    Value::Object(object)
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

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// The first `left` columns are names and begin at the left; the others are numbers and end at the right.
fn aligned(lines: &[Vec<String>], left: usize) -> String {
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
mod tests {
    use domain::{Usage, UsageEnd};

    use super::*;
    use crate::RequestEnd;

    fn row(model: &str, requests: u64, unpriced_requests: u64, pico: i128) -> UsageRow {
        UsageRow {
            model: Some(model.into()),
            requests,
            unpriced_requests,
            usage: Usage {
                input_uncached: 1_000 * requests,
                cache_read: 500,
                output: 20,
                ..Usage::default()
            },
            cost: Money::from_pico(pico),
            ..UsageRow::default()
        }
    }

    #[test]
    fn a_table_ends_with_its_sums_and_says_what_is_unpriced() {
        let rows =
            [row("tiny", 1_200, 0, 230_000_000), row("large", 3, 3, 0), row("mixed", 9, 2, 10_000_000_000)];
        let text = table(&rows, &[Dimension::Model]);
        assert_eq!(
            text,
            "\
model  requests      input  cached  output            cost (USD)
tiny      1,200  1,200,500     500      20               0.00023
large         3      3,500     500      20              unpriced
mixed         9      9,500     500      20     0.01 + 2 unpriced
total     1,212  1,213,500   1,500      60  0.01023 + 5 unpriced
"
        );
    }

    #[test]
    fn open_and_unknown_requests_have_columns_when_there_are_any() {
        let lost =
            UsageRow { end: Some(RequestEnd::Lost), requests: 2, unknown_requests: 2, ..UsageRow::default() };
        let open =
            UsageRow { end: Some(RequestEnd::Open), requests: 1, open_requests: 1, ..UsageRow::default() };
        assert_eq!(
            table(&[open, lost], &[Dimension::End]),
            "\
end    requests  open  unknown  input  cached  output  cost (USD)
open          1     1        0      0       0       0           -
lost          2     0        2      0       0       0     unknown
total         3     1        2      0       0       0     unknown
"
        );
    }

    #[test]
    fn without_groups_the_one_row_is_its_own_sum() {
        let mut all = row("", 2, 0, 0);
        all.model = None;
        let text = table(&[all], &[]);
        assert_eq!(
            text,
            "requests  input  cached  output  cost (USD)\n       2  2,500     500      20        0.00\n"
        );
        assert_eq!(table(&[], &[]).lines().count(), 2);
    }

    #[test]
    fn csv_quotes_names_and_leaves_an_unknown_price_empty() {
        let rows = [row("a,\"b\"", 1, 1, 0), row("tiny", 1, 0, 230_000_000)];
        let text = csv(&rows, &[Dimension::Model]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "\"a,\"\"b\"\"\",1,0,0,1,1000,500,0,0,20,0,");
        assert_eq!(lines[2], "tiny,1,0,0,0,1000,500,0,0,20,0,0.00023");
        assert_eq!(lines[0].split(',').count(), 12);
    }

    #[test]
    fn json_tells_costs_as_exact_text() {
        let mut complete = row("tiny", 1, 0, 1);
        complete.end = Some(RequestEnd::Settled(UsageEnd::Complete));
        let value: Value = serde_json::from_str(&json(&[complete], &[Dimension::End])).unwrap();
        assert_eq!(value["rows"][0]["end"], "complete");
        assert_eq!(value["rows"][0]["cost_usd"], "0.000000000001");
        assert_eq!(value["total"]["output"], 20);
        let unpriced: Value = serde_json::from_str(&json(&[row("tiny", 1, 1, 0)], &[])).unwrap();
        assert_eq!(unpriced["total"]["cost_usd"], Value::Null);
    }

    #[test]
    fn dimensions_are_read_by_the_names_they_print() {
        assert_eq!("day".parse::<Dimension>(), Ok(Dimension::Day));
        let error = "team".parse::<Dimension>().unwrap_err().to_string();
        assert_eq!(error, "usage is grouped by account, model, day or end; got \"team\"");
    }
}
