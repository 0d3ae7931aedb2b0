//! What does usage cost under its circumstances?
//!
//! A sheet is one model's price: a vector over the dimensions of usage, varied by the length of the input, the service
//! tier and the region. The lifetime of a cache is a dimension of usage already.
//!
//! ```text
//!  amount of a dimension = tokens × rate(dimension, input length, service tier) × multipliers
//!  cost                  = Σ amounts + machine time + fee per request
//! ```
//!
//! Rates are whole picodollars a token, so without multipliers every amount is exact. Where a multiplier or a time does not
//! divide exactly, the amount of that dimension is rounded *up* to the next picodollar, once, after the multiplication: a
//! hold can then never be smaller than what it must cover, and the parts of a cost sum to the cost. What this adds is less
//! than one picodollar per dimension and request: under a cent in a billion requests.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use domain::{Money, Price, Usage};
use serde::{Deserialize, Serialize};

use super::{Circumstances, Region, ServiceTier};
use crate::LedgerError;

/// The price of one model at one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sheet {
    pub standard: Schedule,
    /// The other service tiers. One that is not here has no price.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<ServiceTier, TierPrice>,
    /// What processing in a named region multiplies tokens by; [`Sheet::ANY_REGION`] stands for every region that is not
    /// named. `None` is a surcharge nobody has stated: unpriced. An empty list says that regions cost the same.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<Region, Option<Multiplier>>,
    /// What an hour of machine time costs. An hour, because that is how machines are rented: 2.69 USD an hour is no whole
    /// number of picodollars a second. `None` is not charged, where tokens are priced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_hour: Option<Rate>,
    /// What a request costs for having used anything at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Rate>,
}

/// Prices by the length of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    pub rates: Rates,
    /// Ascending. The last tier that the input reaches prices the *whole* request, as every vendor with tiers bills it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub long: Vec<ContextTier>,
}

/// The rates of requests with more than so many input tokens, cached ones included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextTier {
    pub above_input_tokens: u64,
    pub rates: Rates,
}

/// One price per dimension of usage, each per token. A dimension without a price is unpriced, which is not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_uncached: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Price>,
}

/// How a service tier is priced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TierPrice {
    /// The standard rates, times this.
    Times(Multiplier),
    /// Rates of its own.
    Own(Schedule),
}

/// A decimal factor in millionths: a half is 500,000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Multiplier(u32);

/// An amount of picodollars for one of something that is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

/// A cost with its parts, which sum to it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub input_uncached: Money,
    pub cache_read: Money,
    pub cache_write_5m: Money,
    pub cache_write_1h: Money,
    pub output: Money,
    pub compute: Money,
    pub request: Money,
}

impl Sheet {
    /// Stands for every region that has no line of its own.
    pub const ANY_REGION: &'static str = "*";

    /// Returns the sheet of a model that has no price.
    pub fn unpriced() -> Self {
        Self::default()
    }

    /// Returns the sheet of a model of our own, which bills no cache writes.
    pub fn per_token(input_uncached: Price, cache_read: Price, output: Price) -> Self {
        let rates = Rates {
            input_uncached: Some(input_uncached),
            cache_read: Some(cache_read),
            output: Some(output),
            ..Rates::default()
        };
        Self { standard: Schedule { rates, long: Vec::new() }, ..Self::default() }
    }

    /// Returns the sheet of a model of our own that is paid by machine time; its tokens are included.
    pub fn per_compute_hour(hour: Rate) -> Self {
        let free = Price::from_pico_per_token(0);
        Self { compute_hour: Some(hour), ..Self::per_token(free, free, free) }
    }

