//! How near its end is a task, and what follows from that?
//!
//! ```text
//!   used     0 %        warn 80 %     downgrade 90 %     hand back 95 %        100 %
//!            ├── free ────┤── warned ────┤── downgraded ─────┤── handing back ───┤ refused
//! ```
//! The fullest of the task's budgets decides. A percentage alone would be too late where one turn takes a tenth of the budget,
//! so a task also hands back as soon as what is left would, after one more turn of the usual size, have no room for the hold of
//! another: the last turn is one that still fits.
//!
//! Pure: standings in, a stage out.

use ledger::{Amount, Measure};

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

/// One budget of a task, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    pub measure: Measure,
    pub amount: i64,
    /// Spent, and promised to what is under way.
    pub used: i64,
    /// What a turn of this task usually takes of it; 0 while nobody knows.
    pub usual: i64,
    /// What a turn's hold reserved before it began; more than it then takes, as a rule.
    pub reserved: i64,
}

impl Gauge {
    pub fn remaining(&self) -> i64 {
        (self.amount - self.used).max(0)
    }

    fn is_at(&self, percent: u8) -> bool {
        percent < 100 && i128::from(self.used) * 100 >= i128::from(self.amount) * i128::from(percent)
    }

    /// Whether after one more turn there would be no room for another.
    fn is_short(&self) -> bool {
        match self.measure {
            // Of calls, exactly the last one is the hand-back's.
            Measure::Calls => self.remaining() <= 1,
            _ => {
                self.usual > 0 && self.remaining() < self.usual.saturating_add(self.usual.max(self.reserved))
            }
        }
    }
}

/// Returns the stage of a task with these budgets.
pub fn stage(gauges: &[Gauge], thresholds: &Thresholds) -> Stage {
    let hands_back = thresholds.hand_back_percent < 100;
    let of = |gauge: &Gauge| match () {
        () if hands_back && gauge.is_short() => Stage::HandBack,
        () if gauge.measure != Measure::Calls && gauge.is_at(thresholds.hand_back_percent) => Stage::HandBack,
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
        Gauge { measure: Measure::Tokens, amount, used, usual: 0, reserved: 0 }
    }

    #[track_caller]
    fn check(gauges: &[Gauge], expected: Stage) {
        assert_eq!(stage(gauges, &Thresholds::default()), expected, "{gauges:?}");
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
            check(&[tokens(10_000, used)], expected);
        }
    }

    #[test]
    fn the_fullest_budget_decides() {
        let clock =
            Gauge { measure: Measure::WallClock, amount: 600_000, used: 560_000, usual: 0, reserved: 0 };
        check(&[tokens(10_000, 100), clock], Stage::Downgraded);
        check(&[], Stage::Free);
    }

    #[test]
    fn large_turns_hand_back_before_the_percentage() {
        // Turns of 2,000: with 4,000 left two still fit, with less the next one is the last.
        check(&[Gauge { usual: 2_000, ..tokens(10_000, 6_000) }], Stage::Free);
        check(&[Gauge { usual: 2_000, ..tokens(10_000, 6_100) }], Stage::HandBack);
        // Turns of 500 whose holds reserve 3,000: the turn after this one would find no room.
        check(&[Gauge { usual: 500, reserved: 3_000, ..tokens(10_000, 6_500) }], Stage::Free);
        check(&[Gauge { usual: 500, reserved: 3_000, ..tokens(10_000, 6_600) }], Stage::HandBack);
    }

    #[test]
    fn of_calls_the_last_one_is_the_hand_backs() {
        let calls = |used| Gauge { measure: Measure::Calls, amount: 3, used, usual: 1, reserved: 0 };
        check(&[calls(0)], Stage::Free);
        check(&[calls(1)], Stage::Free);
        check(&[calls(2)], Stage::HandBack);
        let many = |used| Gauge { measure: Measure::Calls, amount: 100, used, usual: 1, reserved: 1 };
        check(&[many(98)], Stage::Downgraded);
        check(&[many(99)], Stage::HandBack);
    }

    #[test]
    fn a_stage_that_is_switched_off_never_begins() {
        let off = Thresholds { warn_percent: 100, downgrade_percent: 100, hand_back_percent: 100 };
        assert_eq!(stage(&[Gauge { usual: 50, ..tokens(100, 99) }], &off), Stage::Free);
    }

    #[test]
    fn what_is_left_is_told_in_the_words_of_the_budget() {
        let usd = |amount, used| Gauge { measure: Measure::Money, amount, used, usual: 0, reserved: 0 };
        let clock =
            Gauge { measure: Measure::WallClock, amount: 600_000, used: 560_500, usual: 0, reserved: 0 };
        let gauges = [usd(1_000_000_000_000, 880_000_000_000), usd(500_000_000_000, 490_000_000_000), clock];
        assert_eq!(remaining(&gauges), "usd=0.01, seconds=39");
        assert_eq!(remaining(&[tokens(10, 12)]), "tokens=0");
    }
}
