//! What in a list of prices should somebody look at?

use domain::{ModelName, Price};

use super::catalogue::Listed;
use super::{Multiplier, Rates, ServiceTier, Sheet, TierPrice};
use crate::Timestamp;

/// Something that is wrong, or may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub model: ModelName,
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Two statements exclude each other, or one cannot be meant.
    Contradiction,
    /// Sources disagree: check before billing.
    Disputed,
    /// Nobody has looked for long.
    Stale,
    /// Usage of this kind would be unpriced.
    Missing,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::Disputed => "disputed",
            Self::Stale => "stale",
            Self::Missing => "missing",
        }
    }
}

/// A price that nobody has seen for so many days is told as stale: prices of 2026 moved by 80 % within three weeks, but
/// half a year of silence is usual for older models.
pub const STALE_DAYS: i64 = 90;

/// Returns what should be looked at, the worst first.
pub fn check<'a>(prices: impl IntoIterator<Item = &'a Listed>, now: Timestamp) -> Vec<Finding> {
    let prices: Vec<&Listed> = prices.into_iter().collect();
    let mut findings = Vec::new();
    for (index, listed) in prices.iter().enumerate() {
        let model = listed.text.priced_as();
        let mut find = |severity, what| findings.push(Finding { severity, model: model.clone(), what });
        dates(listed, now, &mut find);
        if let Some(disputed) = &listed.text.disputed {
            find(Severity::Disputed, disputed.clone());
        }
        let same = |other: &&&Listed| {
            other.text.priced_as() == model
                && other.valid_from() == listed.valid_from()
                && other.sheet != listed.sheet
        };
        if prices[..index].iter().any(|other| same(&other)) {
            find(
                Severity::Contradiction,
                format!("two prices are in force since {}", listed.valid_from().day()),
            );
        }
        for (severity, what) in sheet(&listed.sheet) {
            find(severity, what);
        }
    }
    findings.sort_by(|a, b| (a.severity, &a.model).cmp(&(b.severity, &b.model)));
    findings
}

/// Returns what should be looked at in one sheet by itself.
pub fn sheet(sheet: &Sheet) -> Vec<(Severity, String)> {
    let mut findings = Vec::new();
    for (tier, schedule) in sheet.schedules() {
        for (above, rates) in std::iter::once((0, &schedule.rates))
            .chain(schedule.long.iter().map(|long| (long.above_input_tokens, &long.rates)))
        {
            let at =
                if above == 0 { tier.to_string() } else { format!("{tier}, above {above} input tokens") };
            if exceeds(rates.cache_read, rates.input_uncached) {
                findings.push((
                    Severity::Contradiction,
                    format!("{at}: reading a cache costs more than plain input"),
                ));
            }
            for name in missing(rates, &sheet.standard.rates) {
                findings.push((Severity::Missing, format!("{at}: no price for {name}")));
            }
        }
        for pair in schedule.every_rates().collect::<Vec<_>>().windows(2) {
            let cheaper = pair[0].named().into_iter().zip(pair[1].named());
            for ((name, short), (_, long)) in cheaper.filter(|((_, short), (_, long))| exceeds(*short, *long))
            {
                let (short, long) = (per_million(short), per_million(long));
                findings.push((
                    Severity::Contradiction,
                    format!(
                        "{tier}: {name} costs {long} USD for long inputs, less than {short} for short ones"
                    ),
                ));
            }
        }
    }
    for tier in [ServiceTier::Batch, ServiceTier::Flex] {
        match sheet.tiers.get(&tier) {
            Some(TierPrice::Times(times)) if *times > Multiplier::ONE => {
                findings.push((
                    Severity::Contradiction,
                    format!("{tier} costs {times} times the standard price"),
                ));
            }
            Some(TierPrice::Own(own)) if exceeds(own.rates.output, sheet.standard.rates.output) => {
                findings
                    .push((Severity::Contradiction, format!("{tier} costs more than the standard price")));
            }
            _ => {}
        }
    }
    for region in sheet.regions.iter().filter(|(_, times)| times.is_none()).map(|(region, _)| region) {
        findings.push((Severity::Missing, format!("the surcharge for the region {region} is unknown")));
    }
    findings
}

