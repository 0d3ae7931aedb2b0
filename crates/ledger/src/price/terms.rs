//! What is owed for a month when its volume or a commitment earns a discount?
//!
//! A view over what the ledger has booked, not a part of booking: which step a token falls into is known only when the month
//! is over, and every request's list cost stays the fact that it is.
//!
//! ```text
//!  list cost ──volume steps──▶ net ──commitment──▶ due = max(net, committed), shortfall = due − net
//! ```

use std::str::FromStr;

use domain::Money;
use serde::{Deserialize, Serialize};

use super::Multiplier;
use super::text::Quoted;
use crate::statement::usd;

/// What was agreed with one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub steps: Vec<Step>,
    pub reach: Reach,
    /// What is owed each month even when less is used.
    pub committed: Option<Money>,
}

/// From this much of a month's list cost on, tokens cost that share of their list price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: Money,
    pub times: Multiplier,
}

/// What a step that is reached applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// What lies above the step, as tax brackets do.
    #[default]
    Above,
    /// The whole month.
    All,
}

/// A month under its terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    #[serde(with = "usd")]
    pub list: Money,
    #[serde(with = "usd")]
    pub discount: Money,
    /// What is owed beyond the use, to meet the commitment.
    #[serde(with = "usd")]
    pub shortfall: Money,
}

/// Terms as a person writes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsText {
    #[serde(default)]
    pub volume: Vec<StepText>,
    #[serde(default)]
    pub reach: Reach,
    /// USD a month.
    pub committed: Option<Quoted<Usd>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepText {
    /// USD of list cost in the month.
    pub from: Quoted<Usd>,
    pub times: Quoted<Multiplier>,
}

/// An exact amount of dollars in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usd(pub Money);

impl Terms {
    /// Returns what a month with this list cost comes to. A discount is rounded down to the picodollar: what is owed is
    /// never less than the terms say.
    pub fn bill(&self, list: Money) -> Bill {
        let net = match self.reach {
            Reach::All => {
                times(list, self.steps.iter().rfind(|step| list >= step.from).map(|step| step.times))
            }
            Reach::Above => self.brackets(list),
        };
        let due = self.committed.map_or(net, |committed| net.max(committed));
        Bill { list, discount: list - net, shortfall: due - net }
    }

    fn brackets(&self, list: Money) -> Money {
        let mut net = Money::ZERO;
        let mut from = Money::ZERO;
        let mut factor = None;
        for step in self.steps.iter().filter(|step| step.from < list) {
            net += times(step.from - from, factor);
            (from, factor) = (step.from, Some(step.times));
        }
        net + times(list - from, factor)
    }
}

impl Bill {
    pub fn due(&self) -> Money {
        self.list - self.discount + self.shortfall
    }

    /// Returns each part's share of what is due, in proportion to its list cost. Shares are whole picodollars and sum to
    /// what is due: what is left over by rounding goes one by one to the largest remainders, then to the first.
    pub fn shares(&self, parts: &[Money]) -> Vec<Money> {
        let whole: i128 = parts.iter().map(|part| part.pico()).sum();
        let due = self.due().pico();
        if whole == 0 {
            // Nobody used anything: a shortfall has no one to go to, and stays the payer's own.
            return vec![Money::ZERO; parts.len()];
        }
        let exact = parts.iter().map(|part| wide_share(part.pico(), due, whole)).collect::<Vec<_>>();
        let mut shares: Vec<i128> = exact.iter().map(|(share, _)| *share).collect();
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|&index| (std::cmp::Reverse(exact[index].1), index));
        let left_over = due - shares.iter().sum::<i128>();
        for &index in order.iter().take(left_over.unsigned_abs() as usize) {
            shares[index] += 1;
        }
        shares.into_iter().map(Money::from_pico).collect()
    }
}

impl TermsText {
    pub fn terms(&self) -> Result<Terms, String> {
        let step = |text: &StepText| Step { from: text.from.0.0, times: text.times.0 };
        let steps: Vec<Step> = self.volume.iter().map(step).collect();
        if steps.windows(2).any(|pair| pair[0].from >= pair[1].from) {
            return Err("the steps of `volume` must ascend by `from`".into());
        }
        if let Some(step) = steps.iter().find(|step| step.times > Multiplier::ONE) {
            return Err(format!(
                "a volume step costs {} times the list price; a discount is at most 1",
                step.times
            ));
        }
        Ok(Terms { steps, reach: self.reach, committed: self.committed.map(|Quoted(Usd(money))| money) })
    }
}

impl FromStr for Usd {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pico = super::decimal::scaled(text, 12);
        pico.map(|pico| Usd(Money::from_pico(pico)))
            .map_err(|error| format!("{text:?} is no amount of USD: {error}"))
    }
}

