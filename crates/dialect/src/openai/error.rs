//! How is a refusal or a failure written?

use serde::Serialize;

use crate::BadRequest;

/// OpenAI's `error.type`. Which HTTP status goes with it is the gateway's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    InvalidRequestError,
    AuthenticationError,
    PermissionError,
    NotFoundError,
    RateLimitError,
    InsufficientQuota,
    ServerError,
    ServiceUnavailableError,
    TimeoutError,
}

/// `{"error": {…}}`, the one shape of everything that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    pub message: String,
    #[serde(rename = "type")]
    pub kind: ErrorType,
    pub param: Option<String>,
    pub code: Option<String>,
}

impl ErrorBody {
    pub fn new(kind: ErrorType, message: impl Into<String>) -> Self {
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
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a ErrorBody,
        }
        super::stream::json(&Body { error: self })
    }
}

impl From<BadRequest> for ErrorBody {
    fn from(bad: BadRequest) -> Self {
        Self { message: bad.message, kind: ErrorType::InvalidRequestError, param: bad.param, code: bad.code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_all_four_fields_even_when_empty() {
        let body = ErrorBody::new(ErrorType::RateLimitError, "too many").code("queue_full");
        assert_eq!(
            String::from_utf8(body.to_json()).unwrap(),
            r#"{"error":{"message":"too many","type":"rate_limit_error","param":null,"code":"queue_full"}}"#
        );
    }
}
