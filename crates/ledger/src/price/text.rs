//! How does a person write a price? The one TOML form of the catalogue's files, of `[[price]]` in a configuration and of
//! sheets given to a command: USD per million tokens, in quotes, so that no float comes near.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use domain::{ModelName, Price};
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{
    ContextTier, Multiplier, PriceChange, Provider, Rate, Rates, Region, Schedule, ServiceTier, Sheet,
    TierPrice,
};
use crate::Timestamp;

/// One price with where it is from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceText {
    pub model: ModelName,
    /// Whose model; without it, our own.
    pub provider: Option<Provider>,
    /// The name in the source, where that is another.
    pub listed_as: Option<String>,
    /// `closed`, `open-weight`, `open-weight hosted`.
    pub kind: Option<String>,
    /// Since when it is in force, as far as that is known: a day, or a month.
    pub effective: Option<DateText>,
    /// The day on which it ceases to be in force.
    pub until: Option<DateText>,
    /// The day on which somebody saw it.
    pub seen: Option<DateText>,
    pub confidence: Option<String>,
    #[serde(default)]
    pub source: Vec<String>,
    pub notes: Option<String>,
    /// What other sources say against it.
    pub disputed: Option<String>,
    /// Which of its numbers follow from a rule instead of standing in the source.
    pub derived: Option<String>,

    pub input: Option<Quoted<Price>>,
    pub cached: Option<Quoted<Price>>,
    pub cache_write_5m: Option<Quoted<Price>>,
    pub cache_write_1h: Option<Quoted<Price>>,
    pub output: Option<Quoted<Price>>,
    #[serde(default)]
    pub long: Vec<LongText>,
    #[serde(default)]
    pub tiers: BTreeMap<ServiceTier, TierText>,
    #[serde(default)]
    pub regions: BTreeMap<Region, SurchargeText>,
    /// USD for an hour of machine time.
    pub compute_hour: Option<Quoted<Rate>>,
    /// USD for a second of machine time.
    pub compute_second: Option<Quoted<Rate>>,
    /// USD for each request that used anything.
    pub request: Option<Quoted<Rate>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatesText {
    pub input: Option<Quoted<Price>>,
    pub cached: Option<Quoted<Price>>,
    pub cache_write_5m: Option<Quoted<Price>>,
    pub cache_write_1h: Option<Quoted<Price>>,
    pub output: Option<Quoted<Price>>,
    #[serde(default)]
    pub long: Vec<LongText>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongText {
    /// Input tokens that a request must exceed.
    pub above: u64,
    pub input: Option<Quoted<Price>>,
    pub cached: Option<Quoted<Price>>,
    pub cache_write_5m: Option<Quoted<Price>>,
    pub cache_write_1h: Option<Quoted<Price>>,
    pub output: Option<Quoted<Price>>,
}

/// `"0.5"`, or rates of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a service tier is a multiplier in quotes such as \"0.5\", or a table of prices in quotes"
)]
pub enum TierText {
    Times(Quoted<Multiplier>),
    Own(Box<RatesText>),
}

/// `"1.1"`, or `"unpriced"` where a surcharge exists that nobody has stated.
#[derive(Clone, Debug)]
pub struct SurchargeText(Option<Multiplier>);

/// A day; a month stands for its first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateText(jiff::civil::Date);

/// A value that is written in quotes because it must stay exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<T>(pub T);

/// What is wrong with a price that parses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price of {model}: {what}")]
pub struct WrongPrice {
    model: ModelName,
    what: String,
}

impl PriceText {
    /// Returns a price of which nothing is known but whose it is: `model`, or `provider/model`.
    pub fn named(priced_as: &str) -> Self {
        let (provider, model) = match priced_as.split_once('/') {
            Some((provider, model)) => (Some(Provider::new(provider)), model),
            None => (None, priced_as),
        };
        Self {
            model: ModelName::new(model),
            provider,
            listed_as: None,
            kind: None,
            effective: None,
            until: None,
            seen: None,
            confidence: None,
            source: Vec::new(),
            notes: None,
            disputed: None,
            derived: None,
            input: None,
            cached: None,
            cache_write_5m: None,
            cache_write_1h: None,
            output: None,
            long: Vec::new(),
            tiers: BTreeMap::new(),
            regions: BTreeMap::new(),
            compute_hour: None,
            compute_second: None,
            request: None,
        }
    }

