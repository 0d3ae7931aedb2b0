//! `baseload admin decisions`: why did this unit answer, and not another?

use std::path::PathBuf;
use std::sync::Arc;

use control::admin_api::{
    AttemptView, CandidateView, DecisionLog, DecisionQuery, DecisionView, Desk, ListDecisions, ShowDecision,
    VerdictWord,
};
use domain::RequestId;
use gateway::decisions::{DecisionBounds, DecisionFilter, DecisionRecord, Decisions, find_beside};
use serde_json::Value;

use super::admin::Office;
use crate::cli::DecisionsCommand;
use crate::table;

/// The gateway's decisions, as the admin API asks for them.
pub struct Kept(pub Arc<Decisions>);

impl DecisionLog for Kept {
    fn find(&self, request: &RequestId) -> Option<Value> {
        self.0.find(request).map(|record| told(&record))
    }

    fn list(&self, wanted: &DecisionQuery) -> Vec<Value> {
        let DecisionQuery { within, since, model, unit, limit } = wanted.clone();
        let found = self.0.list(&DecisionFilter { within, since, model, unit, limit });
        found.iter().map(told).collect()
    }
}

/// Instants are written out for people and programs elsewhere.
fn told(record: &DecisionRecord) -> Value {
    let mut value = serde_json::to_value(record).expect("a decision is plain data");
    value["at"] = record.at.to_string().into();
    value
}

/// What a server has left in its data folder, read when it is asked for.
struct Left(PathBuf);

impl DecisionLog for Left {
    fn find(&self, request: &RequestId) -> Option<Value> {
        find_beside(&self.0, request).map(|record| told(&record))
    }

    fn list(&self, wanted: &DecisionQuery) -> Vec<Value> {
        let last = Decisions::look(&self.0, DecisionBounds::default());
        last.map(|last| Kept(Arc::new(last)).list(wanted)).unwrap_or_default()
    }
}

/// Returns the desk that knows what a server has left in this folder.
pub fn beside(desk: Desk, data: PathBuf) -> Desk {
    desk.deciding(Arc::new(Left(data)))
}

pub async fn run(office: &Office, command: DecisionsCommand) -> anyhow::Result<()> {
    match command {
        DecisionsCommand::Show { request } => {
            let decision = office.ask(ShowDecision { request }).await?;
            office.show(&decision, why_here)
        }
        DecisionsCommand::List { within, since, model, unit, limit } => {
            let found = office.ask(ListDecisions { within, since, model, unit, limit: Some(limit) }).await?;
            office.show(&found, |found| {
                let row = |decision: &DecisionView| {
                    let last = decision.attempts.last();
                    vec![
                        decision.at.clone(),
                        decision.request.clone(),
                        decision.account.clone(),
                        decision.asked.clone(),
                        decision.chosen.clone().unwrap_or_else(|| "nobody".into()),
                        decision.candidates.len().to_string(),
                        decision.attempts.len().to_string(),
                        last.map_or("under way".into(), |attempt| attempt.outcome.clone()),
                    ]
                };
                let headings =
                    ["at", "request", "account", "asked for", "chosen", "candidates", "attempts", "end"];
                table::text(&headings, found.data.iter().map(row))
            })
        }
    }
}

/// The whole answer to "why here?", for a person.
fn why_here(decision: &DecisionView) -> String {
    let DecisionView { at, request, account, asked, route, needs, data_class, residency, order, .. } =
        decision;
    let mut text = format!("{request}\n  at {at} for {account}, asked for {asked}");
    if let Some(route) = route.as_ref().filter(|route| *route != asked) {
        text += &format!(" (route {route})");
    }
    text += &format!("\n  by {order}");
    if !needs.is_empty() {
        text += &format!("; needs {}", needs.join(", "));
    }
    if let Some(class) = data_class {
        text += &format!("; {class} data");
    }
    residency.iter().for_each(|rule| text += &format!("\n  residency {rule}"));
    text += "\n\n";
    let headings =
        ["candidate", "verdict", "cost USD", "ttft ms", "tpot ms", "chance", "processes in", "why"];
    text += &table::text(&headings, decision.candidates.iter().map(candidate));
    if decision.candidates_left_out > 0 {
        text += &format!("and {} more\n", decision.candidates_left_out);
    }
    if decision.chosen.is_none() {
        text += "nobody may answer it\n";
    }
    if !decision.attempts.is_empty() {
        let headings = ["attempt", "unit", "outcome", "status", "ttft ms", "total ms", "cost USD", "why"];
        text += "\n";
        text += &table::text(&headings, decision.attempts.iter().enumerate().map(attempt));
    }
    text
}

