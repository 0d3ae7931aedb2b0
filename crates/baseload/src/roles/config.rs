//! `baseload config`: whether a configuration would be accepted and what it means, and how one of another program becomes ours.

use std::path::Path;

use anyhow::{Context, ensure};
use ledger::Sheet;

use crate::cli::ConfigCommand;
use crate::config::{Config, RouteSetting, Unit};
use crate::prices::{Prices, UnitPrice};
use crate::{litellm, now, table};

pub async fn config(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { file, secrets, unpriced } => check(&file, secrets, unpriced),
        ConfigCommand::ImportLitellm { file } => import_litellm(&file),
    }
}

fn import_litellm(file: &Path) -> anyhow::Result<()> {
    let yaml = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let imported = litellm::import(&yaml, |name| std::env::var(name).ok())
        .map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
    // What we write must be what we would accept: a file that cannot be used helps nobody.
    Config::parse(Path::new("baseload.toml"), &imported.toml)
        .context("what was made of it would not be accepted")?;
    print!("{}", imported.toml);
    let count = imported.remarks.len();
    if count > 0 {
        eprintln!("{count} remarks on what to do and what was not carried over stand at the top");
    }
    Ok(())
}

fn check(file: &Path, needs_secrets: bool, needs_prices: bool) -> anyhow::Result<()> {
    let config = Config::read(file)?;
    println!("{}: ok\nlistens on {}", file.display(), config.listen);
    if config.models.is_empty() {
        println!("serves the bundled models");
    }
    for price in &config.prices {
        println!("prices {}: {}", price.priced_as(), sheet_line(&price.sheet()?));
    }
    let unpriced = print_units(&config)?;
    print_routes(&config);
    print_residency(&config);
    let missing = missing_secrets(&config);
    missing.iter().for_each(|what| println!("{what}"));
    ensure!(!needs_secrets || missing.is_empty(), "{} of the secrets cannot be had", missing.len());
    ensure!(!needs_prices || unpriced.is_empty(), "without a price: {}", unpriced.join(", "));
    Ok(())
}

/// Prints the units, and returns those without a price.
fn print_units(config: &Config) -> anyhow::Result<Vec<String>> {
    let (prices, now) = (Prices::of(config)?, now());
    let mut unpriced = Vec::new();
    let mut rows = Vec::new();
    for unit in config.units() {
        let price = prices.price(&unit, &[], now);
        if price.sheet().is_none() {
            unpriced.push(unit.title());
        }
        rows.push(unit_row(&unit, &price));
    }
    if !rows.is_empty() {
        let headings =
            ["model", "provider", "tier", "jurisdictions", "in", "out", "price from", "quality", "can"];
        println!("\n{}", table::text(&headings, rows.into_iter()).trim_end());
    }
    if !unpriced.is_empty() {
        println!(
            "unpriced: {}; give them a `price`, their provider the `vendor` that the catalogue knows, or set a price with `baseload \
             prices set` (what the ledger has is not looked up here)",
            unpriced.join(", ")
        );
    }
    Ok(unpriced)
}

fn unit_row(unit: &Unit<'_>, price: &UnitPrice) -> Vec<String> {
    let rates = price.sheet().map(|sheet| sheet.standard.rates).unwrap_or_default();
    let million =
        |rate: Option<domain::Price>| rate.map_or("-".into(), |rate| rate.of(1_000_000).to_string());
    let hour = price.sheet().and_then(|sheet| sheet.compute_hour);
    let input = hour.map_or_else(|| million(rates.input_uncached), |hour| format!("{}/h", hour.amount()));
    let can: Vec<&str> = unit.capabilities().iter().map(|capability| capability.name()).collect();
    let jurisdictions = unit.jurisdictions();
    vec![
        unit.name().to_string(),
        unit.provider_name().to_owned(),
        unit.tier().name().to_owned(),
        if jurisdictions.is_empty() { "unknown".into() } else { jurisdictions.join(",") },
        input,
        million(rates.output),
        price.source(),
        unit.model.quality.map_or("-".into(), |quality| quality.to_string()),
        can.join(" "),
    ]
}

/// For each route, what answers it and why not the rest of those that it names.
fn print_routes(config: &Config) {
    for route in &config.routes {
        println!("\nroute {}: {}", route.name, needs(route));
        for unit in config.units().filter(|unit| unit.is_named_by(route)) {
            match unit.why_not(route) {
                None => println!("  yes  {}", unit.title()),
                Some(why) => println!("  no   {}: {why}", unit.title()),
            }
        }
    }
}

/// What a route asks for, in a line.
fn needs(route: &RouteSetting) -> String {
    let mut words = vec![format!("by {}", route.order.name())];
    words.extend(route.quality_min.map(|quality| format!("quality from {quality}")));
    words.extend(route.ttft_ms.map(|ms| format!("first token within {ms} ms")));
    words.extend(route.tokens_per_second.map(|rate| format!("{rate} tokens a second")));
    words.extend(route.probability.map(|share| format!("in {} % of requests", share * 100.0)));
    words.extend(route.jurisdictions.as_ref().map(|places| format!("in {}", places.join(" or "))));
    words.extend(route.data_class.as_ref().map(|class| format!("{class} data")));
    let tiers = route
        .tiers
        .as_ref()
        .map(|tiers| tiers.iter().map(|tier| tier.name()).collect::<Vec<_>>().join(" or "));
    words.extend(tiers);
    words.extend(route.service_tier.map(|tier| format!("service tier {tier}")));
    words.join(", ")
}

fn print_residency(config: &Config) {
    for rule in &config.residency {
        let list = |accounts: &Vec<domain::Account>| {
            accounts.iter().map(|account| account.as_str()).collect::<Vec<_>>().join(", ")
        };
        let who = rule.accounts.as_ref().map_or("everybody".into(), list);
        let what = rule.data_classes.as_ref().map_or("all".into(), |classes| classes.join(" and "));
        println!(
            "\nresidency {}: {what} data of {who} stays in {}",
            rule.name,
            rule.jurisdictions.join(" or ")
        );
        let admits = |unit: &Unit<'_>| {
            let places = unit.jurisdictions();
            !places.is_empty() && places.iter().all(|place| rule.jurisdictions.contains(place))
        };
        let admitted: Vec<String> = config.units().filter(admits).map(|unit| unit.title()).collect();
        println!(
            "  {}",
            if admitted.is_empty() { "no unit may answer it".into() } else { admitted.join(", ") }
        );
    }
}

/// Returns a line for each secret that is not to be had, without anything of its value.
fn missing_secrets(config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    for provider in &config.providers {
        for (setting, source) in provider.secrets() {
            if let Err(error) = source.read() {
                missing.push(format!("provider {}: {setting}: {error}", provider.name));
            }
        }
    }
    if let Some(Err(error)) = config.cache.redis.as_ref().map(|redis| redis.url.read()) {
        missing.push(format!("cache.redis.url: {error}"));
    }
    missing
}

/// A sheet in a few words.
fn sheet_line(sheet: &Sheet) -> String {
    let rates = &sheet.standard.rates;
    let mut words = Vec::new();
    for (name, price) in [("in", rates.input_uncached), ("cached", rates.cache_read), ("out", rates.output)] {
        words.extend(price.map(|price| format!("{} USD {name}", price.of(1_000_000))));
    }
    let mut line = words.join(", ");
    if !line.is_empty() {
        line += " per million tokens";
    }
    if let Some(hour) = sheet.compute_hour {
        line += &format!(", {} USD per machine hour", hour.amount());
    }
    line
}