fn dates(listed: &Listed, now: Timestamp, find: &mut impl FnMut(Severity, String)) {
    let text = &listed.text;
    if let (Some(effective), Some(until)) = (text.effective, text.until)
        && until <= effective
    {
        find(Severity::Contradiction, format!("it ends on {until}, before it begins on {effective}"));
    }
    let Some(seen) = text.seen else { return };
    let days = now.day().0 - seen.midnight().day().0;
    if days < 0 {
        find(Severity::Contradiction, format!("it was seen on {seen}, which is in the future"));
    } else if days > STALE_DAYS {
        find(Severity::Stale, format!("seen {days} days ago, on {seen}"));
    }
}

/// Returns the dimensions that should have a price: input, cached input and output always, others where the standard has.
fn missing<'a>(rates: &'a Rates, standard: &'a Rates) -> impl Iterator<Item = &'static str> + 'a {
    let expected = standard
        .named()
        .into_iter()
        .map(|(name, price)| price.is_some() || ["input_uncached", "cache_read", "output"].contains(&name));
    rates
        .named()
        .into_iter()
        .zip(expected)
        .filter(|((_, price), expected)| *expected && price.is_none())
        .map(|((name, _), _)| name)
}

fn exceeds(price: Option<Price>, other: Option<Price>) -> bool {
    matches!((price, other), (Some(price), Some(other)) if price > other)
}

fn per_million(price: Option<Price>) -> String {
    price.map_or("-".into(), |price| price.of(1_000_000).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::catalogue;

    fn findings(prices: &str) -> Vec<String> {
        let vendor = catalogue::read("x.toml", &format!("vendor = 'x'\nname = 'X'\n{prices}")).unwrap();
        let now = "2026-11-21".parse::<crate::price::DateText>().unwrap().midnight();
        let line = |finding: Finding| format!("{}: {}", finding.severity.name(), finding.what);
        check(&vendor.prices, now).into_iter().map(line).collect()
    }

    #[test]
    fn each_thing_to_look_at_is_named_and_a_sound_price_is_silent() {
        const SOUND: &str =
            "[[price]]\nmodel='m'\nsource=['s']\nseen='2026-11-01'\ninput='2'\ncached='1'\noutput='4'\n";
        assert_eq!(findings(SOUND), [] as [&str; 0]);
        for (price, finding) in [
            (SOUND.replace("2026-11-01", "2026-08-01"), "stale: seen 112 days ago, on 2026-08-01"),
            (
                SOUND.replace("2026-11-01", "2027-01-01"),
                "contradiction: it was seen on 2027-01-01, which is in the future",
            ),
            (SOUND.replace("cached='1'\n", ""), "missing: standard: no price for cache_read"),
            (
                SOUND.replace("cached='1'", "cached='3'"),
                "contradiction: standard: reading a cache costs more than plain input",
            ),
            (
                format!("{SOUND}tiers={{batch='1.5'}}"),
                "contradiction: batch costs 1.5 times the standard price",
            ),
            (
                format!("{SOUND}regions={{eu='unpriced'}}"),
                "missing: the surcharge for the region eu is unknown",
            ),
            (format!("{SOUND}disputed='elsewhere 3'"), "disputed: elsewhere 3"),
            (
                format!("{SOUND}effective='2026-02-01'\nuntil='2026-01-01'"),
                "contradiction: it ends on 2026-01-01, before it begins on 2026-02-01",
            ),
            (
                format!("{SOUND}long=[{{above=9,input='1',cached='1',output='4'}}]"),
                "contradiction: standard: input_uncached costs 1.00 USD for long inputs, less than 2.00 for short ones",
            ),
            (
                format!("{SOUND}long=[{{above=9,input='3',output='4'}}]"),
                "missing: standard, above 9 input tokens: no price for cache_read",
            ),
            (
                format!("{SOUND}{}", SOUND.replace("'4'", "'5'")),
                "contradiction: two prices are in force since 2026-11-01",
            ),
        ] {
            assert_eq!(findings(&price), [finding], "{price}");
        }
    }
}
