//! What does an administrator hear who asked for something that cannot be done?

use axum::response::{IntoResponse, Response};
use domain::Account;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use ledger::budget::LimitError;
use ledger::{LedgerError, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AdminError {
    #[error("{message}")]
    BadRequest { param: Option<String>, message: String },
    #[error("the admin API needs a key with a role; send it as `Authorization: Bearer <key>`")]
    KeyMissing,
    #[error(
        "a key with the role {role} of the account {account} may not {deed}; ask an owner or an admin from above"
    )]
    NotAllowed { role: Role, account: Account, deed: String },
    #[error("the new key's {scope} would reach further than those of the key that makes it")]
    WiderScope { scope: &'static str },
    #[error("there is no {what} {name:?}")]
    NotFound { what: &'static str, name: String },
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// What a server answered to a verb that was sent there.
    #[error("{}", .body.message)]
    Remote { status: u16, body: ErrorDetail },
    /// A server did not answer as one of ours does.
    #[error("{0}")]
    Unreachable(String),
    #[error("something broke inside the server: {0}")]
    Internal(String),
}

/// What is read of every error, on the admin API as on the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// For people: what is wrong, and what helps.
    pub message: String,
    /// The class of the error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field or parameter that is wrong.
    #[schema(required)]
    pub param: Option<String>,
    /// For programs: a word that does not change.
    #[schema(required)]
    pub code: Option<String>,
}

impl AdminError {
    pub fn bad(param: impl Into<String>, message: impl ToString) -> Self {
        Self::BadRequest { param: Some(param.into()), message: message.to_string() }
    }

    /// Whether the account, key or limit that was named is missing, so that it could be made.
    pub fn is_not_found(&self) -> bool {
        self.status() == StatusCode::NOT_FOUND
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::KeyMissing => StatusCode::UNAUTHORIZED,
            Self::NotAllowed { .. } | Self::WiderScope { .. } => StatusCode::FORBIDDEN,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Ledger(error) => self::status(error),
            Self::Remote { status, .. } => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Unreachable(_) => StatusCode::BAD_GATEWAY,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "invalid_request",
            Self::KeyMissing => "missing_api_key",
            Self::NotAllowed { .. } => "role_missing",
            Self::WiderScope { .. } => "scope_missing",
            Self::NotFound { .. } => "not_found",
            Self::Ledger(error) => code(error),
            Self::Remote { .. } | Self::Unreachable(_) => "server_unreachable",
            Self::Internal(_) => "internal_error",
        }
    }

    pub fn body(&self) -> ErrorBody {
        if let Self::Remote { body, .. } = self {
            return ErrorBody { error: body.clone() };
        }
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::SERVICE_UNAVAILABLE => "service_unavailable_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let param = match self {
            Self::BadRequest { param, .. } => param.clone(),
            Self::WiderScope { scope } => Some(format!("scopes.{scope}")),
            Self::Ledger(error) => param(error),
            _ => None,
        };
        let detail = ErrorDetail {
            message: self.to_string(),
            kind: kind.to_owned(),
            param,
            code: Some(self.code().to_owned()),
        };
        ErrorBody { error: detail }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.body()).expect("an error is plain data");
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn status(error: &LedgerError) -> StatusCode {
    match error {
        LedgerError::NoSuchAccount { .. }
        | LedgerError::NoSuchKey { .. }
        | LedgerError::BadLimit(LimitError::NoSuchLimit { .. }) => StatusCode::NOT_FOUND,
        LedgerError::BadLimit(LimitError::Different { .. } | LimitError::TooMany { .. }) => {
            StatusCode::CONFLICT
        }
        LedgerError::BadLimit(_) => StatusCode::BAD_REQUEST,
        LedgerError::AccountExists { .. }
        | LedgerError::AccountClosed { .. }
        | LedgerError::KeyNameTaken { .. }
        | LedgerError::KeyNotActive { .. }
        | LedgerError::KeyReplaced { .. } => StatusCode::CONFLICT,
        LedgerError::BadAccount { .. }
        | LedgerError::BadLabel { .. }
        | LedgerError::BadScope { .. }
        | LedgerError::BadExpiry
        | LedgerError::TooLarge { .. } => StatusCode::BAD_REQUEST,
        error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn code(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::NoSuchAccount { .. }
        | LedgerError::NoSuchKey { .. }
        | LedgerError::BadLimit(LimitError::NoSuchLimit { .. }) => "not_found",
        LedgerError::BadLimit(_) => "invalid_limit",
        LedgerError::AccountExists { .. } => "account_exists",
        LedgerError::AccountClosed { .. } => "account_closed",
        LedgerError::KeyNameTaken { .. } => "key_name_taken",
        LedgerError::KeyNotActive { .. } => "key_not_active",
        LedgerError::KeyReplaced { .. } => "key_replaced",
        LedgerError::BadAccount { .. } => "invalid_account",
        LedgerError::BadLabel { .. } => "invalid_label",
        LedgerError::BadScope { .. } => "invalid_scope",
        LedgerError::BadExpiry => "invalid_expiry",
        error if error.is_retryable() => "ledger_unavailable",
        _ => "ledger_failed",
    }
}

fn param(error: &LedgerError) -> Option<String> {
    match error {
        LedgerError::BadAccount { .. } | LedgerError::NoSuchAccount { .. } => Some("account".into()),
        LedgerError::BadLabel { what, .. } => Some(what.replace(' ', "_")),
        LedgerError::BadScope { scope, .. } => Some(format!("scopes.{scope}")),
        LedgerError::BadExpiry => Some("expires_at".into()),
        LedgerError::KeyNameTaken { .. } => Some("name".into()),
        _ => None,
    }
}
