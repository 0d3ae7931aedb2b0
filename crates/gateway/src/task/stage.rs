//! How near its end is a task, and what follows from that?
//!
//! ```text
//!   used     0 %        warn 80 %     downgrade 90 %     hand back 95 %        100 %
//!            ├── free ────┤── warned ────┤── downgraded ─────┤── handing back ───┤ refused
//! ```
//! The fullest of the task's budgets decides. A percentage alone would be too late where one turn takes a tenth of the budget,
//! so a task also hands back as soon as what is left would not last for two more turns as large as its turns were so far.
//!
//! Pure: standings in, a stage out.

use ledger::{Amount, Measure, Standing};

/// Percent of a budget at which each stage begins; 100 or more never begins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub warn_percent: u8,
    pub downgrade_percent: u8,
    pub hand_back_percent: u8,
}

impl Default for Thresholds {
    /// 80: time to wind up. 90: what is left goes further on a cheaper model. 95: enough for one answer of usual length.
    fn default() -> Self {
        Self { warn_percent: 80, downgrade_percent: 90, hand_back_percent: 95 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Free,
    Warned,
    Downgraded,
    HandBack,
}

/// A budget, how much of it is used, and by how many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    pub measure: Measure,
    pub amount: i64,
    /// Spent, and promised to what is under way.
    pub used: i64,
}

impl Gauge {
    /// Returns the gauges of those standings that a task fills: depth is where it stands, and nothing is used up by it.
    pub fn of(standings: &[Standing]) -> Vec<Gauge> {
        let filled = standings.iter().filter(|standing| {
            standing.limit.scope.is_of_tasks() && standing.limit.measure != Measure::Depth
        });
        filled
            .map(|standing| {
                let amount = standing.limit.amount.0;
                Gauge { measure: standing.limit.measure, amount, used: amount - standing.remaining.0 }
            })
            .collect()
    }

    fn remaining(&self) -> i64 {
        (self.amount - self.used).max(0)
    }

    fn is_at(&self, percent: u8) -> bool {
        percent < 100 && i128::from(self.used) * 100 >= i128::from(self.amount) * i128::from(percent)
    }

    /// Whether what is left is less than two turns of the usual size.
    fn is_short(&self, calls: u64) -> bool {
        let Some(usual) = i64::try_from(calls).ok().filter(|calls| *calls > 0).map(|calls| self.used / calls)
        else {
            return false;
        };
        match self.measure {
            // Of calls, exactly the last one is the hand-back's.
            Measure::Calls => self.remaining() <= 1,
            _ => self.remaining() < usual.saturating_mul(2),
        }
    }
}

/// Returns the stage of a task with these budgets, of which `calls` calls have used what is used.
pub fn stage(gauges: &[Gauge], calls: u64, thresholds: &Thresholds) -> Stage {
    let hands_back = thresholds.hand_back_percent < 100;
    let of = |gauge: &Gauge| match () {
        () if hands_back && gauge.is_short(calls) => Stage::HandBack,
        () if gauge.is_at(thresholds.hand_back_percent) => Stage::HandBack,
        () if gauge.is_at(thresholds.downgrade_percent) => Stage::Downgraded,
        () if gauge.is_at(thresholds.warn_percent) => Stage::Warned,
        () => Stage::Free,
    };
    gauges.iter().map(of).max().unwrap_or(Stage::Free)
}

/// Returns what is left of each budget, as the budget's own header writes it: `usd=0.12, calls=3`.
pub fn remaining(gauges: &[Gauge]) -> String {
    let mut seen: Vec<(Measure, i64)> = Vec::new();
    for gauge in gauges {
        // Of several budgets on one measure, around a task and around its run, the smallest rest counts.
        match seen.iter_mut().find(|(measure, _)| *measure == gauge.measure) {
            Some((_, rest)) => *rest = (*rest).min(gauge.remaining()),
            None => seen.push((gauge.measure, gauge.remaining())),
        }
    }
    let show = |(measure, rest): &(Measure, i64)| match measure {
        Measure::Money => format!("usd={}", Amount(*rest).money()),
        Measure::WallClock => format!("seconds={}", rest / 1_000),
        measure => format!("{measure}={rest}"),
    };
    seen.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(amount: i64, used: i64) -> Gauge {
        Gauge { measure: Measure::Tokens, amount, used }
    }

    #[track_caller]
    fn check(gauges: &[Gauge], calls: u64, expected: Stage) {
        assert_eq!(stage(gauges, calls, &Thresholds::default()), expected, "{gauges:?} after {calls} calls");
    }

    #[test]
    fn stages_follow_one_another_as_the_budget_fills() {
        for (used, expected) in [
            (0, Stage::Free),
            (7_999, Stage::Free),
            (8_000, Stage::Warned),
            (9_000, Stage::Downgraded),
            (9_500, Stage::HandBack),
            (10_000, Stage::HandBack),
            (10_700, Stage::HandBack),
        ] {
            check(&[tokens(10_000, used)], 200, expected);
        }
    }

    #[test]
    fn the_fullest_budget_decides() {
        let clock = Gauge { measure: Measure::WallClock, amount: 600_000, used: 560_000 };
        check(&[tokens(10_000, 100), clock], 100, Stage::Downgraded);
        check(&[], 100, Stage::Free);
    }

    #[test]
    fn large_turns_hand_back_before_the_percentage() {
        // Each of four turns took 2,000: after the fourth, the rest of 2,000 is the last turn's.
        check(&[tokens(10_000, 6_000)], 3, Stage::Free);
        check(&[tokens(10_000, 8_000)], 4, Stage::HandBack);
    }

    #[test]
    fn of_calls_the_last_one_is_the_hand_backs() {
        let calls = |used| Gauge { measure: Measure::Calls, amount: 3, used };
        check(&[calls(0)], 0, Stage::Free);
        check(&[calls(1)], 1, Stage::Free);
        check(&[calls(2)], 2, Stage::HandBack);
    }

    #[test]
    fn a_stage_that_is_switched_off_never_begins() {
        let off = Thresholds { warn_percent: 100, downgrade_percent: 100, hand_back_percent: 100 };
        assert_eq!(stage(&[tokens(100, 99)], 1, &off), Stage::Free);
    }

    #[test]
    fn what_is_left_is_told_in_the_words_of_the_budget() {
        let usd = |amount, used| Gauge { measure: Measure::Money, amount, used };
        let clock = Gauge { measure: Measure::WallClock, amount: 600_000, used: 560_500 };
        let gauges = [usd(1_000_000_000_000, 880_000_000_000), usd(500_000_000_000, 490_000_000_000), clock];
        assert_eq!(remaining(&gauges), "usd=0.01, seconds=39");
        assert_eq!(remaining(&[tokens(10, 12)]), "tokens=0");
    }
}
