//! What a model's tokens cost, and since when.

use domain::{ModelName, Money, Price, Usage};

use crate::quantity::{DIMENSIONS, tokens};
use crate::{LedgerError, Timestamp};

/// One price per dimension of usage. A dimension without a price is unpriced, which is not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    pub input_uncached: Option<Price>,
    pub cache_read: Option<Price>,
    pub cache_write_5m: Option<Price>,
    pub cache_write_1h: Option<Price>,
    pub output: Option<Price>,
}

impl Prices {
    /// No dimension has a price: what a model without a price is set to.
    pub const UNPRICED: Prices = Prices {
        input_uncached: None,
        cache_read: None,
        cache_write_5m: None,
        cache_write_1h: None,
        output: None,
    };

    /// Returns the prices of a model of our own, which bills no cache writes.
    pub fn per_token(input_uncached: Price, cache_read: Price, output: Price) -> Self {
        Self {
            input_uncached: Some(input_uncached),
            cache_read: Some(cache_read),
            output: Some(output),
            ..Self::UNPRICED
        }
    }

    /// Returns the exact cost, or nothing when some of these tokens have no price.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        if *self == Self::UNPRICED {
            return None;
        }
        let mut cost = Money::ZERO;
        for (tokens, price) in tokens(usage).into_iter().zip(self.by_dimension()) {
            match price {
                Some(price) => cost += price.of(tokens),
                None if tokens == 0 => {}
                None => return None,
            }
        }
        Some(cost)
    }

    /// Returns the prices in the order of [`DIMENSIONS`].
    pub(crate) fn by_dimension(&self) -> [Option<Price>; DIMENSIONS.len()] {
        [self.input_uncached, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.output]
    }
    pub(crate) fn from_dimensions(prices: [Option<Price>; DIMENSIONS.len()]) -> Self {
        let [input_uncached, cache_read, cache_write_5m, cache_write_1h, output] = prices;
        Self { input_uncached, cache_read, cache_write_5m, cache_write_1h, output }
    }
}

/// The number of a row in the price table, kept beside every amount that was computed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceId(pub i64);

/// Prices of one model, as they were recorded; a version never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceVersion {
    pub id: PriceId,
    pub model: ModelName,
    pub prices: Prices,
    pub valid_from: Timestamp,
}

/// From an instant on, these are the model's prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceChange {
    pub model: ModelName,
    pub prices: Prices,
    pub valid_from: Timestamp,
}

impl PriceChange {
    /// Refuses a price that no row can hold.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        let limit = i64::MAX.unsigned_abs();
        match self.prices.by_dimension().into_iter().flatten().find(|price| price.pico_per_token() > limit) {
            None => Ok(()),
            Some(price) => Err(LedgerError::TooLarge {
                what: format!("a price of model {}", self.model),
                value: format!("{} USD a token", price.of(1)),
                limit: format!("{} USD a token", Money::from_pico(limit.into())),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(usd_per_million: &str) -> Price {
        usd_per_million.parse().unwrap()
    }

    #[test]
    fn cached_tokens_cost_their_own_price() {
        let prices = Prices::per_token(price("1"), price("0.1"), price("4"));
        let usage =
            Usage { input_uncached: 100, cache_read: 900, output: 10, reasoning: 8, ..Usage::default() };
        assert_eq!(prices.cost(&usage).unwrap().to_string(), "0.00023");
    }

    #[test]
    fn tokens_without_a_price_leave_the_whole_unpriced() {
        let prices = Prices::per_token(price("1"), price("0.1"), price("4"));
        assert_eq!(prices.cost(&Usage { cache_write_5m: 1, ..Usage::default() }), None);
        assert_eq!(prices.cost(&Usage::default()), Some(Money::ZERO));
        assert_eq!(Prices::UNPRICED.cost(&Usage::default()), None);
    }
}