/// Rounded up.
fn times(money: Money, factor: Option<Multiplier>) -> Money {
    let millionths = i128::from(factor.unwrap_or(Multiplier::ONE).millionths());
    let pico = money.pico();
    // Whole millions first, so that no amount of money is too large for the product.
    let (whole, rest) = (pico / 1_000_000, pico % 1_000_000);
    Money::from_pico(whole * millionths + (rest * millionths + 999_999) / 1_000_000)
}

/// Returns ⌊part × due / whole⌋ and a remainder to compare by, for a part inside its whole, without overflow: both factors
/// may be some 10²⁵ (ten trillion dollars in picodollars), and their product is too wide for 128 bits.
fn wide_share(part: i128, due: i128, whole: i128) -> (i128, i128) {
    let (mut share, mut rest) = (0_i128, 0_i128);
    // Multiplication by doubling: after each bit, share × whole + rest = part × (the bits of due so far).
    for bit in (0..i128::BITS - due.leading_zeros()).rev() {
        (share, rest) = (share * 2, rest * 2);
        if due >> bit & 1 == 1 {
            rest += part;
        }
        share += rest / whole;
        rest %= whole;
    }
    (share, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(text: &str) -> Money {
        text.parse::<Usd>().unwrap().0
    }
    fn terms(text: &str) -> Terms {
        toml::from_str::<TermsText>(text).unwrap().terms().unwrap()
    }

    #[test]
    fn a_month_is_billed_by_its_terms() {
        const STEPS: &str = "volume = [{ from = '1000', times = '0.9' }, { from = '5000', times = '0.8' }]";
        for (text, list, discount, shortfall, due) in [
            ("", "100", "0.00", "0.00", "100.00"),
            (STEPS, "1000", "0.00", "0.00", "1000.00"),
            (STEPS, "2000", "100.00", "0.00", "1900.00"),
            (STEPS, "6000", "600.00", "0.00", "5400.00"),
            (&format!("{STEPS}\nreach = 'all'"), "6000", "1200.00", "0.00", "4800.00"),
            (&format!("{STEPS}\nreach = 'all'"), "999.99", "0.00", "0.00", "999.99"),
            ("committed = '500'", "120.5", "0.00", "379.50", "500.00"),
            ("committed = '500'", "700", "0.00", "0.00", "700.00"),
            (&format!("{STEPS}\ncommitted = '1950'"), "2000", "100.00", "50.00", "1950.00"),
        ] {
            let bill = terms(text).bill(usd(list));
            let told = [bill.discount, bill.shortfall, bill.due()].map(|money| money.to_string());
            assert_eq!(told, [discount, shortfall, due], "{text:?} at {list}");
        }
    }

    #[test]
    fn shares_are_whole_and_sum_to_what_is_due() {
        let bill = Bill { list: usd("3"), discount: usd("2"), shortfall: Money::ZERO };
        let shares = bill.shares(&[usd("1"), usd("1"), usd("1")]);
        assert_eq!(
            shares.iter().map(|share| share.pico()).collect::<Vec<_>>(),
            [333_333_333_334, 333_333_333_333, 333_333_333_333]
        );
        assert_eq!(bill.shares(&[]), []);
        assert_eq!(bill.shares(&[Money::ZERO]), [Money::ZERO]);
    }

    #[test]
    fn terms_that_cannot_be_meant_are_refused() {
        let refusal = |text: &str| toml::from_str::<TermsText>(text).unwrap().terms().unwrap_err();
        assert!(
            refusal("volume = [{ from = '9', times = '0.9' }, { from = '8', times = '0.8' }]")
                .contains("must ascend")
        );
        assert!(refusal("volume = [{ from = '9', times = '1.9' }]").contains("at most 1"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_the_shares(parts in prop::collection::vec(0..10_i128.pow(25), 1..9), due in 0..10_i128.pow(25)) {
            let parts: Vec<Money> = parts.into_iter().map(Money::from_pico).collect();
            let list: Money = parts.iter().copied().sum();
            let bill = Bill { list, discount: list - Money::from_pico(due), shortfall: Money::ZERO };
            let shares = bill.shares(&parts);
            if list > Money::ZERO {
                prop_assert_eq!(shares.iter().copied().sum::<Money>(), Money::from_pico(due));
            }
            for (share, part) in shares.iter().zip(&parts) {
                prop_assert!(*part > Money::ZERO || share.pico() <= 1);
            }
        }

        #[test]
        fn using_more_never_costs_less_where_steps_reach_above(a in 0..10_i128.pow(18), more in 0..10_i128.pow(18)) {
            let terms = terms("volume = [{ from = '100', times = '0.9' }, { from = '5000', times = '0.3' }]\ncommitted = '200'");
            prop_assert!(terms.bill(Money::from_pico(a + more)).due() >= terms.bill(Money::from_pico(a)).due());
        }
    }
}