    pub fn is_unpriced(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the exact cost, or nothing when some of this usage has no price under these circumstances.
    pub fn cost(&self, usage: &Usage, circumstances: &Circumstances) -> Option<Money> {
        self.parts(usage, circumstances).map(|cost| cost.total())
    }

    /// Returns the cost by what it was charged for, or nothing when some of this usage has no price.
    pub fn parts(&self, usage: &Usage, circumstances: &Circumstances) -> Option<Cost> {
        if self.is_unpriced() {
            return None;
        }
        let quote = self.quote(usage.input(), circumstances);
        Some(Cost {
            input_uncached: quote.amount(usage.input_uncached, quote.rates.input_uncached)?,
            cache_read: quote.amount(usage.cache_read, quote.rates.cache_read)?,
            cache_write_5m: quote.amount(usage.cache_write_5m, quote.rates.cache_write_5m)?,
            cache_write_1h: quote.amount(usage.cache_write_1h, quote.rates.cache_write_1h)?,
            output: quote.amount(usage.output, quote.rates.output)?,
            compute: self.compute_hour.map_or(Money::ZERO, |rate| rate.of_micros(usage.compute_us)),
            request: self.request.filter(|_| *usage != Usage::default()).map_or(Money::ZERO, Rate::amount),
        })
    }

    /// Returns what one token of each kind costs under these circumstances, before multipliers, and the multiplier.
    pub fn quote(&self, input_tokens: u64, circumstances: &Circumstances) -> Quote {
        let (schedule, tier) = match (circumstances.service_tier, self.tiers.get(&circumstances.service_tier))
        {
            (ServiceTier::Standard, _) => (Some(&self.standard), Some(Multiplier::ONE)),
            (_, Some(TierPrice::Times(times))) => (Some(&self.standard), Some(*times)),
            (_, Some(TierPrice::Own(schedule))) => (Some(schedule), Some(Multiplier::ONE)),
            (_, None) => (None, None),
        };
        let rates = schedule.map(|schedule| *schedule.rates_for(input_tokens)).unwrap_or_default();
        let multipliers =
            tier.zip(self.region(circumstances.region.as_ref())).map(|(tier, region)| [tier, region]);
        Quote { rates, multipliers }
    }

    /// Returns the canonical text that the store keeps: equal sheets have equal texts.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a sheet is numbers with names")
    }
    pub fn from_text(text: &str) -> Result<Self, LedgerError> {
        serde_json::from_str(text)
            .map_err(|error| LedgerError::Damaged(format!("a price sheet is unreadable: {error}")))
    }

    /// Returns the input tokens that such a request exceeds by the sheet's context tiers: 0 below all of them.
    pub fn context_tier(&self, input_tokens: u64, circumstances: &Circumstances) -> u64 {
        let schedule = match self.tiers.get(&circumstances.service_tier) {
            Some(TierPrice::Own(schedule)) => schedule,
            _ => &self.standard,
        };
        schedule.reached(input_tokens).map_or(0, |tier| tier.above_input_tokens)
    }

    /// Returns every schedule in the sheet with a name for it, for those who list or check all of it.
    pub fn schedules(&self) -> impl Iterator<Item = (ServiceTier, &Schedule)> {
        let own = self.tiers.iter().filter_map(|(tier, price)| match price {
            TierPrice::Own(schedule) => Some((*tier, schedule)),
            TierPrice::Times(_) => None,
        });
        std::iter::once((ServiceTier::Standard, &self.standard)).chain(own)
    }

    fn region(&self, region: Option<&Region>) -> Option<Multiplier> {
        let Some(region) = region.filter(|_| !self.regions.is_empty()) else { return Some(Multiplier::ONE) };
        *self.regions.get(region).or_else(|| self.regions.get(&Region::from(Self::ANY_REGION)))?
    }
}

impl Schedule {
    /// Returns the rates of every length of input, the shortest first.
    pub fn every_rates(&self) -> impl Iterator<Item = &Rates> {
        std::iter::once(&self.rates).chain(self.long.iter().map(|tier| &tier.rates))
    }
    pub fn rates_for(&self, input_tokens: u64) -> &Rates {
        self.reached(input_tokens).map_or(&self.rates, |tier| &tier.rates)
    }
    fn reached(&self, input_tokens: u64) -> Option<&ContextTier> {
        self.long.iter().rev().find(|tier| input_tokens > tier.above_input_tokens)
    }
}

impl Rates {
    /// Returns the prices with the names of their dimensions.
    pub fn named(&self) -> [(&'static str, Option<Price>); 5] {
        [
            ("input_uncached", self.input_uncached),
            ("cache_read", self.cache_read),
            ("cache_write_5m", self.cache_write_5m),
            ("cache_write_1h", self.cache_write_1h),
            ("output", self.output),
        ]
    }
}

/// The part of a sheet that prices one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    pub rates: Rates,
    /// `None`: nothing is known of this tier or region.
    pub multipliers: Option<[Multiplier; 2]>,
}

