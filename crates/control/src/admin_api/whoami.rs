//! What may the key do that asks?

use ledger::{Deed, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::keys::{RoleWord, ScopeLists};
use super::verb::{Call, Verb};
use super::wire::Answer;

/// The holder of the key that was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// `null` for who runs commands on the server's machine.
    #[schema(required)]
    pub key: Option<String>,
    /// The top of the subtree that it may act in.
    pub account: String,
    pub role: RoleWord,
    pub scopes: ScopeLists,
    pub calls_models: bool,
}

#[derive(Clone, Debug, Default)]
pub struct AskWhoAmI;

impl Verb for AskWhoAmI {
    type Reply = WhoAmI;

    fn call(&self) -> Call {
        Call::get("/admin/v1/whoami")
    }

    /// Everybody may know this, a member too.
    async fn perform(self, _: &Desk, actor: &Actor) -> Result<WhoAmI, AdminError> {
        let role: Role = actor.role;
        Ok(WhoAmI {
            key: actor.key.as_ref().map(|key| key.0.clone()),
            account: actor.account.to_string(),
            role: role.into(),
            scopes: actor.scopes.clone().into(),
            calls_models: actor.can(Deed::CallModels),
        })
    }
}

/// Show what the key may do that asks
#[utoipa::path(get, path = "/admin/v1/whoami", operation_id = "whoami", tag = "keys",
    responses((status = 200, body = WhoAmI), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn show(
    axum::extract::State(desk): axum::extract::State<Desk>,
    actor: Actor,
) -> Result<Answer<WhoAmI>, AdminError> {
    AskWhoAmI.perform(&desk, &actor).await.map(Answer::ok)
}
