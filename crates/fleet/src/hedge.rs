//! Should a second unit be asked before the first has answered?

use std::time::Duration;

use crate::breaker::micros;
use crate::{Choice, Decision, RetryBudget};

#[derive(Clone, Debug, PartialEq)]
pub enum Hedge<'a> {
    /// Look again then.
    Wait { until: Duration },
    /// Ask this one now; the retry is paid.
    Send(&'a Choice),
    /// Never for this request: nobody else may answer it in time.
    No,
}

/// Decides for a request that went to the decision's first choice at `sent` and has no token yet. `after` is the route's wish;
/// before the first choice's own expected p95, a second request would mostly be waste.
pub fn hedge<'a>(
    decision: &'a Decision,
    sent: Duration,
    after: Duration,
    budget: &mut RetryBudget,
    now: Duration,
) -> Hedge<'a> {
    let [first, rest @ ..] = &decision.choices[..] else { return Hedge::No };
    let Some(second) = rest.iter().find(|choice| choice.unit != first.unit && choice.meets_slo) else {
        return Hedge::No;
    };
    let at_us = micros(sent) + micros(after).max(first.ttft_p95_us);
    if micros(now) < at_us {
        return Hedge::Wait { until: Duration::from_micros(at_us) };
    }
    if budget.spend(now) { Hedge::Send(second) } else { Hedge::No }
}
