//! Can what a file says work, as far as the file alone can tell?

use std::collections::{BTreeMap, HashSet};

use domain::ModelName;

use super::Config;
use super::read::{At, Mistakes, nearest};
use super::units::Unit;

/// Notes everything that parses but cannot work.
pub fn check(config: &Config, mistakes: &mut Mistakes) {
    check_ledger(config, mistakes);
    check_numbers(config, mistakes);
    check_providers(config, mistakes);
    check_models(config, mistakes);
    check_routes(config, mistakes);
    check_residency(config, mistakes);
}

/// Returns that there is nothing of this name, and what was probably meant.
pub fn unknown(what: &str, named: &str, known: &[&str]) -> String {
    match nearest(named, known.iter().copied()) {
        Some(meant) => format!("there is no {what} {named:?}; did you mean {meant:?}?"),
        None if known.is_empty() => format!("there is no {what} {named:?}; the file has none"),
        None => format!("there is no {what} {named:?}; there is {}", known.join(", ")),
    }
}

fn check_ledger(config: &Config, mistakes: &mut Mistakes) {
    mistakes.note(At::section("tasks"), config.tasks.check());
    for (nth, limit) in config.budgets.iter().enumerate() {
        mistakes.note(At::entry("limit", nth), limit.limit(ledger::Timestamp::default()));
    }
    for (nth, setting) in config.accounts.iter().enumerate() {
        let at = At::entry("account", nth).key("path");
        let read = ledger::account::account(&setting.path).map_err(|error| format!("[[account]]: {error}"));
        mistakes.note(at.clone(), read);
        if config.accounts[..nth].iter().any(|other| other.path == setting.path) {
            mistakes.add(at, format!("two [[account]] have the path {:?}; keep one of them", setting.path));
        }
    }
    for (nth, price) in config.prices.iter().enumerate() {
        mistakes.note(At::entry("price", nth), price.sheet());
    }
    for (nth, terms) in config.terms.iter().enumerate() {
        let checked = terms.terms().map_err(|why| format!("the terms of {}: {why}", terms.provider));
        mistakes.note(At::entry("terms", nth), checked);
    }
}

fn check_numbers(config: &Config, mistakes: &mut Mistakes) {
    let positive = [
        ("engine", "kv_mib", config.engine.kv_mib as u64),
        ("engine", "max_running", config.engine.max_running as u64),
        ("engine", "step_target_ms", config.engine.step_target_ms),
        ("ledger", "spool_mib", config.ledger.spool_mib),
        ("ledger", "spool_seconds", config.ledger.spool_seconds),
        ("limits", "body_mib", config.limits.body_mib as u64),
        ("limits", "connections", config.limits.connections as u64),
        ("limits", "header_timeout_seconds", config.limits.header_timeout_seconds),
        ("limits", "body_timeout_seconds", config.limits.body_timeout_seconds),
        ("limits", "request_timeout_seconds", config.limits.request_timeout_seconds),
        ("limits", "slow_reader_timeout_seconds", config.limits.slow_reader_timeout_seconds),
        ("responses", "keep_days", config.responses.keep_days.into()),
        ("responses", "max_mib", config.responses.max_mib),
    ];
    for (section, field, _) in positive.iter().filter(|(_, _, value)| *value == 0) {
        mistakes.add(At::section(section).key(field), format!("{section}.{field} must be at least 1"));
    }
    if config.engine.kv_disk_mib > 0 && !config.engine.prefix_cache {
        let at = At::section("engine").key("kv_disk_mib");
        mistakes
            .add(at, "what is on disk is found by the prefix cache: set engine.prefix_cache = true as well");
    }
}

fn check_providers(config: &Config, mistakes: &mut Mistakes) {
    for (nth, provider) in config.providers.iter().enumerate() {
        let at = At::entry("provider", nth);
        provider.check(&at, mistakes);
        if config.providers[..nth].iter().any(|other| other.name == provider.name) {
            let what =
                format!("two [[provider]] are named {:?}; give one of them another name", provider.name);
            mistakes.add(at.key("name"), what);
        }
    }
    let engine = At::section("engine");
    let jurisdictions = &config.engine.jurisdictions;
    super::providers::check_words(jurisdictions, "a jurisdiction", &engine.key("jurisdictions"), mistakes);
    let classes = config.engine.data_classes.as_deref().unwrap_or_default();
    super::providers::check_words(classes, "a data class", &engine.key("data_classes"), mistakes);
}

fn check_models(config: &Config, mistakes: &mut Mistakes) {
    for (nth, model) in config.models.iter().enumerate() {
        model.check(&config.providers, &At::entry("model", nth), mistakes);
    }
    check_names(config, mistakes);
    check_prices(config, mistakes);
}

