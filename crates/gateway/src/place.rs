//! Which of the models served does a request mean?

use std::sync::Arc;

use domain::ModelName;

use crate::app::{App, ServedModel};
use crate::refusal::Refusal;
use crate::who::Caller;

/// Returns the model that answers to this name, or the names that there are for this caller.
pub fn model(app: &App, caller: &Caller, asked: &ModelName) -> Result<Arc<ServedModel>, Refusal> {
    let Some(model) = app.models.iter().find(|model| model.answers_to(asked)) else {
        return Err(Refusal::ModelUnknown {
            asked: ModelName::new(asked.as_str().chars().take(128).collect::<String>()),
            known: seen(app, caller).map(|model| model.name.clone()).collect(),
        });
    };
    may_use(app, caller, model)?;
    Ok(model.clone())
}

/// Returns the models that the caller may use: all that a list shows it.
pub fn seen<'a>(app: &'a App, caller: &'a Caller) -> impl Iterator<Item = &'a Arc<ServedModel>> {
    app.models.iter().filter(|model| may_use(app, caller, model).is_ok())
}

fn may_use(app: &App, caller: &Caller, model: &ServedModel) -> Result<(), Refusal> {
    caller.check_model(&model.name)?;
    caller.check_way(&app.way)
}
