//! Which windows does a request count in, and for how much?

use std::sync::Arc;

use domain::{Money, Usage};
use serde::{Deserialize, Serialize};

use super::{LimitId, Measure};
use crate::{Ending, Held, How, Timestamp};

/// One window of one limit, for one subject. Their order is the order in which processes lock them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    pub limit: LimitId,
    pub subject: Arc<str>,
    pub start: Timestamp,
}

/// That a hold counts in a window. Kept beside the hold, so that its end is counted where its beginning was, whatever the
/// clock and the limits have become.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Charge {
    pub key: WindowKey,
    pub measure: Measure,
}

/// What a request wants of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub key: WindowKey,
    pub amount: i64,
    /// Whether it must fit; if not, it is only counted.
    pub is_binding: bool,
}

/// Some of the usage has no price, so nobody knows what it takes of a money limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpriced;

/// Returns what a request with this estimate reserves of a limit on this measure. Wall-clock and depth are compared, not
/// counted, and reserve nothing. Nothing costs nothing, at a price that nobody knows too.
pub fn need(measure: Measure, estimate: &Usage, cost: Option<Money>) -> Result<i64, Unpriced> {
    Ok(match measure {
        Measure::Money if *estimate == Usage::default() => 0,
        Measure::Money => pico(cost.ok_or(Unpriced)?),
        Measure::Tokens => i64::try_from(estimate.total()).unwrap_or(i64::MAX),
        Measure::Requests | Measure::Calls | Measure::Concurrency => 1,
        Measure::WallClock | Measure::Depth => 0,
    })
}

impl Charge {
    /// Returns what the hold has reserved in this window; of an unpriced one that was allowed, no money.
    pub fn reserved(&self, held: &Held) -> i64 {
        need(self.measure, &held.hold.estimate, held.amount()).unwrap_or(0)
    }

    /// Returns what the request's end has spent in this window.
    pub fn spent(&self, ending: &Ending) -> i64 {
        let is_counted = !matches!(ending.how, How::Released { .. });
        match self.measure {
            Measure::Money => ending.cost.map_or(0, pico),
            Measure::Tokens => {
                ending.usage().map_or(0, |usage| i64::try_from(usage.total()).unwrap_or(i64::MAX))
            }
            Measure::Requests | Measure::Calls => i64::from(is_counted),
            Measure::Concurrency | Measure::WallClock | Measure::Depth => 0,
        }
    }

    /// Returns the charges as they are stored beside their hold; nothing where there are none.
    pub fn write(charges: &[Charge]) -> Option<String> {
        let rows: Vec<Row<'_>> = charges
            .iter()
            .map(|Charge { key, measure }| {
                Row(key.limit.0, key.start.millis(), letter(*measure), &key.subject)
            })
            .collect();
        (!rows.is_empty()).then(|| serde_json::to_string(&rows).expect("numbers and texts can be written"))
    }

    /// Returns what [`Charge::write`] has written, or nothing where somebody else wrote it.
    pub fn read(text: Option<&str>) -> Option<Vec<Charge>> {
        let Some(text) = text else { return Some(Vec::new()) };
        let rows: Vec<OwnedRow> = serde_json::from_str(text).ok()?;
        let charge = |OwnedRow(limit, start, measure, subject): OwnedRow| {
            let key = WindowKey {
                limit: LimitId(limit),
                subject: subject.into(),
                start: Timestamp::from_millis(start),
            };
            Some(Charge { key, measure: MEASURES.iter().find(|(_, letter)| *letter == measure)?.0 })
        };
        rows.into_iter().map(charge).collect()
    }
}

#[derive(Serialize)]
struct Row<'a>(i64, i64, char, &'a str);
#[derive(Deserialize)]
struct OwnedRow(i64, i64, char, String);

/// Letters on disk; one, once released, keeps its meaning.
const MEASURES: [(Measure, char); 7] = [
    (Measure::Money, 'm'),
    (Measure::Tokens, 't'),
    (Measure::Requests, 'r'),
    (Measure::Concurrency, 'c'),
    (Measure::WallClock, 'w'),
    (Measure::Calls, 'k'),
    (Measure::Depth, 'd'),
];

fn letter(measure: Measure) -> char {
    MEASURES.iter().find(|(known, _)| *known == measure).expect("every measure has a letter").1
}

/// The book refuses an entry of more money than this.
fn pico(money: Money) -> i64 {
    money.entry_pico().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_come_back_as_they_were_written() {
        let charge = |limit, subject: &str, measure| Charge {
            key: WindowKey {
                limit: LimitId(limit),
                subject: subject.into(),
                start: Timestamp::from_millis(60_000),
            },
            measure,
        };
        let charges: Vec<Charge> =
            MEASURES.iter().map(|(measure, _)| charge(7, "a \"strange\", one", *measure)).collect();
        assert_eq!(Charge::read(Charge::write(&charges).as_deref()), Some(charges));
        assert_eq!(Charge::write(&[]), None, "a hold without limits costs no byte");
        assert_eq!(Charge::read(None), Some(Vec::new()));
        assert_eq!(Charge::read(Some("[[1,2,\"?\",\"\"]]")), None);
    }

    #[test]
    fn unpriced_work_has_no_need_of_money_that_anybody_knows() {
        let estimate = Usage { input_uncached: 10, output: 5, ..Usage::default() };
        assert_eq!(need(Measure::Money, &estimate, None), Err(Unpriced));
        assert_eq!(need(Measure::Money, &estimate, Some(Money::from_pico(9))), Ok(9));
        assert_eq!(need(Measure::Tokens, &estimate, None), Ok(15));
        assert_eq!(need(Measure::Concurrency, &estimate, None), Ok(1));
    }
}
