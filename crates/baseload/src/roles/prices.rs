//! `baseload prices`: what models cost, since when, and who says so.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use domain::{ModelName, Price};
use ledger::price::catalogue::{self, Listed, Vendor};
use ledger::price::check::{self, Severity};
use ledger::price::import::{self, Imported};
use ledger::price::{DateText, PriceText, Quoted};
use ledger::{
    Journal, Multiplier, PriceChange, PriceVersion, Provider, Rates, Schedule, ServiceTier, Sheet, TierPrice,
    Timestamp, statement,
};

use crate::cli::{ImportFormat, Place, PriceArgs, PriceCommand, PriceFormat, PriceSource, SetPriceArgs};
use crate::{now, place};

pub async fn prices(args: PriceArgs) -> anyhow::Result<()> {
    let place = args.place;
    match args.command {
        PriceCommand::List { from, provider, model, format } => {
            let wanted = Wanted { provider, model };
            let rows = match from {
                PriceSource::Ledger => ledger_rows(&in_ledger(&place).await?, &wanted),
                PriceSource::Catalogue => catalogue_rows(&catalogue::shipped()?, &wanted),
            };
            print!("{}", listed(&rows, format)?);
            Ok(())
        }
        PriceCommand::Show { model } => show(&place, &model).await,
        PriceCommand::Check { all } => check_prices(&place, all).await,
        PriceCommand::Import { format, file, provider, model, valid_from, dry_run } => {
            let wanted = Wanted { provider, model };
            let from = valid_from.as_deref().map(date).transpose()?.unwrap_or_else(now);
            let (changes, notes) = read_import(format, file.as_deref(), &wanted, from)?;
            notes.iter().for_each(|note| eprintln!("{note}"));
            ensure!(!changes.is_empty(), "nothing to take over: no price matches");
            take_over(&place, changes, dry_run).await
        }
        PriceCommand::Set(args) => set(&place, &args).await,
    }
}

/// Which models somebody asked for.
struct Wanted {
    provider: Option<String>,
    model: Option<String>,
}

impl Wanted {
    fn takes(&self, priced_as: &ModelName) -> bool {
        let name = priced_as.as_str();
        let provider = name.split_once('/').map_or(Provider::LOCAL, |(provider, _)| provider);
        self.provider.as_deref().is_none_or(|wanted| wanted == provider)
            && self.model.as_deref().is_none_or(|part| name.contains(part))
    }
}

/// A line of a price list.
struct Row {
    model: String,
    since: String,
    sheet: Sheet,
    /// Who says so; the ledger's own prices were set by an operator.
    source: String,
}

async fn in_ledger(place: &Place) -> anyhow::Result<Vec<PriceVersion>> {
    // A catalogue can be asked before there is any ledger.
    if let place::Ledger::File(path) = place::ledger(place, &place::config(place)?)?
        && !path.exists()
    {
        return Ok(Vec::new());
    }
    let journal = place::attach(place).await?;
    let versions = journal.prices().await?;
    journal.close().await;
    Ok(versions)
}

/// The versions in force, and those to come.
fn ledger_rows(versions: &[PriceVersion], wanted: &Wanted) -> Vec<Row> {
    let now = now();
    let mut rows: Vec<&PriceVersion> = Vec::new();
    let mut in_force: HashMap<&ModelName, &PriceVersion> = HashMap::new();
    for version in versions.iter().filter(|version| wanted.takes(&version.model)) {
        if version.valid_from > now {
            rows.push(version);
        } else if in_force.get(&version.model).is_none_or(|other| version.valid_from >= other.valid_from) {
            in_force.insert(&version.model, version);
        }
    }
    rows.extend(in_force.into_values());
    rows.sort_by(|a, b| (&a.model, a.valid_from).cmp(&(&b.model, b.valid_from)));
    let row = |version: &PriceVersion| Row {
        model: version.model.to_string(),
        since: since(version.valid_from),
        sheet: version.sheet.clone(),
        source: format!("version {}", version.id.0),
    };
    rows.into_iter().map(row).collect()
}

