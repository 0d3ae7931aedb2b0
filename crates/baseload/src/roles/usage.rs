//! `baseload usage`: what was used and what it cost, from the ledger itself.

use std::io::{IsTerminal, Write};

use anyhow::{Context, ensure};
use domain::Account;
use ledger::statement::Issuer;
use ledger::{How, Journal, Month, RequestRow, Timestamp, UsageQuery, UsageRow, statement};

use crate::cli::{UsageArgs, UsageFormat};
use crate::place;

pub async fn usage(args: UsageArgs) -> anyhow::Result<()> {
    let journal = place::attach_to_existing(&args.place).await?;
    let outcome = show(&journal, &args).await;
    journal.close().await;
    outcome
}

async fn show(journal: &Journal, args: &UsageArgs) -> anyhow::Result<()> {
    if args.check {
        return check(journal).await;
    }
    if let Some(count) = args.requests {
        return list(journal, count as usize).await;
    }
    let now = jiff::Timestamp::now();
    let query = UsageQuery {
        by: args.by.clone(),
        since: instant(args.since.as_deref(), now).context("--since")?.unwrap_or(Timestamp::MIN),
        until: instant(args.until.as_deref(), now).context("--until")?.unwrap_or(Timestamp::MAX),
        within: args.account.as_deref().map(Account::new),
    };
    let bytes = match args.format {
        UsageFormat::FocusCsv | UsageFormat::FocusParquet => focus(journal, &query, args).await?,
        format => report(&journal.usage(&query).await?, &query, format)?,
    };
    deliver(&bytes, args)
}

/// Prints the latest requests, a page at a time: the book may have more than memory.
async fn list(journal: &Journal, count: usize) -> anyhow::Result<()> {
    let (mut left, mut place) = (count, None);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while left > 0 {
        let (rows, next) = journal.requests_before(place).await?;
        for row in rows.iter().take(left) {
            writeln!(out, "{}", request_line(row))?;
        }
        left = left.saturating_sub(rows.len());
        place = next;
        if place.is_none() {
            break;
        }
    }
    Ok(out.flush()?)
}

fn report(rows: &[UsageRow], query: &UsageQuery, format: UsageFormat) -> anyhow::Result<Vec<u8>> {
    Ok(match format {
        UsageFormat::Table => statement::table(rows, &query.by).into_bytes(),
        UsageFormat::Csv => statement::csv(rows, &query.by).into_bytes(),
        UsageFormat::Json => statement::json(rows, &query.by).into_bytes(),
        _ => statement::parquet(rows, &query.by)?,
    })
}

/// Rows of charges by day; what has no price is no charge, and is said on standard error.
async fn focus(journal: &Journal, query: &UsageQuery, args: &UsageArgs) -> anyhow::Result<Vec<u8>> {
    ensure!(query.within.is_none(), "a FOCUS export is of the whole ledger: --account does not go with it");
    let charges = journal.charges(query.since, query.until).await?;
    let month = Month::of(query.since);
    let is_one_month = query.since >= month.start() && query.until <= month.end();
    let closed = if is_one_month { journal.closed_month(month).await? } else { None };
    let issuer = Issuer { name: args.issuer.clone(), invoice: closed.map(|closed| closed.month.to_string()) };
    let (rows, left_out) = statement::focus_rows(&charges, &journal.prices().await?, &issuer);
    if !left_out.is_nothing() {
        eprintln!(
            "note: {} requests with {} tokens have no price, so they are no charge and have no row",
            left_out.requests,
            left_out.usage.total()
        );
    }
    eprintln!(
        "FOCUS {}: {} rows, {} USD billed",
        statement::FOCUS_VERSION,
        rows.len(),
        statement::focus_billed(&rows)
    );
    Ok(match args.format {
        UsageFormat::FocusParquet => statement::focus_parquet(&rows)?,
        _ => statement::focus_csv(&rows).into_bytes(),
    })
}