fn candidate(candidate: &CandidateView) -> Vec<String> {
    let verdict = match candidate.verdict {
        VerdictWord::Chosen => "chosen",
        VerdictWord::Eligible => "eligible",
        VerdictWord::Rejected => "rejected",
    };
    vec![
        candidate.unit.clone(),
        verdict.to_owned(),
        candidate.cost_usd.clone().unwrap_or_else(|| "-".into()),
        number(candidate.ttft_ms),
        number(candidate.tpot_ms),
        candidate.probability.map_or("-".into(), |share| format!("{:.0} %", share * 100.0)),
        if candidate.processes_in.is_empty() { "unknown".into() } else { candidate.processes_in.join(",") },
        candidate.reason.clone().unwrap_or_default(),
    ]
}

fn attempt((nth, attempt): (usize, &AttemptView)) -> Vec<String> {
    vec![
        (nth + 1).to_string(),
        attempt.unit.clone(),
        attempt.outcome.clone(),
        attempt.status.map_or("-".into(), |status| status.to_string()),
        number(attempt.ttft_ms),
        number(attempt.total_ms),
        attempt.cost_usd.clone().unwrap_or_else(|| "-".into()),
        attempt.reason.clone().unwrap_or_default(),
    ]
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use gateway::decisions::{Attempt, Candidate, Verdict};
    use ledger::Timestamp;

    use super::*;

    #[test]
    fn what_the_gateway_keeps_is_what_the_admin_api_shows() {
        let record = DecisionRecord {
            at: Timestamp::from_millis(1_795_000_000_042),
            request: "req-1".into(),
            account: "acme".into(),
            asked: "smart".into(),
            route: Some("smart".into()),
            needs: vec!["tools".into()],
            data_class: Some("personal".into()),
            residency: vec!["eu-only: eu".into()],
            order: "cost".into(),
            candidates: vec![
                Candidate {
                    unit: "llama@vllm".into(),
                    verdict: Verdict::Chosen,
                    cost_usd: Some("0.00012".into()),
                    ttft_ms: Some(81.25),
                    probability: Some(0.97),
                    processes_in: vec!["eu".into()],
                    ..Candidate::default()
                },
                Candidate {
                    unit: "claude@anthropic".into(),
                    reason: Some("it processes in us".into()),
                    ..Candidate::default()
                },
            ],
            candidates_left_out: 0,
            chosen: Some("llama@vllm".into()),
            attempts: vec![Attempt {
                unit: "llama@vllm".into(),
                outcome: "answered".into(),
                status: Some(200),
                ..Attempt::default()
            }],
        };
        let log = Decisions::in_memory(DecisionBounds::default());
        log.record(record);
        let value = Kept(Arc::new(log)).find(&"req-1".into()).unwrap();
        let view: DecisionView = serde_json::from_value(value).unwrap();
        assert_eq!(view.at, "2026-11-18T11:06:40.042Z");
        let text = why_here(&view);
        for told in [
            "for acme, asked for smart",
            "residency eu-only: eu",
            "0.00012",
            "81.2",
            "97 %",
            "rejected",
            "it processes in us",
            "answered",
        ] {
            assert!(text.contains(told), "{told:?} is not in\n{text}");
        }
    }
}
