//! Which of a limit's thresholds has its spending reached?

use super::Limit;

/// Returns the thresholds reached, of which those that were told before are to be left out by whoever remembers them.
pub fn crossed(limit: &Limit, spent: i64) -> impl Iterator<Item = u8> {
    // 128 bits: a hundred times the largest amount does not fit 64.
    let (spent, amount) = (i128::from(spent), i128::from(limit.amount.0));
    let is_reached = move |percent: &u8| spent > 0 && spent * 100 >= amount * i128::from(*percent);
    limit.thresholds.iter().copied().filter(is_reached)
}

#[cfg(test)]
mod tests {
    use crate::budget::{Action, Amount, LimitId, Measure};
    use crate::{Limit, Timestamp};

    #[test]
    fn a_threshold_is_reached_exactly_at_its_part_of_the_amount() {
        let limit = Limit {
            id: LimitId(1),
            name: "x".into(),
            scope: "acme".parse().unwrap(),
            measure: Measure::Money,
            amount: Amount(1_000),
            window: "day".parse().unwrap(),
            action: Action::Refuse,
            thresholds: vec![50, 80, 100],
            created_at: Timestamp::default(),
            ended_at: None,
        };
        let crossed = |spent| super::crossed(&limit, spent).collect::<Vec<u8>>();
        assert_eq!(crossed(499), [0u8; 0]);
        assert_eq!(crossed(500), [50]);
        assert_eq!(crossed(999), [50, 80]);
        assert_eq!(crossed(2_000), [50, 80, 100]);
        let huge = Limit { amount: Amount(i64::MAX), ..limit.clone() };
        assert_eq!(super::crossed(&huge, i64::MAX).count(), 3);
        let nothing = Limit { amount: Amount(0), ..limit };
        assert_eq!(super::crossed(&nothing, 0).count(), 0);
    }
}