fn deliver(bytes: &[u8], args: &UsageArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.output {
        return std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()));
    }
    let is_binary = matches!(args.format, UsageFormat::Parquet | UsageFormat::FocusParquet);
    let mut out = std::io::stdout();
    ensure!(
        !is_binary || !out.is_terminal(),
        "Parquet is no text for a terminal; write it to a file with --output FILE"
    );
    Ok(out.write_all(bytes)?)
}

async fn check(journal: &Journal) -> anyhow::Result<()> {
    let integrity = journal.check_integrity().await?;
    println!(
        "{} requests, {} entries, {} open holds",
        integrity.requests, integrity.entries, integrity.open_holds
    );
    for fault in &integrity.faults {
        println!("FAULT: {fault}");
    }
    anyhow::ensure!(integrity.is_sound(), "the ledger does not balance");
    println!("the ledger balances");
    Ok(())
}

/// One request: when, who, what, how it ended, what it used and cost.
fn request_line(row: &RequestRow) -> String {
    let hold = &row.held.hold;
    let start = format!("{}  {}  {}  {}", hold.at, hold.request, hold.account, hold.model);
    let Some(ending) = &row.ending else { return format!("{start}  open") };
    match &ending.how {
        How::Settled { usage, end, .. } => {
            let cost = ending.cost.map_or("unpriced".into(), |cost| format!("{cost} USD"));
            format!(
                "{start}  {end:?}  input {} (cached {})  output {}  {cost}",
                usage.input(),
                usage.cache_read,
                usage.output
            )
        }
        How::Released { reason } => format!("{start}  released: {reason:?}"),
        How::Saved { usage, way, worth } => {
            let (input, output) = (usage.input(), usage.output);
            let worth = worth.map_or("unpriced".into(), |worth| format!("{worth} USD"));
            format!("{start}  saved: {way:?}  input {input}  output {output}  {worth}")
        }
        How::Lost { reason, estimate: Some(usage) } => {
            format!("{start}  lost: {reason:?}  at most input {}  output {}", usage.input(), usage.output)
        }
        How::Lost { reason, estimate: None } => format!("{start}  usage unknown: {reason:?}"),
    }
}

/// Reads a span back from now (`90m`, `24h`, `7d`), a date in UTC, or a full timestamp.
fn instant(text: Option<&str>, now: jiff::Timestamp) -> anyhow::Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let seconds_of = |unit: char| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    };
    let unit = text.chars().last().and_then(seconds_of);
    let count = text.get(..text.len().saturating_sub(1)).and_then(|count| count.parse::<i64>().ok());
    let millis = if let (Some(unit), Some(count)) = (unit, count.filter(|count| *count >= 0)) {
        now.as_millisecond().saturating_sub(count.saturating_mul(unit * 1_000))
    } else if let Ok(date) = text.parse::<jiff::civil::Date>() {
        date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_millisecond()
    } else if let Ok(at) = text.parse::<jiff::Timestamp>() {
        at.as_millisecond()
    } else {
        anyhow::bail!("{text:?} is neither a span such as 90m, 24h or 7d nor a date such as 2026-01-31");
    };
    Ok(Some(Timestamp::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_spans_dates_or_timestamps() {
        let now: jiff::Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let read = |text| instant(Some(text), now).unwrap().unwrap().to_string();
        assert_eq!(read("2d"), "2026-03-08T12:00:00.000Z");
        assert_eq!(read("90m"), "2026-03-10T10:30:00.000Z");
        assert_eq!(read("2026-01-31"), "2026-01-31T00:00:00.000Z");
        assert_eq!(read("2026-01-31T10:00:00Z"), "2026-01-31T10:00:00.000Z");
        assert!(instant(None, now).unwrap().is_none());
        for wrong in ["", "d", "-3d", "yesterday", "2026-13-01"] {
            assert!(instant(Some(wrong), now).is_err(), "{wrong:?} must be refused");
        }
    }
}
