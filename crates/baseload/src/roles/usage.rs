//! `baseload usage`: what was used and what it cost, from the ledger itself.

use anyhow::Context;
use ledger::{Dimension, How, Journal, RequestRow, Timestamp, UsageQuery, statement};

use crate::cli::{UsageArgs, UsageBy, UsageFormat};
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
        let rows = journal.recent_requests(count as usize).await?;
        rows.iter().for_each(|row| println!("{}", request_line(row)));
        return Ok(());
    }
    let now = jiff::Timestamp::now();
    let query = UsageQuery {
        by: args.by.iter().map(|by| dimension(*by)).collect(),
        since: instant(args.since.as_deref(), now).context("--since")?.unwrap_or(Timestamp::MIN),
        until: instant(args.until.as_deref(), now).context("--until")?.unwrap_or(Timestamp::MAX),
    };
    let rows = journal.usage(&query).await?;
    let text = match args.format {
        UsageFormat::Table => statement::table(&rows, &query.by),
        UsageFormat::Csv => statement::csv(&rows, &query.by),
        UsageFormat::Json => statement::json(&rows, &query.by),
    };
    print!("{text}");
    Ok(())
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
        How::Lost { reason, estimate: Some(usage) } => format!(
            "{start}  lost: {reason:?}  at most input {}  output {}",
            usage.input(),
            usage.output
        ),
        How::Lost { reason, estimate: None } => format!("{start}  usage unknown: {reason:?}"),
    }
}

fn dimension(by: UsageBy) -> Dimension {
    match by {
        UsageBy::Account => Dimension::Account,
        UsageBy::Model => Dimension::Model,
        UsageBy::Day => Dimension::Day,
        UsageBy::End => Dimension::End,
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