    /// Returns the sheet, or what contradicts itself in it.
    pub fn sheet(&self) -> Result<Sheet, WrongPrice> {
        let wrong = |what: String| WrongPrice { model: self.model.clone(), what };
        let compute_hour = match (self.compute_hour, self.compute_second) {
            (Some(_), Some(_)) => return Err(wrong("give compute_hour or compute_second, not both".into())),
            (Some(Quoted(hour)), None) => Some(hour),
            (None, Some(Quoted(second))) => {
                let hour = second.pico().checked_mul(3_600);
                Some(Rate::from_pico(hour.ok_or_else(|| wrong("compute_second is too large".into()))?))
            }
            (None, None) => None,
        };
        let mut tiers = BTreeMap::new();
        for (tier, text) in &self.tiers {
            if *tier == ServiceTier::Standard {
                return Err(wrong(
                    "the standard tier is the price itself; name batch, flex or priority in tiers".into(),
                ));
            }
            let price = match text {
                TierText::Times(Quoted(times)) => TierPrice::Times(*times),
                TierText::Own(own) => {
                    TierPrice::Own(Schedule { rates: own.rates(), long: long(&own.long).map_err(wrong)? })
                }
            };
            tiers.insert(*tier, price);
        }
        let mut rates = self.rates();
        if compute_hour.is_some() && rates == Rates::default() {
            // Paid by time alone: the tokens are included, which is a price, and not unpriced.
            let included = Some(Price::from_pico_per_token(0));
            rates = Rates { input_uncached: included, cache_read: included, output: included, ..rates };
        }
        let standard = Schedule { rates, long: long(&self.long).map_err(wrong)? };
        let regions = self.regions.iter().map(|(region, text)| (region.clone(), text.0)).collect();
        let sheet =
            Sheet { standard, tiers, regions, compute_hour, request: self.request.map(|Quoted(rate)| rate) };
        if sheet.is_unpriced() {
            return Err(wrong("it has no price at all; give input and output, or compute_hour".into()));
        }
        Ok(sheet)
    }

    /// Returns the name under which the ledger keeps this price.
    pub fn priced_as(&self) -> ModelName {
        let provider = self.provider.clone().unwrap_or_else(Provider::local);
        super::Circumstances { provider, ..super::Circumstances::default() }.priced_as(&self.model)
    }

    /// Returns since when the price counts: its effective day, or else the day on which it was seen.
    pub fn valid_from(&self) -> Option<Timestamp> {
        self.effective.or(self.seen).map(DateText::midnight)
    }

    /// Returns the change that puts this price in force; `now` counts where no day is given.
    pub fn change(&self, now: Timestamp) -> Result<PriceChange, WrongPrice> {
        let valid_from = self.valid_from().unwrap_or(now);
        Ok(PriceChange { model: self.priced_as(), sheet: self.sheet()?, valid_from })
    }

    fn rates(&self) -> Rates {
        rates(&self.input, &self.cached, &self.cache_write_5m, &self.cache_write_1h, &self.output)
    }
}

impl RatesText {
    fn rates(&self) -> Rates {
        rates(&self.input, &self.cached, &self.cache_write_5m, &self.cache_write_1h, &self.output)
    }
}

type MaybePrice = Option<Quoted<Price>>;

fn rates(
    input: &MaybePrice,
    cached: &MaybePrice,
    w5: &MaybePrice,
    w1: &MaybePrice,
    output: &MaybePrice,
) -> Rates {
    let plain = |price: &MaybePrice| price.map(|Quoted(price)| price);
    Rates {
        input_uncached: plain(input),
        cache_read: plain(cached),
        cache_write_5m: plain(w5),
        cache_write_1h: plain(w1),
        output: plain(output),
    }
}

fn long(texts: &[LongText]) -> Result<Vec<ContextTier>, String> {
    if texts.windows(2).any(|pair| pair[0].above >= pair[1].above) {
        return Err("the tiers of `long` must ascend by `above`".into());
    }
    let tier = |text: &LongText| ContextTier {
        above_input_tokens: text.above,
        rates: rates(&text.input, &text.cached, &text.cache_write_5m, &text.cache_write_1h, &text.output),
    };
    Ok(texts.iter().map(tier).collect())
}