fn catalogue_rows(vendors: &[Vendor], wanted: &Wanted) -> Vec<Row> {
    let row = |listed: &Listed| Row {
        model: listed.text.priced_as().to_string(),
        since: since(listed.valid_from()),
        sheet: listed.sheet.clone(),
        source: format!(
            "{}{}",
            listed.text.confidence.as_deref().unwrap_or("unsaid"),
            listed.text.seen.map(|seen| format!(", seen {seen}")).unwrap_or_default()
        ),
    };
    let all = vendors.iter().flat_map(|vendor| &vendor.prices);
    all.filter(|listed| wanted.takes(&listed.text.priced_as())).map(row).collect()
}

fn listed(rows: &[Row], format: PriceFormat) -> anyhow::Result<String> {
    if rows.is_empty() {
        return Ok(match format {
            PriceFormat::Json => "[]\n".into(),
            _ => "no prices; see `baseload prices list --from catalogue`, `baseload prices import` and `baseload prices set`\n".into(),
        });
    }
    Ok(match format {
        PriceFormat::Table => {
            let heading =
                ["model", "since", "from", "input", "cached", "write 5m", "write 1h", "output", "besides"];
            let mut lines = vec![heading.map(str::to_owned).to_vec()];
            for row in rows {
                let mut cells = vec![row.model.clone(), row.since.clone(), row.source.clone()];
                cells.extend(rates(&row.sheet.standard.rates));
                cells.push(besides(&row.sheet));
                lines.push(cells);
            }
            statement::aligned(&lines, 3) + "USD per million tokens; - is unpriced, which is not free\n"
        }
        PriceFormat::Csv => {
            let mut text =
                String::from("model,since,from,input,cached,cache_write_5m,cache_write_1h,output\n");
            for row in rows {
                let prices = rates(&row.sheet.standard.rates)
                    .map(|price| if price == "-" { String::new() } else { price });
                text += &format!("{},{},\"{}\",{}\n", row.model, row.since, row.source, prices.join(","));
            }
            text
        }
        PriceFormat::Json => {
            let row = |row: &Row| {
                let sheet: serde_json::Value = serde_json::from_str(&row.sheet.to_text())?;
                Ok(
                    serde_json::json!({ "model": row.model, "since": row.since, "from": row.source, "sheet": sheet }),
                )
            };
            let rows = rows.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
            format!("{:#}\n", serde_json::Value::from(rows))
        }
    })
}

fn rates(rates: &Rates) -> [String; 5] {
    rates.named().map(|(_, price)| price.map_or("-".into(), |price| price.of(1_000_000).to_string()))
}

/// What else a sheet says, in a few words.
fn besides(sheet: &Sheet) -> String {
    let mut words: Vec<String> = Vec::new();
    words.extend(sheet.standard.long.iter().map(|long| format!(">{}k", long.above_input_tokens / 1_000)));
    for (tier, price) in &sheet.tiers {
        words.push(match price {
            TierPrice::Times(times) => format!("{tier} ×{times}"),
            TierPrice::Own(_) => tier.to_string(),
        });
    }
    for (region, times) in &sheet.regions {
        words.push(match times {
            Some(times) => format!("{region} ×{times}"),
            None => format!("{region} unpriced"),
        });
    }
    words.extend(sheet.compute_hour.map(|hour| format!("{}/machine hour", hour.amount())));
    words.extend(sheet.request.map(|fee| format!("{}/request", fee.amount())));
    words.join(", ")
}

