//! May one more request be sent for the same question, and to whom?

use std::time::Duration;

use crate::breaker::micros;
use crate::{Choice, Decision, Standing};

/// Returns whom a request goes to when the one before it gave nothing: the decision's first choice, or, where that one is only
/// coming back itself and nothing is left to pay for a request that may fail again, the first that is well.
///
/// A unit that is well is asked without payment: each is asked once for a question, so no unit ever sees more requests than
/// clients sent, and whatever fails in earnest is shut by its breaker. The route's `attempts` is a promise then, and not a
/// matter of luck.
pub fn fall_back<'a>(decision: &'a Decision, budget: &mut RetryBudget, now: Duration) -> Option<&'a Choice> {
    let first = decision.first()?;
    if is_well(first) || budget.spend(now) {
        return Some(first);
    }
    decision.choices.iter().find(|choice| is_well(choice))
}

fn is_well(choice: &Choice) -> bool {
    match choice.standing {
        Standing::Proven | Standing::Unproven => true,
        Standing::Recovering | Standing::Probe => false,
    }
}

/// Tokens are kept in thousandths, so that a tenth of a request is exact.
const MILLI: u64 = 1000;

/// Hedges, and fallbacks to units that are not well, are paid from what requests earn: they add a stated share of load and no more.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    share_milli: u64,
    per_second_milli: u64,
    max_milli: u64,
    left_milli: u64,
    as_of_us: u64,
}

impl RetryBudget {
    /// One retry for each ten requests, and one a second however few those are; at most 100 are saved up.
    pub fn new() -> Self {
        Self::with(100, 1, 100)
    }

    /// `share_milli` is earned by each request, in thousandths of a retry.
    pub fn with(share_milli: u64, per_second: u64, saved_max: u64) -> Self {
        let max_milli = saved_max * MILLI;
        let left_milli = (10 * MILLI).min(max_milli);
        Self { share_milli, per_second_milli: per_second * MILLI, max_milli, left_milli, as_of_us: 0 }
    }

    /// Notes a client's request.
    pub fn earn(&mut self) {
        self.left_milli = (self.left_milli + self.share_milli).min(self.max_milli);
    }

    pub fn can_spend(&self, now: Duration) -> bool {
        self.left_at(micros(now)) >= MILLI
    }

    /// Takes one retry, if there is one.
    pub fn spend(&mut self, now: Duration) -> bool {
        let now_us = micros(now);
        self.left_milli = self.left_at(now_us);
        self.as_of_us = self.as_of_us.max(now_us);
        let can = self.left_milli >= MILLI;
        if can {
            self.left_milli -= MILLI;
        }
        can
    }

    fn left_at(&self, now_us: u64) -> u64 {
        let elapsed_us = now_us.saturating_sub(self.as_of_us);
        let earned = u128::from(elapsed_us) * u128::from(self.per_second_milli) / 1_000_000;
        let earned = u64::try_from(earned).unwrap_or(self.max_milli);
        self.left_milli.saturating_add(earned).min(self.max_milli)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}
