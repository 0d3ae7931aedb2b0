//! What does an error of Google's mean, and whose fault is it?

use std::time::Duration;

use serde_json::Value;

use crate::{ErrorAnswer, Fault, FaultKind, retry_after};

/// Reads a `google.rpc.Status`, alone or in an array, as streams have it.
pub(super) fn read(answer: &ErrorAnswer<'_>) -> Fault {
    let body: Value = serde_json::from_slice(answer.body).unwrap_or(Value::Null);
    let body = body.get(0).unwrap_or(&body);
    let mut fault = match body.get("error") {
        Some(error) => of_error(error, answer.status),
        // A page of some proxy on the way.
        None => Fault::new(of_status(answer.status), &plain(answer)),
    };
    fault.retry_after = fault.retry_after.or_else(|| retry_after::told(answer.headers, answer.now));
    fault
}

/// Reads what stands under `error`; `status` is the HTTP status that it came with.
pub(super) fn of_error(error: &Value, status: u16) -> Fault {
    let message = error["message"].as_str().or(error.as_str()).unwrap_or("The upstream gave no message.");
    let named = error["status"].as_str();
    let code = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(status);
    let details = error["details"].as_array().map_or(&[][..], Vec::as_slice);
    let mut fault = Fault::new(kind(named, code, message, details), &without_keys(message));
    let reason = detail(details, "ErrorInfo").and_then(|info| info["reason"].as_str());
    fault.code = reason.or(named).map(str::to_owned);
    fault.param = detail(details, "BadRequest")
        .and_then(|bad| bad["fieldViolations"][0]["field"].as_str())
        .map(str::to_owned);
    fault.retry_after = detail(details, "RetryInfo").and_then(|info| seconds(info["retryDelay"].as_str()?));
    fault
}

fn kind(named: Option<&str>, code: u16, message: &str, details: &[Value]) -> FaultKind {
    match named {
        Some("INVALID_ARGUMENT" | "OUT_OF_RANGE") => of_bad_request(message, details),
        // The country, or billing that is not enabled.
        Some("FAILED_PRECONDITION") => FaultKind::Credentials,
        Some("UNAUTHENTICATED" | "PERMISSION_DENIED") => FaultKind::Credentials,
        Some("NOT_FOUND") => FaultKind::UnknownModel,
        Some("RESOURCE_EXHAUSTED") if is_spent(details) => FaultKind::QuotaExhausted,
        Some("RESOURCE_EXHAUSTED") => FaultKind::RateLimited,
        Some("UNAVAILABLE") => FaultKind::Overloaded,
        Some("DEADLINE_EXCEEDED") => FaultKind::Timeout,
        Some("INTERNAL" | "UNKNOWN" | "DATA_LOSS" | "ABORTED" | "CANCELLED" | "UNIMPLEMENTED") => {
            FaultKind::Server
        }
        _ if code == 400 => of_bad_request(message, details),
        _ => of_status(code),
    }
}

fn of_bad_request(message: &str, details: &[Value]) -> FaultKind {
    let reason = detail(details, "ErrorInfo").and_then(|info| info["reason"].as_str());
    let message = message.to_ascii_lowercase();
    let says = |words: &str| message.contains(words);
    if reason == Some("API_KEY_INVALID") || says("api key not valid") || says("api key expired") {
        FaultKind::Credentials
    } else if says("exceeds the maximum number of tokens") || says("input context is too long") {
        FaultKind::ContextOverflow
    } else {
        FaultKind::BadRequest
    }
}

/// Returns whether a quota is gone that no short wait brings back: a day's, or one of zero.
fn is_spent(details: &[Value]) -> bool {
    let violations = detail(details, "QuotaFailure").and_then(|failure| failure["violations"].as_array());
    violations.into_iter().flatten().any(|violation| {
        let is_daily = violation["quotaId"].as_str().is_some_and(|id| id.contains("PerDay"));
        is_daily || violation["quotaValue"].as_str() == Some("0")
    })
}

fn of_status(status: u16) -> FaultKind {
    match status {
        401 | 403 => FaultKind::Credentials,
        404 => FaultKind::UnknownModel,
        408 | 504 => FaultKind::Timeout,
        429 => FaultKind::RateLimited,
        502 | 503 | 529 => FaultKind::Overloaded,
        400..=499 => FaultKind::BadRequest,
        _ => FaultKind::Server,
    }
}