async fn show(place: &Place, model: &str) -> anyhow::Result<()> {
    let versions = in_ledger(place).await?;
    let versions: Vec<&PriceVersion> =
        versions.iter().filter(|version| version.model.as_str() == model).collect();
    let vendors = catalogue::shipped()?;
    let listed: Vec<(&Vendor, &Listed)> = vendors
        .iter()
        .flat_map(|vendor| vendor.prices.iter().map(move |listed| (vendor, listed)))
        .filter(|(_, listed)| listed.text.priced_as().as_str() == model)
        .collect();
    if versions.is_empty() && listed.is_empty() {
        let near: Vec<String> = vendors
            .iter()
            .flat_map(|vendor| &vendor.prices)
            .map(|listed| listed.text.priced_as().to_string())
            .filter(|name| name.ends_with(&format!("/{model}")))
            .collect();
        ensure!(
            !near.is_empty(),
            "nothing is known of {model:?}; see `baseload prices list --from catalogue`"
        );
        bail!("nothing is known of {model:?}; did you mean {}?", near.join(" or "));
    }
    for version in versions {
        println!("{model}: version {} of the ledger, in force from {}", version.id.0, version.valid_from);
        print!("{}", sheet_table(&version.sheet));
    }
    for (vendor, listed) in listed {
        let PriceText { seen, until, confidence, notes, disputed, derived, .. } = &listed.text;
        println!("{model}: catalogue ({}), in force from {}", vendor.name, since(listed.valid_from()));
        print!("{}", sheet_table(&listed.sheet));
        let until = until.map(|until| format!("until {until}"));
        let seen = seen.map(|seen| format!("seen {seen}, {}", confidence.as_deref().unwrap_or("unsaid")));
        let dispute = disputed.as_ref().map(|what| format!("disputed: {what}"));
        let derived = derived.as_ref().map(|what| format!("derived: {what}"));
        let remark = vendor.remark.clone();
        for line in [until, seen, dispute, derived, notes.clone(), remark].into_iter().flatten() {
            println!("  {line}");
        }
        listed.text.source.iter().for_each(|source| println!("  source {source}"));
    }
    Ok(())
}

/// Every rate of a sheet, one line for each length of input and service tier.
fn sheet_table(sheet: &Sheet) -> String {
    if sheet.is_unpriced() {
        return "  unpriced\n".into();
    }
    let mut lines =
        vec![["", "input", "cached", "write 5m", "write 1h", "output"].map(str::to_owned).to_vec()];
    let mut add = |tier: ServiceTier, schedule: &Schedule, times: Option<Multiplier>| {
        let mut long = vec![(0, schedule.rates)];
        long.extend(schedule.long.iter().map(|tier| (tier.above_input_tokens, tier.rates)));
        for (above, of) in long {
            let name = if above == 0 { tier.to_string() } else { format!("{tier}, input above {above}") };
            let mut cells = vec![format!("  {name}")];
            cells.extend(
                of.named().map(|(_, price)| price.map_or("-".into(), |price| per_million(price, times))),
            );
            lines.push(cells);
        }
    };
    add(ServiceTier::Standard, &sheet.standard, None);
    for (tier, price) in &sheet.tiers {
        match price {
            TierPrice::Times(times) => add(*tier, &sheet.standard, Some(*times)),
            TierPrice::Own(own) => add(*tier, own, None),
        }
    }
    let mut text = statement::aligned(&lines, 1);
    for (region, times) in &sheet.regions {
        let named = if region.as_str() == Sheet::ANY_REGION {
            "any named region".to_owned()
        } else {
            format!("region {region}")
        };
        text += &match times {
            Some(times) => format!("  {named}: times {times}\n"),
            None => format!("  {named}: a surcharge that nobody has stated, so unpriced\n"),
        };
    }
    if let Some(hour) = sheet.compute_hour {
        text += &format!("  machine time: {} USD an hour\n", hour.amount());
    }
    if let Some(fee) = sheet.request {
        text += &format!("  each request: {} USD\n", fee.amount());
    }
    text
}

fn per_million(price: Price, times: Option<Multiplier>) -> String {
    let quote = ledger::Quote {
        rates: Rates { output: Some(price), ..Rates::default() },
        multipliers: Some([times.unwrap_or(Multiplier::ONE), Multiplier::ONE]),
    };
    quote.amount(1_000_000, Some(price)).map_or("-".into(), |cost| cost.to_string())
}