/// Several models may share a name where their providers differ, for then they are units of one name. Beyond that a name
/// means one thing.
fn check_names(config: &Config, mistakes: &mut Mistakes) {
    let mut units = HashSet::new();
    // Whose name or alias it is: of the models of this public name.
    let mut meanings: BTreeMap<ModelName, ModelName> = BTreeMap::new();
    for model in &config.models {
        meanings.insert(model.public_name(), model.public_name());
    }
    for (nth, model) in config.models.iter().enumerate() {
        let (at, name) = (At::entry("model", nth), model.public_name());
        if !units.insert((name.clone(), model.provider.clone())) {
            let what = match &model.provider {
                Some(provider) => {
                    format!("two models are named {name:?} at the provider {provider:?}; keep one of them")
                }
                None => format!("two models are named {name:?}; give one of them another `name` or alias"),
            };
            mistakes.add(at.key("name"), what);
        }
        for (place, alias) in model.aliases.iter().enumerate() {
            let meant = meanings.entry(alias.clone()).or_insert_with(|| name.clone());
            if *meant != name {
                let what =
                    format!("two models are named {alias:?}; give one of them another `name` or alias");
                mistakes.add(at.key("aliases").nth(place), what);
            }
        }
    }
}

/// The ledger keeps one price for a vendor's model, so two units that share both cannot differ.
fn check_prices(config: &Config, mistakes: &mut Mistakes) {
    let mut seen: Vec<(Unit<'_>, ledger::Sheet)> = Vec::new();
    for (nth, unit) in config.units_with_places() {
        let Some(Ok(sheet)) = unit.model.price.as_ref().map(|price| price.sheet()) else { continue };
        let differs = seen.iter().find(|(other, sheet_of_other)| {
            other.name() == unit.name() && other.vendor() == unit.vendor() && *sheet_of_other != sheet
        });
        if let Some((other, _)) = differs {
            let what = format!(
                "{} and {} have different prices under one vendor, {}; give one of their providers a `vendor` of its own",
                other.title(),
                unit.title(),
                unit.vendor()
            );
            mistakes.add(At::entry("model", nth).key("price"), what);
        }
        seen.push((unit, sheet));
    }
}

fn check_routes(config: &Config, mistakes: &mut Mistakes) {
    for (nth, route) in config.routes.iter().enumerate() {
        let at = At::entry("route", nth);
        route.check(&at, mistakes);
        if config.routes[..nth].iter().any(|other| other.name == route.name) {
            mistakes
                .add(at.key("name"), format!("two routes are named {:?}; rename one of them", route.name));
        }
        if config.models.iter().any(|model| model.answers_to(&route.name)) {
            let what =
                format!("{:?} is a model already, by name or alias; give the route another name", route.name);
            mistakes.add(at.key("name"), what);
        }
        let mut is_known = true;
        for (place, name) in route.models.iter().enumerate() {
            if !config.models.iter().any(|model| model.answers_to(name)) {
                let known: Vec<ModelName> = config.models.iter().map(|model| model.public_name()).collect();
                let known: Vec<&str> = known.iter().map(ModelName::as_str).collect();
                mistakes.add(at.key("models").nth(place), unknown("model", name.as_str(), &known));
                is_known = false;
            }
        }
        for (place, class) in route.classes.iter().enumerate() {
            if !config.models.iter().any(|model| model.classes.contains(class)) {
                let known: Vec<&str> =
                    config.models.iter().flat_map(|model| &model.classes).map(String::as_str).collect();
                mistakes.add(at.key("classes").nth(place), unknown("class of models", class, &known));
                is_known = false;
            }
        }
        let named: Vec<Unit<'_>> = config.units().filter(|unit| unit.is_named_by(route)).collect();
        if is_known && !named.is_empty() && named.iter().all(|unit| unit.why_not(route).is_some()) {
            let why: Vec<String> = named
                .iter()
                .filter_map(|unit| Some(format!("{}: {}", unit.title(), unit.why_not(route)?)))
                .collect();
            mistakes
                .add(at, format!("no unit can ever answer the route {:?}: {}", route.name, why.join("; ")));
        }
    }
}

fn check_residency(config: &Config, mistakes: &mut Mistakes) {
    for (nth, rule) in config.residency.iter().enumerate() {
        let at = At::entry("residency", nth);
        rule.check(&at, mistakes);
        if config.residency[..nth].iter().any(|other| other.name == rule.name) {
            mistakes.add(at.key("name"), format!("two [[residency]] are named {:?}; rename one", rule.name));
        }
        for (place, account) in rule.accounts.iter().flatten().enumerate() {
            let at = at.key("accounts").nth(place);
            if let Err(error) = ledger::account::account(account.as_str()) {
                mistakes.add(at, error);
                continue;
            }
            // A rule for a misspelt account would protect nobody, in silence.
            let is_declared = config
                .accounts
                .iter()
                .any(|declared| ledger::account::is_within(&declared.path.as_str().into(), account));
            if !is_declared {
                let known: Vec<&str> = config.accounts.iter().map(|account| account.path.as_str()).collect();
                let what = unknown("[[account]] with the path", account.as_str(), &known);
                mistakes.add(
                    at,
                    format!("{what}; a rule for an account that is not declared could protect nobody"),
                );
            }
        }
    }
}

impl Config {
    /// Returns the units with their places among the file's `[[model]]`s.
    fn units_with_places(&self) -> impl Iterator<Item = (usize, Unit<'_>)> {
        self.units().filter_map(|unit| {
            let place = self.models.iter().position(|model| std::ptr::eq(model, unit.model))?;
            Some((place, unit))
        })
    }
}