fn detail<'a>(details: &'a [Value], kind: &str) -> Option<&'a Value> {
    let is_kind = |detail: &&Value| detail["@type"].as_str().is_some_and(|name| name.ends_with(kind));
    details.iter().find(is_kind)
}

/// Reads a duration such as `17s` or `0.250s`.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn plain(answer: &ErrorAnswer<'_>) -> String {
    let text: String = String::from_utf8_lossy(answer.body).chars().take(200).collect();
    format!("The upstream answered with status {}: {}", answer.status, without_keys(text.trim()))
}

/// Returns the message without keys: Google repeats the caller's when it is suspended.
fn without_keys(message: &str) -> String {
    let is_key = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let mut clean = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((place, mark)) = ["api_key:", "AIza", "ya29."]
        .iter()
        .filter_map(|mark| rest.find(mark).map(|place| (place, *mark)))
        .min()
    {
        let behind = &rest[place + mark.len()..];
        let end = behind.find(|letter| !is_key(letter)).unwrap_or(behind.len());
        clean.push_str(&rest[..place]);
        clean.push_str("[key]");
        rest = &behind[end..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(status: u16, body: &Value) -> Fault {
        let body = body.to_string();
        read(&ErrorAnswer { status, headers: &[], body: body.as_bytes(), now: 0 })
    }

    fn said(code: u16, status: &str, message: &str) -> Fault {
        fault(code, &json!({"error": {"code": code, "status": status, "message": message}}))
    }

    #[test]
    fn each_error_has_one_who_must_mend_it() {
        let long = "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).";
        for (code, status, message, kind) in [
            (400, "INVALID_ARGUMENT", "Invalid value at 'contents[0]'", FaultKind::BadRequest),
            (400, "INVALID_ARGUMENT", long, FaultKind::ContextOverflow),
            (
                400,
                "INVALID_ARGUMENT",
                "API key not valid. Please pass a valid API key.",
                FaultKind::Credentials,
            ),
            (
                400,
                "FAILED_PRECONDITION",
                "User location is not supported for the API use.",
                FaultKind::Credentials,
            ),
            (
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials.",
                FaultKind::Credentials,
            ),
            (403, "PERMISSION_DENIED", "The caller does not have permission", FaultKind::Credentials),
            (
                404,
                "NOT_FOUND",
                "models/gemini-9 is not found for API version v1beta",
                FaultKind::UnknownModel,
            ),
            (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted", FaultKind::RateLimited),
            (500, "INTERNAL", "An internal error has occurred.", FaultKind::Server),
            (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", FaultKind::Overloaded),
            (504, "DEADLINE_EXCEEDED", "Deadline expired", FaultKind::Timeout),
            (418, "", "short and stout", FaultKind::BadRequest),
        ] {
            let fault = said(code, status, message);
            assert_eq!((fault.kind, fault.message.as_str()), (kind, message));
        }
    }

    #[test]
    fn a_minute_s_quota_comes_back_and_a_day_s_does_not() {
        let body = |quota: &str| {
            json!([{"error": {"code": 429, "message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED", "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota, "quotaValue": "50"}]},
                {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}]}}])
        };
        let minute = fault(429, &body("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"));
        assert_eq!(
            (minute.kind, minute.retry_after),
            (FaultKind::RateLimited, Some(Duration::from_millis(17_500)))
        );
        let day = fault(429, &body("GenerateRequestsPerDayPerProjectPerModel-FreeTier"));
        assert_eq!((day.kind, day.code.as_deref()), (FaultKind::QuotaExhausted, Some("RESOURCE_EXHAUSTED")));
    }

    #[test]
    fn a_key_in_google_s_words_is_not_passed_on() {
        let fault =
            said(403, "PERMISSION_DENIED", "Consumer 'api_key:AIzaSyD-x_1' has been suspended, AIzaSyD-x_1.");
        assert_eq!(fault.message, "Consumer '[key]' has been suspended, [key]");
    }

    #[test]
    fn what_is_no_status_of_google_s_goes_by_its_http_status() {
        let headers = [("retry-after".to_owned(), "3".to_owned())];
        let fault = read(&ErrorAnswer { status: 502, headers: &headers, body: b"<html>Bad \xff", now: 0 });
        assert_eq!((fault.kind, fault.retry_after), (FaultKind::Overloaded, Some(Duration::from_secs(3))));
    }
}