impl Quote {
    /// Returns what so many tokens of one dimension cost, or nothing where they have no price. No tokens cost nothing.
    pub fn amount(&self, tokens: u64, rate: Option<Price>) -> Option<Money> {
        match (rate, self.multipliers) {
            _ if tokens == 0 => Some(Money::ZERO),
            (Some(price), Some(multipliers)) => Some(multiplied(tokens, price, multipliers)),
            _ => None,
        }
    }
}

/// Returns tokens × price × multipliers, rounded up once. What does not fit 128 bits saturates; nobody can book it.
fn multiplied(tokens: u64, price: Price, [tier, region]: [Multiplier; 2]) -> Money {
    if (tier, region) == (Multiplier::ONE, Multiplier::ONE) {
        return Money::from_pico(i128::from(tokens).saturating_mul(price.pico_per_token().into()));
    }
    // The rate and both factors first: then one division, and one rounding, whatever the number of tokens.
    const UNIT: i128 = 1_000_000 * 1_000_000;
    let factor = i128::from(tier.0) * i128::from(region.0);
    let rate = i128::from(price.pico_per_token()).saturating_mul(factor);
    let (whole, rest) = (rate / UNIT, rate % UNIT);
    let tokens = i128::from(tokens);
    let fraction = (tokens * rest + (UNIT - 1)) / UNIT;
    Money::from_pico(tokens.saturating_mul(whole).saturating_add(fraction))
}

impl Cost {
    pub fn total(&self) -> Money {
        let parts = [
            self.input_uncached,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.output,
            self.compute,
            self.request,
        ];
        Money::from_pico(parts.iter().fold(0, |sum: i128, part| sum.saturating_add(part.pico())))
    }
}

impl Multiplier {
    pub const ONE: Multiplier = Multiplier(1_000_000);
    const MAX: u32 = 1_000 * 1_000_000;

    pub const fn from_millionths(millionths: u32) -> Self {
        Self(if millionths > Self::MAX { Self::MAX } else { millionths })
    }
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

/// `0.5`, `1.1`, `2`
impl fmt::Display for Multiplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let digits = format!("{fraction:06}");
        match digits.trim_end_matches('0') {
            "" => f.pad(&whole.to_string()),
            digits => f.pad(&format!("{whole}.{digits}")),
        }
    }
}
impl fmt::Debug for Multiplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "×{self}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a multiplier is a decimal number of at most 1000 with at most 6 decimals, such as 0.5; got {0:?}")]
pub struct NotAMultiplier(String);

impl FromStr for Multiplier {
    type Err = NotAMultiplier;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let millionths = super::decimal::scaled(text, 6).ok().and_then(|number| u32::try_from(number).ok());
        match millionths {
            Some(millionths) if millionths <= Self::MAX => Ok(Self(millionths)),
            _ => Err(NotAMultiplier(text.to_owned())),
        }
    }
}

impl Rate {
    pub const fn from_pico(pico: u64) -> Self {
        Self(pico)
    }
    pub const fn pico(self) -> u64 {
        self.0
    }
    pub fn amount(self) -> Money {
        Money::from_pico(self.0.into())
    }
    /// Returns what so many microseconds cost at this rate an hour, rounded up.
    fn of_micros(self, micros: u64) -> Money {
        const HOUR_US: i128 = 3_600_000_000;
        let exact = i128::from(self.0).saturating_mul(micros.into());
        Money::from_pico(exact / HOUR_US + i128::from(exact % HOUR_US > 0))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an amount is a decimal number of USD below 9,000,000 with at most 12 decimals, such as 2.69; got {0:?}"
)]
pub struct NotARate(String);

/// Reads USD, exactly.
impl FromStr for Rate {
    type Err = NotARate;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pico = super::decimal::scaled(text, 12).ok().and_then(|pico| u64::try_from(pico).ok());
        pico.filter(|pico| *pico < 9_000_000_000_000_000_000)
            .map(Self)
            .ok_or_else(|| NotARate(text.to_owned()))
    }
}

#[cfg(test)]
#[path = "sheet_tests.rs"]
mod tests;
