//! What an entry moves: quantities by dimension, and their money.

use std::array;

use domain::{Money, Usage};

/// The disjoint dimensions of usage, in the order of [`Quantities::tokens`]. `reasoning` is a part of `output` and is no
/// dimension of its own: counting it here would count it twice.
pub const DIMENSIONS: [&str; 6] =
    ["input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output", "compute_us"];

/// No single entry moves more than this of one dimension: a count beyond 10¹² tokens, or microseconds (11 days), is a
/// defect somewhere, not a fact.
pub(crate) const TOKENS_MAX: u64 = 1_000_000_000_000;

/// Tokens and machine time by dimension and their money, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantities {
    pub tokens: [u64; DIMENSIONS.len()],
    pub money: Money,
}

impl Quantities {
    /// Unpriced usage moves no money; that it is unpriced is a fact of its hold or ending, not of the entry.
    pub fn of(usage: &Usage, money: Option<Money>) -> Self {
        Self { tokens: tokens(usage), money: money.unwrap_or(Money::ZERO) }
    }
    pub fn usage(&self) -> Usage {
        let [input_uncached, cache_read, cache_write_5m, cache_write_1h, output, compute_us] = self.tokens;
        Usage { input_uncached, cache_read, cache_write_5m, cache_write_1h, output, reasoning: 0, compute_us }
    }
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
    /// Returns, dimension by dimension, the smaller of both.
    pub fn overlap(&self, other: &Self) -> Self {
        Self {
            tokens: array::from_fn(|i| self.tokens[i].min(other.tokens[i])),
            money: self.money.min(other.money),
        }
    }
    /// Returns both together.
    pub fn with(&self, other: &Self) -> Self {
        Self { tokens: array::from_fn(|i| self.tokens[i] + other.tokens[i]), money: self.money + other.money }
    }
    /// Returns what is left after `part` is taken out, which must be inside.
    pub fn without(&self, part: &Self) -> Self {
        assert!(part.money <= self.money, "a part is never more money than its whole");
        Self {
            tokens: array::from_fn(|i| {
                self.tokens[i]
                    .checked_sub(part.tokens[i])
                    .expect("a part is never more tokens than its whole")
            }),
            money: self.money - part.money,
        }
    }
}

pub(crate) fn tokens(usage: &Usage) -> [u64; DIMENSIONS.len()] {
    [
        usage.input_uncached,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.output,
        usage.compute_us,
    ]
}
