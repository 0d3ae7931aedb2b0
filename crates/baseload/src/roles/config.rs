//! `baseload config check`: whether a configuration would be accepted, and what it means.

use std::path::Path;

use ledger::Sheet;

use crate::config::Config;

pub fn check(file: &Path) -> anyhow::Result<()> {
    let config = Config::read(file)?;
    println!("{}: ok", file.display());
    println!("listens on {}", config.listen);
    if config.models.is_empty() {
        println!("serves the bundled models");
    }
    for model in &config.models {
        let name = model.name.as_ref().map_or("(named after its folder)", |name| name.as_str());
        let price = match model.price.as_ref().map(|price| price.sheet()) {
            Some(Ok(sheet)) => sheet_line(&sheet),
            Some(Err(why)) => why,
            None => "unpriced".into(),
        };
        println!("serves {name} from {}: {price}", model.path.as_deref().unwrap_or_default());
    }
    for price in &config.prices {
        println!("prices {}: {}", price.priced_as(), sheet_line(&price.sheet()?));
    }
    Ok(())
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
