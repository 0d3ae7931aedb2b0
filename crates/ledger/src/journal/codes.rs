//! Which small integer stands for which word on disk. A number, once released, keeps its meaning.

use domain::{Money, RequestId, Usage, UsageEnd, UsageSource};

use crate::{AccountKind, Ending, How, LossReason, ReleaseReason, SavedBy, Side};

pub const SETTLED: i64 = 1;
pub const RELEASED: i64 = 2;
pub const LOST: i64 = 3;
pub const SAVED: i64 = 4;

pub const HELD_ACCOUNT: i64 = 1;
pub const EARNED_ACCOUNT: i64 = 2;

/// Two-way tables: the word, its number.
const USAGE_ENDS: [(UsageEnd, i64); 6] = [
    (UsageEnd::Complete, 1),
    (UsageEnd::Truncated, 2),
    (UsageEnd::CancelledDrained, 3),
    (UsageEnd::CancelledAborted, 4),
    (UsageEnd::ErrorBilled, 5),
    (UsageEnd::Unknown, 6),
];
const USAGE_SOURCES: [(UsageSource, i64); 3] =
    [(UsageSource::Measured, 1), (UsageSource::Provider, 2), (UsageSource::Estimated, 3)];
const RELEASE_REASONS: [(ReleaseReason, i64); 3] =
    [(ReleaseReason::Refused, 1), (ReleaseReason::ClientLeft, 2), (ReleaseReason::Failed, 3)];
const ACCOUNT_KINDS: [(AccountKind, i64); 5] = [
    (AccountKind::Organisation, 1),
    (AccountKind::Team, 2),
    (AccountKind::App, 3),
    (AccountKind::User, 4),
    (AccountKind::Service, 5),
];
const WAYS_TO_SAVE: [(SavedBy, i64); 2] = [(SavedBy::Cache, 1), (SavedBy::Twin, 2)];
const LOSS_REASONS: [(LossReason, i64); 2] = [(LossReason::ProcessLost, 1), (LossReason::Forgotten, 2)];

pub trait Code: Copy + PartialEq + Sized + 'static {
    const TABLE: &'static [(Self, i64)];

    fn code(self) -> i64 {
        let row = Self::TABLE.iter().find(|(word, _)| *word == self);
        row.expect("every word has a number").1
    }
    fn from_code(code: i64) -> Option<Self> {
        Self::TABLE.iter().find(|(_, number)| *number == code).map(|(word, _)| *word)
    }
}
impl Code for UsageEnd {
    const TABLE: &'static [(Self, i64)] = &USAGE_ENDS;
}
impl Code for UsageSource {
    const TABLE: &'static [(Self, i64)] = &USAGE_SOURCES;
}
impl Code for ReleaseReason {
    const TABLE: &'static [(Self, i64)] = &RELEASE_REASONS;
}
impl Code for AccountKind {
    const TABLE: &'static [(Self, i64)] = &ACCOUNT_KINDS;
}
impl Code for SavedBy {
    const TABLE: &'static [(Self, i64)] = &WAYS_TO_SAVE;
}
impl Code for LossReason {
    const TABLE: &'static [(Self, i64)] = &LOSS_REASONS;
}

/// An end as its row and its rollup say it.
pub struct Coded {
    pub how: i64,
    pub reason: i64,
    pub source: Option<i64>,
    /// What was used; where it was saved, what was saved.
    pub usage: Option<Usage>,
    /// What that cost, or was worth.
    pub money: Option<Money>,
}

pub fn ending(ending: &Ending) -> Coded {
    if let How::Saved { usage, way, worth } = ending.how {
        return Coded { how: SAVED, reason: way.code(), source: None, usage: Some(usage), money: worth };
    }
    let (usage, money) = (ending.usage(), ending.cost);
    let (how, reason, source) = match ending.how {
        How::Saved { .. } => unreachable!("savings were told above"),
        How::Settled { end, source, .. } => (SETTLED, end.code(), Some(source.code())),
        How::Released { reason } => (RELEASED, reason.code(), None),
        How::Lost { reason, estimate } => {
            (LOST, reason.code(), estimate.map(|_| UsageSource::Estimated.code()))
        }
    };
    Coded { how, reason, source, usage, money }
}

/// A request's name as it is stored. Names of our own making are random and long; as bytes they take 16 instead of 36,
/// twice, because the unique index repeats them.
pub enum StoredRequest {
    Bytes(Vec<u8>),
    Text(String),
}

impl StoredRequest {
    pub fn of(request: &RequestId) -> Self {
        let name = request.as_str();
        let number = name.strip_prefix("req-").and_then(|digits| u128::from_str_radix(digits, 16).ok());
        match number {
            // Only what comes back the same may be shortened: not capitals, not a missing zero.
            Some(number) if RequestId::from_random(number) == *request => {
                Self::Bytes(number.to_be_bytes().to_vec())
            }
            _ => Self::Text(name.to_owned()),
        }
    }
}

pub fn side_account(side: Side, payer: i64) -> i64 {
    match side {
        Side::Payer => payer,
        Side::Held => HELD_ACCOUNT,
        Side::Earned => EARNED_ACCOUNT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_come_back_the_same_are_shortened() {
        let short = |name: &str| matches!(StoredRequest::of(&name.into()), StoredRequest::Bytes(_));
        assert!(short("req-0123456789abcdef0123456789abcdef"));
        assert!(!short("req-0123456789ABCDEF0123456789ABCDEF"));
        assert!(!short("req-123456789abcdef0123456789abcdef"));
        assert!(!short("req-+123456789abcdef0123456789abcde"));
        assert!(!short("chatcmpl-1"));
        assert!(!short(""));
    }

    #[test]
    fn every_word_comes_back_from_its_number() {
        fn check<T: Code + std::fmt::Debug>() {
            for (word, number) in T::TABLE {
                assert_eq!(T::from_code(*number), Some(*word));
                assert_eq!(word.code(), *number);
            }
            assert_eq!(T::from_code(99), None);
        }
        check::<UsageEnd>();
        check::<UsageSource>();
        check::<ReleaseReason>();
        check::<LossReason>();
        check::<SavedBy>();
        check::<AccountKind>();
    }
}
