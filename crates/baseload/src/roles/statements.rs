//! `baseload statements`: what each cost centre owes for a month, kept for good once the month is closed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, ensure};
use domain::Account;
use ledger::price::{Repricing, catalogue};
use ledger::{
    ChargeRow, Journal, Month, MonthStatement, PriceChange, Provider, RequestPlace, Terms, Timestamp,
    statement,
};

use crate::cli::{Place, StatementArgs, StatementCommand, StatementFormat};
use crate::{now, place};

pub async fn statements(args: StatementArgs) -> anyhow::Result<()> {
    let journal = place::attach_to_existing(&args.place).await?;
    let outcome = perform(&journal, &args.place, args.command).await;
    journal.close().await;
    outcome
}

async fn perform(journal: &Journal, place: &Place, command: StatementCommand) -> anyhow::Result<()> {
    match command {
        StatementCommand::List => {
            let months = journal.closed_months().await?;
            if months.is_empty() {
                println!("no month is closed; close one with: baseload statements close --month 2026-10");
            }
            months.iter().for_each(|month| println!("{month}"));
            Ok(())
        }
        StatementCommand::Show { month, reprice, format } => {
            let month = month.unwrap_or_else(|| Month::of(now()));
            let statement = match reprice {
                Some(sheet) => repriced(journal, place, month, &sheet).await?,
                None => match journal.closed_month(month).await? {
                    Some(closed) => {
                        tell_changes_since(journal, place, &closed).await?;
                        closed
                    }
                    None => open(journal, place, month).await?,
                },
            };
            print!(
                "{}",
                match format {
                    StatementFormat::Table => statement::month_table(&statement),
                    StatementFormat::Csv => statement::month_csv(&statement),
                    StatementFormat::Json => statement.to_text(),
                }
            );
            Ok(())
        }
        StatementCommand::Close { month, allow_unallocated } => {
            close(journal, place, month, allow_unallocated).await
        }
    }
}

/// What is booked to the month now.
async fn open(journal: &Journal, place: &Place, month: Month) -> anyhow::Result<MonthStatement> {
    let charges = journal.charges(month.start(), month.end()).await?;
    Ok(statement::statement(month, &charges, &terms(place)?))
}

async fn close(
    journal: &Journal,
    place: &Place,
    month: Month,
    allow_unallocated: bool,
) -> anyhow::Result<()> {
    let now = now();
    ensure!(month.end() <= now, "{month} is not over yet; it ends at {}", month.end());
    let begun = journal.open_holds().await?;
    let begun = begun.iter().filter(|held| held.hold.at < month.end()).count();
    ensure!(begun == 0, "{begun} requests that began in {month} have not ended; try again when they have");
    let mut statement = open(journal, place, month).await?;
    let unallocated = statement.unallocated();
    ensure!(
        allow_unallocated || unallocated.is_nothing(),
        "{} USD of {month} belong to no cost centre; give their accounts one (baseload admin accounts update), or close with \
         --allow-unallocated",
        unallocated.cost
    );
    statement.closed_at = Some(now.to_string());
    journal.close_month(statement.clone(), now, std::env::var("USER").ok()).await?;
    print!("{}", statement::month_table(&statement));
    Ok(())
}

/// A closed month stays as it was told; what came to it since is said, and belongs into a correction.
async fn tell_changes_since(journal: &Journal, place: &Place, closed: &MonthStatement) -> anyhow::Result<()> {
    let today = open(journal, place, closed.month).await?;
    let (then, now) = (closed.total(), today.total());
    if then != now {
        eprintln!(
            "note: since it was closed, {} was booked as {} requests and {} USD; the statement stays, and the difference \
             belongs into a correction",
            closed.month, now.requests, now.cost
        );
    }
    Ok(())
}

/// A view at other prices, each request by itself.
async fn repriced(
    journal: &Journal,
    place: &Place,
    month: Month,
    sheet: &str,
) -> anyhow::Result<MonthStatement> {
    let booked = journal.charges(month.start(), month.end()).await?;
    let cost_centres: HashMap<Account, Option<String>> =
        booked.iter().map(|charge| (charge.account.clone(), charge.cost_centre.clone())).collect();
    let mut repricing = Repricing::new(sheets(journal, sheet).await?);
    let mut seen = 0;
    let mut after = Some(RequestPlace::default());
    while let Some(place) = after {
        let (rows, next) = journal.requests_between(month.start(), month.end(), place).await?;
        for row in &rows {
            seen += u64::from(
                row.ending.as_ref().and_then(|ending| ending.usage()).is_some_and(|usage| usage.total() > 0),
            );
            repricing.add(row, &cost_centres);
        }
        after = next;
    }
    let with_tokens = |charge: &&ChargeRow| charge.used.usage.total() > 0;
    let expected: u64 = booked.iter().filter(with_tokens).map(|charge| charge.used.requests).sum();
    ensure!(
        seen >= expected,
        "{} of {expected} requests of {month} are no longer kept one by one (keep_requests_days), so they cannot be priced \
         anew",
        expected - seen
    );
    let mut statement = statement::statement(month, &repricing.charges(), &terms(place)?);
    statement.repriced_with = Some(sheet.to_owned());
    Ok(statement)
}

async fn sheets(journal: &Journal, sheet: &str) -> anyhow::Result<Vec<PriceChange>> {
    match sheet {
        "now" => {
            let now = now();
            let versions = journal.prices().await?;
            // Later versions overwrite earlier ones that begin no later.
            let mut in_force: BTreeMap<_, (Timestamp, PriceChange)> = BTreeMap::new();
            for version in versions.into_iter().filter(|version| version.valid_from <= now) {
                let change = PriceChange {
                    model: version.model.clone(),
                    sheet: version.sheet,
                    valid_from: Timestamp::MIN,
                };
                match in_force.get(&version.model) {
                    Some((from, _)) if *from > version.valid_from => {}
                    _ => drop(in_force.insert(version.model, (version.valid_from, change))),
                }
            }
            Ok(in_force.into_values().map(|(_, change)| change).collect())
        }
        "catalogue" => Ok(catalogue::changes(catalogue::shipped()?.iter().flat_map(|vendor| &vendor.prices))),
        file => {
            let text = std::fs::read_to_string(Path::new(file))
                .with_context(|| format!("--reprice takes `now`, `catalogue` or a file; reading {file}"))?;
            Ok(catalogue::changes(&catalogue::read(file, &text)?.prices))
        }
    }
}

fn terms(place: &Place) -> anyhow::Result<BTreeMap<Provider, Terms>> {
    let config = place::config(place)?;
    let one = |terms: &crate::config::TermsSetting| {
        Ok((terms.provider.clone(), terms.terms().map_err(anyhow::Error::msg)?))
    };
    config.terms.iter().map(one).collect()
}
