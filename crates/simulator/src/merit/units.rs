//! Which six units answer, at which prices, how fast and where?
//!
//! Prices are the catalogue's own, with their sources; the engine's speed is measured (see `engine.rs`). Nothing that may be
//! published says how fast hosted models are and how often they fail: those numbers are assumptions, named in the table.

use std::time::Duration;

use domain::{Provider, Usage};
use fleet::{Tier, Unit};
use ledger::price::{Circumstances, Sheet, catalogue};

use crate::random::{Random, scramble};

pub const OWN: usize = 0;

/// A unit, what it asks and how it behaves.
#[derive(Clone, Debug)]
pub struct Supply {
    pub unit: Unit,
    pub sheet: Sheet,
    pub circumstances: Circumstances,
    pub behaviour: Behaviour,
    /// Paid whether it works or not, in thousandths of a dollar an hour.
    pub rent_milli_usd: u64,
}

impl Supply {
    pub fn cost(&self, usage: &Usage) -> Option<domain::Money> {
        self.sheet.cost(usage, &self.circumstances)
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// Our own engine: its queue is simulated.
    Engine,
    Hosted(Hosted),
}

/// A provider as it is seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct Hosted {
    pub ttft_ms: f64,
    pub ttft_ms_per_thousand: f64,
    pub per_token_ms: f64,
    /// Standard deviation of the logarithm of its times.
    pub spread: f64,
    /// Of our requests; beyond, each further one slows all.
    pub concurrency: f64,
    pub requests_per_minute: f64,
}

/// What is wrong with a unit for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// Nothing listens; what was under way breaks.
    Down,
    /// Every request is answered with a server error.
    Errors,
    /// Requests are taken and never answered.
    Silent,
    /// Everything takes so many times as long.
    Slow(f64),
}

#[derive(Clone, Copy, Debug)]
pub struct Spell {
    pub supply: usize,
    pub from_us: u64,
    pub until_us: u64,
    pub trouble: Trouble,
}

/// Returns the six. Electricity of our own card: 0.7 kW measured at full load, times 1.54 for the building (industry's mean PUE),
/// at 0.20 USD a kWh (assumed), over the 33,000 prompt tokens or 15,100 answer tokens that it does a second.
pub fn six() -> Vec<Supply> {
    let own = Sheet::per_token(price("0.001814"), price("0.001814"), price("0.003966"));
    let hosted = |vendor: &str, model: &str, place: &str, numbers: [f64; 6]| {
        let [ttft_ms, ttft_ms_per_thousand, per_token_ms, spread, concurrency, requests_per_minute] = numbers;
        let behaviour = Behaviour::Hosted(Hosted {
            ttft_ms,
            ttft_ms_per_thousand,
            per_token_ms,
            spread,
            concurrency,
            requests_per_minute,
        });
        let mut unit = Unit::new(model.into(), vendor.into());
        unit.jurisdictions = vec![place.into()];
        let circumstances = Circumstances { provider: Provider::new(vendor), ..Circumstances::default() };
        Supply { unit, sheet: listed(vendor, model), circumstances, behaviour, rent_milli_usd: 0 }
    };
    let mut unit = Unit::new("qwen3-8b".into(), Provider::local());
    unit.jurisdictions = vec!["eu".into()];
    unit.tier = Tier::OnPremises;
    let engine = Supply {
        unit,
        sheet: own,
        circumstances: Circumstances::default(),
        behaviour: Behaviour::Engine,
        rent_milli_usd: 2690,
    };
    vec![
        engine,
        hosted("groq", "llama-3.1-8b-instant", "us", [180.0, 20.0, 1.5, 0.30, 100.0, 600.0]),
        hosted("cerebras", "llama3.1-8b", "us", [250.0, 15.0, 0.7, 0.35, 80.0, 900.0]),
        hosted("together", "Llama-3.1-8B-Turbo", "us", [350.0, 60.0, 8.0, 0.35, 300.0, 3000.0]),
        hosted("fireworks", "llama-v3.1-8b", "us", [300.0, 50.0, 7.0, 0.35, 300.0, 3000.0]),
        hosted("mistral", "ministral-14b-2512", "eu", [330.0, 50.0, 9.0, 0.30, 300.0, 3000.0]),
    ]
}

/// One unit after the other fails, each in its own way, and hosted ones have slow spells besides, drawn by the seed.
pub fn spells(seed: u64, supplies: usize) -> Vec<Spell> {
    let minutes = |supply, from: u64, until: u64, trouble| Spell {
        supply,
        from_us: from * 60_000_000,
        until_us: until * 60_000_000,
        trouble,
    };
    let mut spells = vec![
        minutes(0, 20, 21, Trouble::Down),
        minutes(1, 30, 33, Trouble::Errors),
        minutes(3, 40, 42, Trouble::Silent),
        minutes(5, 50, 52, Trouble::Slow(5.0)),
    ];
    for supply in 1..supplies {
        let mut random = Random::new(scramble(seed ^ (supply as u64) << 32));
        let mut from_us = 0;
        loop {
            from_us += random.between(120, 900) as u64 * 1_000_000;
            if from_us > super::workload::HOUR_US {
                break;
            }
            let until_us = from_us + random.between(15, 60) as u64 * 1_000_000;
            spells.push(Spell { supply, from_us, until_us, trouble: Trouble::Slow(3.0) });
        }
    }
    spells
}

fn price(usd_per_million: &str) -> domain::Price {
    usd_per_million.parse().expect("it is written as a price")
}

fn listed(vendor: &str, model: &str) -> Sheet {
    let vendors = catalogue::shipped().expect("the shipped catalogue reads");
    let found = vendors.iter().find(|known| known.provider.as_str() == vendor);
    let prices = found.into_iter().flat_map(|vendor| &vendor.prices);
    let name = format!("{vendor}/{model}");
    let mut of_model = prices.filter(|listed| listed.text.priced_as().as_str() == name);
    of_model.next().unwrap_or_else(|| panic!("the catalogue has a price of {name}")).sheet.clone()
}

impl Hosted {
    /// Draws the times to the first token and between the others, in microseconds.
    pub fn draw(&self, input_tokens: u64, in_flight: u32, slowness: f64, random: &mut Random) -> (f64, f64) {
        let crowded = (f64::from(in_flight) / self.concurrency).max(1.0) * slowness;
        let mut vary = || (self.spread * random.normal()).exp();
        let first = self.ttft_ms + self.ttft_ms_per_thousand * input_tokens as f64 / 1000.0;
        (first * crowded * vary() * 1e3, self.per_token_ms * crowded * vary() * 1e3)
    }
}

/// A provider's limit on requests, refilled all the time; a sixth of a minute's worth may come at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    used: f64,
    as_of_us: u64,
}

impl Allowance {
    /// Returns how long to wait, if it is used up.
    pub fn take(&mut self, per_minute: f64, now_us: u64) -> Result<(), Duration> {
        let (per_second, burst) = (per_minute / 60.0, per_minute / 6.0);
        let refilled = now_us.saturating_sub(self.as_of_us) as f64 / 1e6 * per_second;
        self.used = (self.used - refilled).max(0.0);
        self.as_of_us = now_us;
        if self.used + 1.0 > burst {
            // As providers do: whole seconds, rounded up.
            return Err(Duration::from_secs_f64(((self.used + 1.0 - burst) / per_second).ceil()));
        }
        self.used += 1.0;
        Ok(())
    }
}
