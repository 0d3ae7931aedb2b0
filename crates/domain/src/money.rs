//! What an amount of money is: an integer count of picodollars, never a float.
//!
//! The unit is 10⁻¹² USD. Published prices go down to 0.0036 USD per million tokens (3.6 × 10⁻⁹ USD a token), with half-price
//! batch tiers and tenths of a cent beyond; a picodollar divides all of them exactly, down to 0.000001 USD per million
//! tokens. An `i128` of picodollars holds any sum that can be owed; a stored entry is an `i64` (at most 9.2 million USD).

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub const PICO_PER_USD: i128 = 1_000_000_000_000;

/// An amount in picodollars (10⁻¹² USD).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i128);

impl Money {
    pub const ZERO: Money = Money(0);

    pub const fn from_pico(pico: i128) -> Self {
        Self(pico)
    }
    pub const fn pico(self) -> i128 {
        self.0
    }
    /// Returns the amount as a stored entry holds it, or nothing if one entry cannot hold it.
    pub fn entry_pico(self) -> Option<i64> {
        i64::try_from(self.0).ok()
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0 + other.0)
    }
}
impl Sub for Money {
    type Output = Money;
    fn sub(self, other: Money) -> Money {
        Money(self.0 - other.0)
    }
}
impl Neg for Money {
    type Output = Money;
    fn neg(self) -> Money {
        Money(-self.0)
    }
}
impl AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        self.0 += other.0;
    }
}
impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        amounts.fold(Money::ZERO, Add::add)
    }
}

/// Exact decimal dollars without trailing zeros, and at least two decimals: `0.00`, `-1.50`, `0.0000000036`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let pico = self.0.unsigned_abs();
        let (whole, fraction) = (pico / PICO_PER_USD as u128, pico % PICO_PER_USD as u128);
        let digits = format!("{fraction:012}");
        let digits = digits.trim_end_matches('0');
        write!(f, "{sign}{whole}.{digits:0<2}")
    }
}
impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} USD")
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount of money is a decimal number of USD with at most 12 decimals, such as 0.50; got {0:?}")]
pub struct MoneyParseError(String);

/// Reads what is displayed, without a sign, exactly.
impl FromStr for Money {
    type Err = MoneyParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || MoneyParseError(text.chars().take(64).collect());
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let fraction = fraction.trim_end_matches('0');
        // 18 digits of whole dollars are beyond all money there is, and far inside 128 bits of picodollars.
        if whole.is_empty()
            || !is_digits(whole)
            || !is_digits(fraction)
            || whole.len() > 18
            || fraction.len() > 12
        {
            return Err(wrong());
        }
        let pico: i128 = format!("{whole}{fraction:0<12}").parse().map_err(|_| wrong())?;
        Ok(Money(pico))
    }
}

/// A price of one token, in picodollars; written in configuration as USD per million tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(u64);

impl Price {
    pub const fn from_pico_per_token(pico: u64) -> Self {
        Self(pico)
    }
    pub const fn pico_per_token(self) -> u64 {
        self.0
    }
    pub fn of(self, tokens: u64) -> Money {
        Money(self.0 as i128 * tokens as i128)
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceParseError {
    #[error("a price is a decimal number of USD per million tokens, such as 0.25; got {0:?}")]
    NotDecimal(String),
    #[error("a price has at most 6 decimals per million tokens (one picodollar a token); got {0:?}")]
    TooFine(String),
    #[error("the price {0:?} is above 1,000,000 USD per million tokens; is the unit right?")]
    TooLarge(String),
}

/// Reads USD per million tokens, exactly: `"0.25"` is 250,000 picodollars a token.
impl FromStr for Price {
    type Err = PriceParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let not_decimal = || PriceParseError::NotDecimal(text.to_owned());
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return Err(not_decimal());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 6 {
            return Err(PriceParseError::TooFine(text.to_owned()));
        }
        let whole: u64 = whole.parse().map_err(|_| PriceParseError::TooLarge(text.to_owned()))?;
        if whole > 1_000_000 {
            return Err(PriceParseError::TooLarge(text.to_owned()));
        }
        let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| not_decimal())?;
        Ok(Price(whole * 1_000_000 + fraction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_exactly_or_refused() {
        let read = |text: &str| text.parse::<Price>().map(Price::pico_per_token);
        assert_eq!(read("0.25"), Ok(250_000));
        assert_eq!(read("0.0036"), Ok(3_600));
        assert_eq!(read("50"), Ok(50_000_000));
        assert_eq!(read("0.000001"), Ok(1));
        assert_eq!(read("1.500000000"), Ok(1_500_000));
        assert!(matches!(read("0.0000001"), Err(PriceParseError::TooFine(_))));
        assert!(matches!(read("-1"), Err(PriceParseError::NotDecimal(_))));
        assert!(matches!(read("1e3"), Err(PriceParseError::NotDecimal(_))));
        assert!(matches!(read(""), Err(PriceParseError::NotDecimal(_))));
        assert!(matches!(read("99999999"), Err(PriceParseError::TooLarge(_))));
    }

    #[test]
    fn money_is_read_exactly_or_refused() {
        let read = |text: &str| text.parse::<Money>().map(Money::pico);
        assert_eq!(read("0.50"), Ok(500_000_000_000));
        assert_eq!(read("12"), Ok(12 * PICO_PER_USD));
        assert_eq!(read("0.000000000001"), Ok(1));
        assert_eq!(read("7.5").map(|pico| Money::from_pico(pico).to_string()), Ok("7.50".to_owned()));
        for wrong in ["", ".5", "-1", "1e3", "0.0000000000001", "1,5", "9999999999999999999"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn money_prints_exact_dollars() {
        assert_eq!(Money::ZERO.to_string(), "0.00");
        assert_eq!(Price::from_str("0.0036").unwrap().of(1).to_string(), "0.0000000036");
        assert_eq!(Money::from_pico(-1_500_000_000_000).to_string(), "-1.50");
        assert_eq!(Price::from_str("2").unwrap().of(1_000_000).to_string(), "2.00");
    }
}