async fn check_prices(place: &Place, all: bool) -> anyhow::Result<()> {
    let now = now();
    let vendors = catalogue::shipped()?;
    let listed: Vec<&Listed> = vendors.iter().flat_map(|vendor| &vendor.prices).collect();
    let findings = check::check(listed.iter().copied(), now);
    let mut lines = Vec::new();
    let mut contradictions = 0;
    for finding in findings.iter().filter(|finding| all || finding.severity != Severity::Missing) {
        contradictions += usize::from(finding.severity == Severity::Contradiction);
        lines.push(vec![finding.severity.name().into(), finding.model.to_string(), finding.what.clone()]);
    }
    // What the ledger bills, and what the catalogue knows of it.
    for version in ledger_rows(&in_ledger(place).await?, &Wanted { provider: None, model: None }) {
        for (severity, what) in check::sheet(&version.sheet) {
            if all || severity != Severity::Missing {
                contradictions += usize::from(severity == Severity::Contradiction);
                lines.push(vec![
                    severity.name().into(),
                    version.model.clone(),
                    format!("in the ledger: {what}"),
                ]);
            }
        }
        let known = listed
            .iter()
            .rfind(|listed| listed.text.priced_as().as_str() == version.model && listed.valid_from() <= now);
        if known.is_some_and(|known| known.sheet != version.sheet) {
            let what = "the ledger's price is not the catalogue's".to_owned();
            lines.push(vec!["differs".into(), version.model.clone(), what]);
        }
    }
    print!("{}", statement::aligned(&lines, 3));
    let missing = findings.iter().filter(|finding| finding.severity == Severity::Missing).count();
    if !all && missing > 0 {
        println!("{missing} dimensions have no price, and use of them is unpriced; --all names them");
    }
    println!("{} prices of {} vendors checked", listed.len(), vendors.len());
    ensure!(contradictions == 0, "{contradictions} prices contradict themselves");
    Ok(())
}

fn read_import(
    format: ImportFormat,
    file: Option<&Path>,
    wanted: &Wanted,
    valid_from: Timestamp,
) -> anyhow::Result<(Vec<PriceChange>, Vec<String>)> {
    if format == ImportFormat::Catalogue {
        ensure!(
            file.is_none(),
            "the catalogue is built in and needs no file; for one of yours: prices import file FILE"
        );
        let vendors = catalogue::shipped()?;
        let wanted = vendors
            .iter()
            .flat_map(|vendor| &vendor.prices)
            .filter(|listed| wanted.takes(&listed.text.priced_as()));
        return Ok((catalogue::changes(wanted), Vec::new()));
    }
    let path = file.context("which file? Nothing is fetched; download it and name it here")?;
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let reading = || format!("reading {}", path.display());
    let imported = match format {
        ImportFormat::Litellm => import::litellm(&text).with_context(reading)?,
        ImportFormat::ModelsDev => import::models_dev(&text).with_context(reading)?,
        ImportFormat::File | ImportFormat::Catalogue => {
            let vendor = catalogue::read(&path.display().to_string(), &text)?;
            let prices = vendor.prices.iter().filter(|listed| wanted.takes(&listed.text.priced_as()));
            return Ok((catalogue::changes(prices), Vec::new()));
        }
    };
    Ok(foreign(imported, wanted, valid_from))
}

