//! How is a plan told to whoever asks why?

use std::time::Duration;

use domain::{ModelName, RequestId};

use crate::admit::now;
use crate::decisions::{Attempt, Candidate, DecisionRecord, Verdict};
use crate::place::Plan;
use crate::who::Caller;

/// Returns the record of a plan, with what was tried of it.
pub fn record(
    request: &RequestId,
    caller: &Caller,
    asked: &ModelName,
    plan: &Plan,
    attempts: Vec<Attempt>,
    chosen: Option<&str>,
) -> DecisionRecord {
    let eligible = plan.decision.choices.iter().map(|choice| Candidate {
        unit: choice.unit.to_string(),
        verdict: if chosen == Some(choice.unit.as_str()) { Verdict::Chosen } else { Verdict::Eligible },
        reason: (!choice.meets_slo).then(|| "it is not expected to be fast enough".to_owned()),
        processes_in: choice.processes_in.iter().map(ToString::to_string).collect(),
        cost_usd: choice.cost.map(|cost| cost.to_string()),
        ttft_ms: Some(choice.ttft_us as f64 / 1e3),
        tpot_ms: Some(choice.per_token_us as f64 / 1e3),
        probability: Some(choice.probability),
    });
    let rejected = plan.decision.rejected.iter().map(|rejected| Candidate {
        unit: rejected.unit.to_string(),
        verdict: Verdict::Rejected,
        reason: Some(rejected.reason.to_string()),
        processes_in: places(plan, rejected.candidate),
        ..Candidate::default()
    });
    let mut candidates: Vec<Candidate> = eligible.chain(rejected).collect();
    // A unit that failed first and answered last is told as what it was at the end.
    candidates.sort_by_key(|candidate| candidate.verdict != Verdict::Chosen);
    let need = &plan.need;
    let tokens = format!("about {} tokens of prompt, {} of answer", need.input_tokens, need.output_tokens);
    DecisionRecord {
        at: now(),
        request: request.clone(),
        account: caller.account.clone(),
        asked: asked.clone(),
        route: plan.route.clone(),
        needs: need
            .capabilities
            .iter()
            .map(|capability| capability.name().to_owned())
            .chain([tokens])
            .collect(),
        data_class: need.data_class.as_ref().map(ToString::to_string),
        residency: need
            .residency
            .iter()
            .map(|rule| {
                let places: Vec<&str> = rule.jurisdictions.iter().map(|place| place.as_str()).collect();
                format!("{}: {}", rule.name, places.join(", "))
            })
            .collect(),
        order: match need.order {
            fleet::Order::Cost => "cost",
            fleet::Order::Latency => "latency",
            fleet::Order::Listed => "listed",
        }
        .to_owned(),
        candidates,
        candidates_left_out: 0,
        chosen: chosen.map(str::to_owned),
        attempts,
    }
}

/// Returns what is kept of an attempt.
pub fn attempt(unit: &str, outcome: &str, reason: Option<String>, took: Duration) -> Attempt {
    let total_ms = Some(took.as_secs_f64() * 1e3);
    Attempt { unit: unit.to_owned(), outcome: outcome.to_owned(), reason, total_ms, ..Attempt::default() }
}

fn places(plan: &Plan, candidate: usize) -> Vec<String> {
    plan.units[candidate].facts.jurisdictions.iter().map(ToString::to_string).collect()
}
