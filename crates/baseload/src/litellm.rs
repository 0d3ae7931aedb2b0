//! How does LiteLLM's `config.yaml` become a configuration of ours, with nothing dropped in silence?
//!
//! Everything that is read is taken out of the YAML; whatever is left at the end is listed with a reason at the top of the result. Secrets
//! are never copied: a key that stands in the file becomes the name of an environment variable.

mod deployment;
mod providers;
mod settings;
mod write;

use serde_yaml_ng::{Mapping, Value};

use self::write::Plan;

/// The configuration, and what must be known about it.
#[derive(Debug)]
pub struct Imported {
    pub toml: String,
    /// What was not carried over, and what to do: also at the top of the file.
    pub remarks: Vec<String>,
}

/// What is said of the import besides the settings themselves.
#[derive(Debug, Default)]
pub struct Remarks {
    /// What must be done before the result works.
    todo: Vec<String>,
    left_out: Vec<String>,
}

impl Remarks {
    pub fn todo(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.todo.contains(&what) {
            self.todo.push(what);
        }
    }

    pub fn left_out(&mut self, what: &str, why: &str) {
        self.left_out.push(format!("{what}: {why}"));
    }
}

/// Returns the configuration that does the same, as far as there is one. `environment` answers `os.environ/NAME` where a value
/// is needed that is no secret.
pub fn import(yaml: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Imported, String> {
    let file: Value = serde_yaml_ng::from_str(yaml).map_err(|error| error.to_string())?;
    let Value::Mapping(mut file) = file else {
        return Err("this is no config.yaml of LiteLLM: it has no settings at its top".into());
    };
    let mut remarks = Remarks::default();
    let credentials = take_list(&mut file, "credential_list");
    let mut plan = Plan::default();
    for (nth, entry) in take_list(&mut file, "model_list").into_iter().enumerate() {
        let read = deployment::read(nth, entry, &credentials, &environment, &mut remarks);
        plan.deployments.extend(read);
    }
    settings::apply(&mut file, &mut plan, &mut remarks);
    if plan.deployments.is_empty() {
        remarks.todo("nothing of model_list could be carried over, so this serves the bundled models");
    }
    let toml = write::toml(&plan, &remarks);
    let remarks = remarks.todo.into_iter().chain(remarks.left_out).collect();
    Ok(Imported { toml, remarks })
}

fn take(from: &mut Mapping, key: &str) -> Option<Value> {
    from.remove(key).filter(|value| !value.is_null())
}

fn take_text(from: &mut Mapping, key: &str) -> Option<String> {
    take(from, key).and_then(|value| text_of(&value))
}

fn take_list(from: &mut Mapping, key: &str) -> Vec<Value> {
    match take(from, key) {
        Some(Value::Sequence(list)) => list,
        _ => Vec::new(),
    }
}

fn take_map(from: &mut Mapping, key: &str) -> Mapping {
    match take(from, key) {
        Some(Value::Mapping(map)) => map,
        _ => Mapping::new(),
    }
}

/// Returns a scalar as it would be written.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
