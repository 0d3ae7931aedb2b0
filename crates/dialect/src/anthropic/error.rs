//! How is a refusal or a failure written?

use serde::Serialize;

use crate::{Trouble, TroubleKind};

/// `{"type": "error", "error": {…}}`, the one shape of everything that went wrong.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

/// Where Anthropic's clients look for a word to match on.
#[derive(Serialize)]
struct Details<'a> {
    error_code: &'a str,
}

/// Returns the body of an error's answer, and the data of an error's event.
///
/// The field's place is not said apart: every message of ours names it already.
pub fn to_json(trouble: &Trouble) -> Vec<u8> {
    let Trouble { kind, message, code, .. } = trouble;
    let details = code.as_deref().map(|error_code| Details { error_code });
    super::wire::json(&Body { kind: "error", error: Error { kind: word(*kind), message, details } })
}

fn word(kind: TroubleKind) -> &'static str {
    match kind {
        TroubleKind::InvalidRequestError => "invalid_request_error",
        TroubleKind::AuthenticationError => "authentication_error",
        TroubleKind::PermissionError => "permission_error",
        TroubleKind::NotFoundError => "not_found_error",
        TroubleKind::RequestTooLarge => "request_too_large",
        TroubleKind::RateLimitError => "rate_limit_error",
        TroubleKind::InsufficientQuota => "billing_error",
        TroubleKind::ServerError => "api_error",
        TroubleKind::ServiceUnavailableError => "overloaded_error",
        TroubleKind::TimeoutError => "timeout_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(trouble: &Trouble) -> String {
        String::from_utf8(to_json(trouble)).unwrap()
    }

    #[test]
    fn an_error_has_a_type_and_a_message_and_a_code_only_when_there_is_one() {
        let trouble = Trouble::new(TroubleKind::ServiceUnavailableError, "busy");
        assert_eq!(said(&trouble), r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#);
        let trouble = Trouble::new(TroubleKind::InsufficientQuota, "spent").code("budget_exhausted");
        let expected = r#"{"type":"error","error":{"type":"billing_error","message":"spent","details":{"error_code":"budget_exhausted"}}}"#;
        assert_eq!(said(&trouble), expected);
    }
}