/// Returns the prices that are wanted, and what must be said of those that were left out.
fn foreign(imported: Imported, wanted: &Wanted, valid_from: Timestamp) -> (Vec<PriceChange>, Vec<String>) {
    let (mut changes, mut notes) = (Vec::new(), Vec::new());
    for price in imported.prices {
        let model = ModelName::new(format!("{}/{}", price.provider, price.model));
        if !wanted.takes(&model) {
            continue;
        }
        if !price.left_out.is_empty() {
            notes.push(format!(
                "{model}: not taken over, because a sheet has no place for it: {}",
                price.left_out.join(", ")
            ));
        }
        changes.push(PriceChange { model, sheet: price.sheet, valid_from });
    }
    let is_narrow = wanted.provider.is_some() || wanted.model.is_some();
    let skipped = imported.skipped.iter().filter(|skipped| {
        wanted.model.as_deref().is_none_or(|part| skipped.name.contains(part))
            && wanted.provider.as_deref().is_none_or(|provider| skipped.name.starts_with(provider))
    });
    if is_narrow {
        notes.extend(skipped.map(|skipped| format!("{}: skipped: {}", skipped.name, skipped.why)));
    } else if !imported.skipped.is_empty() {
        notes.push(format!(
            "{} models were skipped; name one with --model to learn why",
            imported.skipped.len()
        ));
    }
    (changes, notes)
}

async fn take_over(place: &Place, changes: Vec<PriceChange>, dry_run: bool) -> anyhow::Result<()> {
    let wanted = changes.len();
    if dry_run {
        let row = |change: &PriceChange| Row {
            model: change.model.to_string(),
            since: since(change.valid_from),
            sheet: change.sheet.clone(),
            source: "would be set".into(),
        };
        print!("{}", listed(&changes.iter().map(row).collect::<Vec<_>>(), PriceFormat::Table)?);
        return Ok(());
    }
    let journal = place::attach(place).await?;
    let recorded = journal.set_prices(changes).await?;
    journal.close().await;
    println!("{} of {wanted} prices recorded; the others were in force already", recorded.len());
    Ok(())
}

async fn set(place: &Place, args: &SetPriceArgs) -> anyhow::Result<()> {
    let sheet = if args.unpriced { Sheet::unpriced() } else { sheet_of(args)? };
    let valid_from = args.valid_from.as_deref().map(date).transpose()?.unwrap_or_else(now);
    let model = ModelName::new(args.model.as_str());
    let journal: Journal = place::attach(place).await?;
    let recorded = journal.set_prices(vec![PriceChange { model, sheet: sheet.clone(), valid_from }]).await?;
    journal.close().await;
    match recorded.first() {
        None => println!("{} has this price already", args.model),
        Some(version) => {
            println!("{}: version {}, in force from {}", args.model, version.id.0, version.valid_from)
        }
    }
    print!("{}", sheet_table(&sheet));
    Ok(())
}

fn sheet_of(args: &SetPriceArgs) -> anyhow::Result<Sheet> {
    fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
        flag: &str,
        text: &Option<String>,
    ) -> anyhow::Result<Option<Quoted<T>>> {
        let value = text.as_deref().map(str::parse).transpose();
        Ok(value.map_err(|error: T::Err| anyhow::anyhow!("{flag}: {error}"))?.map(Quoted))
    }
    let text = PriceText {
        input: read("--input", &args.input)?,
        cached: read("--cached", &args.cached)?,
        cache_write_5m: read("--cache-write-5m", &args.cache_write_5m)?,
        cache_write_1h: read("--cache-write-1h", &args.cache_write_1h)?,
        output: read("--output", &args.output)?,
        compute_hour: read("--compute-hour", &args.compute_hour)?,
        request: read("--request", &args.request)?,
        ..PriceText::named(&args.model)
    };
    let mut sheet = text.sheet()?;
    if let Some(Quoted(batch)) = read::<Multiplier>("--batch", &args.batch)? {
        sheet.tiers.insert(ServiceTier::Batch, TierPrice::Times(batch));
    }
    Ok(sheet)
}

/// A day or month in UTC, or a full timestamp.
fn date(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp::from_millis(at.as_millisecond()));
    }
    Ok(text.parse::<DateText>().map_err(anyhow::Error::msg)?.midnight())
}

/// A day where it is one, else the instant.
fn since(at: Timestamp) -> String {
    if at.millis() % 86_400_000 == 0 { at.day().to_string() } else { at.to_string() }
}
