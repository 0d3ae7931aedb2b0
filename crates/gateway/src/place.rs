//! Which of the models served does a request mean?

use std::sync::Arc;

use domain::ModelName;

use crate::app::{App, ServedModel};
use crate::refusal::Refusal;
use crate::who::Caller;

/// Returns the model that answers to this name, or the names that there are for this caller.
pub fn model(app: &App, caller: &Caller, asked: &ModelName) -> Result<Arc<ServedModel>, Refusal> {
    let known = |model: &&Arc<ServedModel>| caller.sees_model(&model.name);
    let Some(model) = app.models.iter().find(|model| model.answers_to(asked)) else {
        return Err(Refusal::ModelUnknown {
            asked: ModelName::new(asked.as_str().chars().take(128).collect::<String>()),
            known: app.models.iter().filter(known).map(|model| model.name.clone()).collect(),
        });
    };
    caller.check_model(&model.name)?;
    Ok(model.clone())
}