impl DateText {
    /// Returns the beginning of the day in UTC.
    pub fn midnight(self) -> Timestamp {
        let start = self.0.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp().as_millisecond());
        Timestamp::from_millis(start.unwrap_or(i64::MAX))
    }
    pub fn day(self) -> jiff::civil::Date {
        self.0
    }
}

impl fmt::Display for DateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DateText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let day = text.parse().or_else(|_| format!("{text}-01").parse());
        day.map(Self).map_err(|_| {
            format!("a date is a day such as 2026-09-03 or a month such as 2026-09; got {text:?}")
        })
    }
}

impl<'de> Deserialize<'de> for DateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Quoted::deserialize(deserializer).map(|Quoted(date)| date)
    }
}

impl<'de> Deserialize<'de> for SurchargeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Quoted(text) = Quoted::<String>::deserialize(deserializer)?;
        match text.as_str() {
            "unpriced" => Ok(Self(None)),
            text => text.parse().map(|times| Self(Some(times))).map_err(de::Error::custom),
        }
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Quoted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for Text<T> {
            type Value = Quoted<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value in quotes, such as \"0.25\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quoted<T>, E> {
                text.parse().map(Quoted).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use domain::Usage;

    use super::*;
    use crate::price::Circumstances;

    fn read(text: &str) -> Result<Sheet, String> {
        let price: PriceText = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        price.sheet().map_err(|error| error.to_string())
    }

    #[test]
    fn a_price_is_read_with_its_tiers_and_surcharges() {
        let sheet = read(
            r#"
            model = "m"
            input = "10"
            cached = "0.25"
            output = "50"
            long = [{ above = 272000, input = "20", output = "75" }]
            tiers = { batch = "0.5", priority = { input = "20", output = "100" } }
            regions = { "*" = "1.1", moon = "unpriced" }
            "#,
        )
        .unwrap();
        assert_eq!(sheet.standard.rates.cache_read, Some("0.25".parse().unwrap()));
        assert_eq!(sheet.standard.long[0].rates.output, Some("75".parse().unwrap()));
        assert_eq!(sheet.tiers[&ServiceTier::Batch], TierPrice::Times("0.5".parse().unwrap()));
        assert!(matches!(&sheet.tiers[&ServiceTier::Priority], TierPrice::Own(own) if own.long.is_empty()));
        assert_eq!(sheet.regions[&Region::from("moon")], None);
    }

    #[test]
    fn machine_time_can_be_written_by_the_second_and_includes_the_tokens() {
        let by_second = read("model = 'm'\ncompute_second = '0.001'").unwrap();
        let by_hour = read("model = 'm'\ncompute_hour = '3.6'").unwrap();
        assert_eq!(by_second, by_hour);
        let usage = Usage { input_uncached: 9, output: 9, compute_us: 1_500_000, ..Usage::default() };
        assert_eq!(by_hour.cost(&usage, &Circumstances::default()).unwrap().to_string(), "0.0015");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("model = 'm'\ninput = 0.5", "a value in quotes"),
            ("model = 'm'\ninput = '0.00000001'", "at most 6 decimals"),
            ("model = 'm'\ninput = '1'\ntiers = { standard = '1' }", "the standard tier is the price itself"),
            ("model = 'm'\ninput = '1'\ntiers = { turbo = '1' }", "unknown variant `turbo`"),
            ("model = 'm'\nimput = '1'", "unknown field `imput`"),
            ("model = 'm'", "no price at all"),
            ("model = 'm'\ncompute_hour = '1'\ncompute_second = '1'", "not both"),
            ("model = 'm'\ninput = '1'\nlong = [{ above = 9 }, { above = 8 }]", "must ascend"),
            ("model = 'm'\ninput = '1'\neffective = 'soon'", "a date is a day"),
            ("model = 'm'\ninput = '1'\nregions = { eu = 'more' }", "a multiplier is a decimal number"),
        ] {
            let refusal = read(text).unwrap_err();
            assert!(refusal.contains(why), "{text:?}: {refusal}");
        }
    }
}
