//! Does the ledger balance?

use axum::extract::State;
use ledger::Deed;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb};
use super::wire::Answer;

/// The result of checking the whole book against itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Integrity {
    /// Whether the book balances.
    pub is_sound: bool,
    pub requests: u64,
    pub entries: u64,
    pub open_holds: u64,
    /// What is wrong, in words: the first findings.
    pub faults: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct CheckIntegrity;

impl Verb for CheckIntegrity {
    type Reply = Integrity;

    fn call(&self) -> Call {
        Call::get("/admin/v1/integrity")
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Integrity, AdminError> {
        actor.may(Deed::RunServer)?;
        let found = desk.journal.check_integrity().await?;
        Ok(Integrity {
            is_sound: found.is_sound(),
            requests: found.requests,
            entries: found.entries,
            open_holds: found.open_holds,
            faults: found.faults,
        })
    }
}

/// Check the whole ledger against itself
///
/// Reads every entry: seconds on a ledger of millions. Takes an owner of the root.
#[utoipa::path(get, path = "/admin/v1/integrity", operation_id = "check_integrity", tag = "ledger",
    responses((status = 200, body = Integrity), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn check(State(desk): State<Desk>, actor: Actor) -> Result<Answer<Integrity>, AdminError> {
    CheckIntegrity.perform(&desk, &actor).await.map(Answer::ok)
}
