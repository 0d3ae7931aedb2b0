//! What a model's tokens cost, and since when.

pub mod catalogue;
pub mod check;
mod circumstances;
mod decimal;
pub mod import;
mod reprice;
mod sheet;
mod terms;
mod text;

use domain::{ModelName, Money};

pub use self::circumstances::{Circumstances, Provider, Region, ServiceTier, UnknownTier};
pub use self::reprice::Repricing;
pub use self::sheet::{
    ContextTier, Cost, Multiplier, NotAMultiplier, NotARate, Quote, Rate, Rates, Schedule, Sheet, TierPrice,
};
pub use self::terms::{Bill, Reach, Step, StepText, Terms, TermsText, Usd};
pub use self::text::{DateText, LongText, PriceText, Quoted, RatesText, SurchargeText, TierText, WrongPrice};
use crate::{LedgerError, Timestamp};

/// The number of a row in the price table, kept beside every amount that was computed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceId(pub i64);

/// The price of one model, as it was recorded; a version never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceVersion {
    pub id: PriceId,
    /// As [`Circumstances::priced_as`] names it: a provider's model is `provider/model`.
    pub model: ModelName,
    pub sheet: Sheet,
    pub valid_from: Timestamp,
}

/// From an instant on, this is the model's price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceChange {
    pub model: ModelName,
    pub sheet: Sheet,
    pub valid_from: Timestamp,
}

impl PriceChange {
    /// Refuses a price that no entry can hold even for one token.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        let limit = i64::MAX.unsigned_abs();
        let schedules = self.sheet.schedules().flat_map(|(_, schedule)| schedule.every_rates());
        let mut prices = schedules.flat_map(|rates| rates.named()).filter_map(|(_, price)| price);
        match prices.find(|price| price.pico_per_token() > limit) {
            None => Ok(()),
            Some(price) => Err(LedgerError::TooLarge {
                what: format!("a price of model {}", self.model),
                value: format!("{} USD a token", price.of(1)),
                limit: format!("{} USD a token", Money::from_pico(limit.into())),
            }),
        }
    }
}
