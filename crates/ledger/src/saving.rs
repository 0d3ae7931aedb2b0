//! What did a request save that was answered without any work of its own?

use domain::{Account, ModelName, RequestId, Usage};
use serde::{Deserialize, Serialize};

use crate::{Circumstances, EndOutcome, Hold, KeyId, Shortage, Standing, TaskPath, Timestamp};

/// An answer was given again: nothing was used, and this much would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saving {
    pub request: RequestId,
    pub account: Account,
    /// The key that the caller showed, if any.
    pub key: Option<KeyId>,
    pub task: Option<TaskPath>,
    /// Whom the caller serves, in the caller's own words.
    pub end_user: Option<String>,
    /// What the answer was made with; its price now is what is saved.
    pub model: ModelName,
    pub circumstances: Circumstances,
    /// What the answer took when it was made.
    pub usage: Usage,
    pub at: Timestamp,
    pub way: SavedBy,
}

/// How an answer came to be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SavedBy {
    /// It was kept.
    Cache,
    /// Somebody asked the same at the same time, and both had the answer.
    Twin,
}

/// What a saving came to. Only `Booked` allows the answer to be given; of it, `repeated` says that this request had an end
/// already, which may be another than this.
#[expect(
    clippy::large_enum_variant,
    reason = "almost always the large one, made once for a request and taken apart at once"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveOutcome {
    /// With the limits that this request counted against, where it was booked now and had no hold before.
    Booked(EndOutcome, Vec<Standing>),
    Refused(Shortage),
}

impl Saving {
    /// Returns the hold that a request without a hold would have had: of nothing.
    pub fn hold(&self) -> Hold {
        Hold {
            request: self.request.clone(),
            account: self.account.clone(),
            key: self.key.clone(),
            task: self.task.clone(),
            end_user: self.end_user.clone(),
            model: self.model.clone(),
            circumstances: self.circumstances.clone(),
            estimate: Usage::default(),
            at: self.at,
        }
    }
}
