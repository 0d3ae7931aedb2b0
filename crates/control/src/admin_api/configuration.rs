//! Which configuration is in force, and was a newer one refused?

use axum::extract::State;
use ledger::Deed;
use ledger::account::ROOT;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb};
use super::wire::Answer;

/// The configuration in force, and what became of the last attempt to replace it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Configuration {
    /// The file; `null` where the server was started without one.
    #[schema(required)]
    pub file: Option<String>,
    /// How often it was replaced since the start.
    pub generation: u64,
    #[schema(format = DateTime)]
    pub in_force_since: String,
    /// What has changed in the file and takes a restart.
    pub waits_for_restart: Vec<String>,
    /// Units that have no price.
    pub unpriced: Vec<String>,
    /// What is wrong with the file as it is now; the one in force is an older one.
    #[schema(required)]
    pub refused: Option<RefusedConfiguration>,
}

/// A file that could not take the place of the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedConfiguration {
    #[schema(format = DateTime)]
    pub at: String,
    /// One line for each mistake: `file:line:column: what`.
    pub mistakes: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct ShowConfiguration;

impl Verb for ShowConfiguration {
    type Reply = Configuration;

    fn call(&self) -> Call {
        Call::get("/admin/v1/configuration")
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Configuration, AdminError> {
        // Mistakes may name accounts of everybody.
        actor.may(Deed::Read(&ROOT.into()))?;
        desk.configuration()
    }
}

/// Show the configuration in force, and what is wrong with a newer one
///
/// Takes a viewer of the root.
#[utoipa::path(get, path = "/admin/v1/configuration", operation_id = "show_configuration", tag = "server",
    responses((status = 200, body = Configuration), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn show(State(desk): State<Desk>, actor: Actor) -> Result<Answer<Configuration>, AdminError> {
    ShowConfiguration.perform(&desk, &actor).await.map(Answer::ok)
}
