//! Which of the models served does a request mean?

use std::sync::Arc;

use domain::ModelName;

use crate::app::{App, ServedModel};
use crate::refusal::Refusal;

/// Returns the model that answers to this name, or the names that there are.
pub fn model(app: &App, asked: &ModelName) -> Result<Arc<ServedModel>, Refusal> {
    let found = app.models.iter().find(|model| model.answers_to(asked));
    found.cloned().ok_or_else(|| Refusal::ModelUnknown {
        asked: ModelName::new(asked.as_str().chars().take(128).collect::<String>()),
        known: app.models.iter().map(|model| model.name.clone()).collect(),
    })
}
