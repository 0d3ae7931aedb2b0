//! What is a client told when its request is refused or its answer broke? Each dialect prints this in its own shape.

use serde::Serialize;

use crate::BadRequest;

/// Sorts of trouble, in OpenAI's words (`error.type`). Which HTTP status goes with one is the gateway's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    InvalidRequestError,
    AuthenticationError,
    PermissionError,
    NotFoundError,
    RequestTooLarge,
    RateLimitError,
    InsufficientQuota,
    ServerError,
    ServiceUnavailableError,
    TimeoutError,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// What happened, and what the reader can do.
    pub message: String,
    /// Where in the request, such as `messages[2].content`.
    pub param: Option<String>,
    /// A word that programs can match on.
    pub code: Option<String>,
}

impl Trouble {
    pub fn new(kind: TroubleKind, message: impl Into<String>) -> Self {
        Self { message: message.into(), kind, param: None, code: None }
    }
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }
    pub fn param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }
}

impl From<BadRequest> for Trouble {
    fn from(bad: BadRequest) -> Self {
        let kind = TroubleKind::InvalidRequestError;
        Self { message: bad.message, kind, param: bad.param, code: bad.code }
    }
}
