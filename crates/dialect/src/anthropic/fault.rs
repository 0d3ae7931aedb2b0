//! What does an error's answer mean, and whose fault is it?

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::retry;
use crate::{ErrorAnswer, Fault, FaultKind};

/// An error in Anthropic's words. Whatever is missing or of another type is not said.
#[derive(Debug, Default)]
pub(super) struct ErrorIn {
    kind: Option<String>,
    message: String,
    /// A word that names the cause more closely; newer servers have it.
    code: Option<String>,
}

impl<'de> Deserialize<'de> for ErrorIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::of(&value))
    }
}

impl ErrorIn {
    fn of(error: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            kind: text(&error["type"]),
            message: text(&error["message"]).or_else(|| text(error)).unwrap_or_default(),
            code: text(&error["details"]["error_code"]),
        }
    }
}

/// Returns what an answer of an error's status means.
pub(super) fn of_answer(answer: &ErrorAnswer<'_>) -> Fault {
    let body: Option<Value> = serde_json::from_slice(answer.body).ok();
    let error = match &body {
        Some(body) => ErrorIn::of(&body["error"]),
        // A proxy on the way answers in whatever it likes.
        None => ErrorIn { message: String::from_utf8_lossy(answer.body).into_owned(), ..ErrorIn::default() },
    };
    Fault { retry_after: retry::wait(answer), ..fault(Some(answer.status), &error) }
}

/// Returns what an error means; in a stream it has no status.
pub(super) fn fault(status: Option<u16>, error: &ErrorIn) -> Fault {
    let kind = kind(status, error);
    let code = error.code.clone().or_else(|| error.kind.clone());
    match (error.message.trim(), status) {
        ("", Some(status)) => Fault { code, ..Fault::new(kind, &format!("status {status}")) },
        ("", None) => Fault { code, ..Fault::new(kind, "an error without a message") },
        (message, _) => Fault { code, ..Fault::new(kind, message) },
    }
}

fn kind(status: Option<u16>, error: &ErrorIn) -> FaultKind {
    if let Some(kind) = by_code(error.code.as_deref().unwrap_or_default()) {
        return kind;
    }
    let by_words = by_words(&error.message.to_lowercase());
    match error.kind.as_deref() {
        Some("invalid_request_error" | "rate_limit_error") if by_words.is_some() => {
            by_words.unwrap_or(FaultKind::BadRequest)
        }
        Some("authentication_error" | "permission_error") => FaultKind::Credentials,
        Some("billing_error") => FaultKind::QuotaExhausted,
        Some("not_found_error") => FaultKind::UnknownModel,
        Some("request_too_large") => FaultKind::ContextOverflow,
        Some("rate_limit_error") => FaultKind::RateLimited,
        Some("timeout_error") => FaultKind::Timeout,
        Some("overloaded_error") => FaultKind::Overloaded,
        // Some servers use these two for everything: then the status says more.
        _ => {
            let by_status = by_status(status, by_words);
            by_status.unwrap_or(match error.kind.as_deref() {
                Some("invalid_request_error") => FaultKind::BadRequest,
                _ => FaultKind::Server,
            })
        }
    }
}

fn by_code(code: &str) -> Option<FaultKind> {
    match code {
        "contract_spend_limit_reached"
        | "enforced_spend_limit_reached"
        | "linked_organization_spend_limit_reached"
        | "linked_organization_billing_unavailable"
        | "storage_quota_exceeded" => Some(FaultKind::QuotaExhausted),
        "organization_on_hold" => Some(FaultKind::Credentials),
        "ramp_limit_exceeded" => Some(FaultKind::RateLimited),
        "request_body_too_large_after_decoding" => Some(FaultKind::ContextOverflow),
        _ => None,
    }
}

/// One type covers many causes, and older servers tell them apart in words only. Anthropic does not promise these words: where
/// they change, the fault is told less well, but nothing breaks.
fn by_words(message: &str) -> Option<FaultKind> {
    const WORDS: [(&str, FaultKind); 9] = [
        ("prompt is too long", FaultKind::ContextOverflow),
        ("exceed context limit", FaultKind::ContextOverflow),
        ("exceeds the context window", FaultKind::ContextOverflow),
        ("exceed the context window", FaultKind::ContextOverflow),
        ("credit balance is too low", FaultKind::QuotaExhausted),
        ("specified api usage limits", FaultKind::QuotaExhausted),
        ("spend limit", FaultKind::QuotaExhausted),
        ("content filtering policy", FaultKind::ContentFiltered),
        ("organization has been disabled", FaultKind::Credentials),
    ];
    WORDS.into_iter().find(|(words, _)| message.contains(words)).map(|(_, kind)| kind)
}

fn by_status(status: Option<u16>, by_words: Option<FaultKind>) -> Option<FaultKind> {
    Some(match status? {
        401 | 403 => FaultKind::Credentials,
        402 => FaultKind::QuotaExhausted,
        404 => FaultKind::UnknownModel,
        408 | 504 => FaultKind::Timeout,
        413 => FaultKind::ContextOverflow,
        429 => by_words.unwrap_or(FaultKind::RateLimited),
        503 | 529 => FaultKind::Overloaded,
        400..=499 => by_words.unwrap_or(FaultKind::BadRequest),
        _ => FaultKind::Server,
    })
}
