//! What a provider's refusal means.

use std::time::Duration;

use serde_json::json;

use super::super::Messages;
use crate::{ErrorAnswer, Fault, FaultKind, Upstream};

fn fault(status: u16, body: &str, headers: &[(&str, &str)]) -> Fault {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers: Vec<(String, String)> = headers.iter().map(owned).collect();
    Messages.fault(&ErrorAnswer { status, headers: &headers, body: body.as_bytes(), now: 0 })
}

fn kind(status: u16, error: &str, message: &str) -> FaultKind {
    let body = json!({"type": "error", "error": {"type": error, "message": message}, "request_id": "req_1"});
    fault(status, &body.to_string(), &[]).kind
}

#[test]
fn faults_are_told_apart_by_type_status_and_words() {
    use FaultKind::*;
    let table = [
        (400, "invalid_request_error", "messages: at least one message is required", BadRequest),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", ContextOverflow),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            ContextOverflow,
        ),
        (400, "invalid_request_error", "Your credit balance is too low to access the API.", QuotaExhausted),
        (400, "invalid_request_error", "You have reached your specified API usage limits.", QuotaExhausted),
        (400, "invalid_request_error", "Output blocked by content filtering policy", ContentFiltered),
        (401, "authentication_error", "invalid x-api-key", Credentials),
        (402, "billing_error", "pay first", QuotaExhausted),
        (403, "permission_error", "not yours", Credentials),
        (404, "not_found_error", "model: claude-0", UnknownModel),
        (413, "request_too_large", "Request exceeds the maximum size", ContextOverflow),
        (429, "rate_limit_error", "This request would exceed your organization's rate limit", RateLimited),
        (429, "rate_limit_error", "You have hit your spend limit", QuotaExhausted),
        (500, "api_error", "Internal server error", Server),
        (504, "timeout_error", "Timed out", Timeout),
        (529, "overloaded_error", "Overloaded", Overloaded),
        (503, "api_error", "not now", Overloaded),
        (418, "teapot_error", "short and stout", BadRequest),
    ];
    for (status, error, message, expected) in table {
        assert_eq!(kind(status, error, message), expected, "{status} {error} {message}");
    }
}

#[test]
fn a_code_says_more_than_words() {
    let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "no",
        "details": {"error_code": "enforced_spend_limit_reached"}}});
    let fault_one = fault(429, &body.to_string(), &[]);
    assert_eq!(fault_one.kind, FaultKind::QuotaExhausted);
    assert_eq!(fault_one.code.as_deref(), Some("enforced_spend_limit_reached"));
}

#[test]
fn an_answer_in_no_words_of_this_dialect_is_judged_by_its_status() {
    for (status, expected) in
        [(502, FaultKind::Server), (529, FaultKind::Overloaded), (413, FaultKind::ContextOverflow)]
    {
        let fault = fault(status, "<html>Bad gateway</html>", &[]);
        assert_eq!((fault.kind, fault.message.as_str()), (expected, "<html>Bad gateway</html>"));
    }
    assert_eq!(fault(500, "", &[]).message, "status 500");
    assert_eq!(fault(400, r#"{"error":"nope"}"#, &[]).message, "nope");
}

#[test]
fn a_refusal_says_when_to_come_again() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;
    let wait = Some(Duration::from_secs(12));
    assert_eq!(fault(429, body, &[("retry-after", "12")]).retry_after, wait);
    assert_eq!(fault(429, body, &[]).retry_after, None);
}
