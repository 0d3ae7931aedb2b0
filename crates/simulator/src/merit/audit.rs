//! Did any bound request leave its jurisdiction, by the log of decisions alone?

use super::replay::Logged;
use super::workload::Request;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    pub decisions: usize,
    /// Decisions for requests that a rule binds.
    pub bound: usize,
    /// Bound requests that went to a unit which may process elsewhere, or one that the decision did not allow.
    pub outside: usize,
    /// Units that could have been next in line and may process elsewhere.
    pub outside_in_line: usize,
}

impl Audit {
    /// Reads one line of the log, as it was written. What the rule says is taken from the workload, not from the decision.
    pub fn line(&mut self, line: &str, requests: &[Request]) -> Result<(), String> {
        let logged: Logged = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let request = requests.get(logged.request).ok_or("the log names a request that nobody made")?;
        self.decisions += 1;
        if !request.eu_only {
            return Ok(());
        }
        self.bound += 1;
        let is_outside = |places: &[fleet::Jurisdiction]| {
            places.is_empty() || places.iter().any(|place| place.as_str() != "eu")
        };
        let choices = &logged.decision.choices;
        self.outside_in_line += choices.iter().filter(|choice| is_outside(&choice.processes_in)).count();
        if let Some(went_to) = &logged.went_to {
            let found = choices.iter().find(|choice| choice.unit == *went_to);
            self.outside += usize::from(found.is_none_or(|choice| is_outside(&choice.processes_in)));
        }
        Ok(())
    }
}
