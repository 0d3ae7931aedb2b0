//! What does an error of Bedrock's mean, and whose fault is it?

use serde_json::Value;

use crate::{ErrorAnswer, Fault, FaultKind, retry_after};

/// Reads an answer of an error's status. Its type stands in a header, or in the body.
pub(super) fn read(answer: &ErrorAnswer<'_>) -> Fault {
    let body: Value = serde_json::from_slice(answer.body).unwrap_or(Value::Null);
    let header =
        |name: &str| answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let named =
        header("x-amzn-errortype").or(body["__type"].as_str()).or(body["code"].as_str()).unwrap_or_default();
    let mut fault = match message(&body) {
        Some(message) => of_words(named, message, Some(answer.status)),
        // A page of some proxy on the way.
        None => {
            let text: String = String::from_utf8_lossy(answer.body).chars().take(200).collect();
            let words = format!("The upstream answered with status {}: {}", answer.status, text.trim());
            of_words(named, &words, Some(answer.status))
        }
    };
    fault.retry_after = retry_after::told(answer.headers, answer.now);
    fault
}

/// Reads an exception within a stream.
pub(super) fn of_exception(name: &str, payload: &[u8]) -> Fault {
    let body: Value = serde_json::from_slice(payload).unwrap_or(Value::Null);
    let status = body["originalStatusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
    let words = message(&body).or(body["originalMessage"].as_str()).unwrap_or("The stream broke.");
    of_words(name, words, status)
}

/// Reads an error by its type and its words; `status` helps where the type is unknown.
pub(super) fn of_words(named: &str, message: &str, status: Option<u16>) -> Fault {
    let name = type_name(named);
    let kind = kind(&name, message, status);
    let message = match kind {
        // Behind the first line a refused signature shows what was signed, the session's token included.
        FaultKind::Credentials => message.lines().next().unwrap_or_default(),
        _ => message,
    };
    let mut fault = Fault::new(kind, message);
    fault.code = Some(name).filter(|name| !name.is_empty());
    fault
}

fn message(body: &Value) -> Option<&str> {
    // Services differ in the letter.
    body["message"].as_str().or(body["Message"].as_str())
}

/// Returns `ThrottlingException` for `throttlingException`, `com.amazonaws#ThrottlingException` and
/// `ThrottlingException:http://internal.amazon.com/…`.
fn type_name(named: &str) -> String {
    let name = named.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default().trim();
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn kind(name: &str, message: &str, status: Option<u16>) -> FaultKind {
    let words = message.to_ascii_lowercase();
    match name {
        "ValidationException" => of_validation(&words),
        "ThrottlingException" | "TooManyRequestsException" if words.contains("per day") => {
            FaultKind::QuotaExhausted
        }
        "ThrottlingException" | "TooManyRequestsException" => FaultKind::RateLimited,
        "ServiceQuotaExceededException" => FaultKind::QuotaExhausted,
        "ServiceUnavailableException" | "ModelNotReadyException" => FaultKind::Overloaded,
        "ModelTimeoutException" | "RequestTimeoutException" => FaultKind::Timeout,
        "ModelErrorException"
        | "ModelStreamErrorException"
        | "InternalServerException"
        | "InternalFailure" => FaultKind::Server,
        "ResourceNotFoundException" => FaultKind::UnknownModel,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "OptInRequired" => FaultKind::Credentials,
        _ => of_status(status.unwrap_or(500), &words),
    }
}

fn of_validation(words: &str) -> FaultKind {
    let says = |part: &&str| words.contains(*part);
    let too_long = [
        "too long",
        "maximum context length",
        "exceeds the maximum number of input tokens",
        "exceeds the model's maximum",
        "exceed context limit",
        "input tokens exceeded",
    ];
    let unknown = [
        "model identifier is invalid",
        "on-demand throughput isn",
        "model is not supported",
        "end of its life",
    ];
    if too_long.iter().any(says) {
        FaultKind::ContextOverflow
    } else if unknown.iter().any(says) {
        FaultKind::UnknownModel
    } else if words.contains("content filtering policy") {
        FaultKind::ContentFiltered
    } else if words.contains("operation not allowed") {
        // An account that may not use the model.
        FaultKind::Credentials
    } else {
        FaultKind::BadRequest
    }
}

fn of_status(status: u16, words: &str) -> FaultKind {
    match status {
        400 => of_validation(words),
        401 | 403 => FaultKind::Credentials,
        404 => FaultKind::UnknownModel,
        408 | 504 => FaultKind::Timeout,
        424 => FaultKind::Server,
        429 => FaultKind::RateLimited,
        502 | 503 => FaultKind::Overloaded,
        402..=499 => FaultKind::BadRequest,
        _ => FaultKind::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, named: &str, body: &str) -> Fault {
        let headers = [("x-amzn-errortype".to_owned(), named.to_owned())];
        read(&ErrorAnswer { status, headers: &headers, body: body.as_bytes(), now: 0 })
    }

    #[test]
    fn each_error_has_one_who_must_mend_it() {
        for (status, named, words, kind) in [
            (400, "ValidationException", "Malformed input request", FaultKind::BadRequest),
            (
                400,
                "ValidationException",
                "Input is too long for requested model.",
                FaultKind::ContextOverflow,
            ),
            (
                400,
                "ValidationException",
                "prompt is too long: 210003 tokens > 200000 maximum",
                FaultKind::ContextOverflow,
            ),
            (
                400,
                "ValidationException",
                "The provided model identifier is invalid.",
                FaultKind::UnknownModel,
            ),
            (
                400,
                "ValidationException",
                "Invocation of model ID anthropic.claude-x with on-demand throughput isn’t supported.",
                FaultKind::UnknownModel,
            ),
            (400, "ValidationException", "Operation not allowed", FaultKind::Credentials),
            (403, "AccessDeniedException", "You don't have access to the model", FaultKind::Credentials),
            (
                403,
                "ExpiredTokenException",
                "The security token included in the request is expired",
                FaultKind::Credentials,
            ),
            (
                404,
                "ResourceNotFoundException",
                "Could not resolve the foundation model",
                FaultKind::UnknownModel,
            ),
            (408, "ModelTimeoutException", "took too long", FaultKind::Timeout),
            (424, "ModelErrorException", "The model failed", FaultKind::Server),
            (
                429,
                "ThrottlingException",
                "Too many tokens, please wait before trying again.",
                FaultKind::RateLimited,
            ),
            (429, "ThrottlingException", "Too many tokens per day, please wait", FaultKind::QuotaExhausted),
            (400, "ServiceQuotaExceededException", "exceeded", FaultKind::QuotaExhausted),
            (429, "ModelNotReadyException", "not ready", FaultKind::Overloaded),
            (503, "ServiceUnavailableException", "try again", FaultKind::Overloaded),
            (500, "InternalServerException", "oops", FaultKind::Server),
            (413, "", "too large", FaultKind::BadRequest),
        ] {
            let body = serde_json::json!({"message": words}).to_string();
            let found = fault(status, named, &body);
            assert_eq!((found.kind, found.message.as_str()), (kind, words), "{named}");
        }
    }

    #[test]
    fn a_type_is_found_wherever_it_stands() {
        let code = |fault: Fault| fault.code.unwrap();
        let long = "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/";
        assert_eq!(code(fault(429, long, r#"{"message":"m"}"#)), "ThrottlingException");
        let body = br#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","Message":"The security token is invalid"}"#;
        let found = read(&ErrorAnswer { status: 403, headers: &[], body, now: 0 });
        assert_eq!(
            (found.kind, found.message.as_str()),
            (FaultKind::Credentials, "The security token is invalid")
        );
        assert_eq!(
            code(of_exception("throttlingException", br#"{"message":"slow"}"#)),
            "ThrottlingException"
        );
    }

    #[test]
    fn a_refused_signature_does_not_show_what_was_signed() {
        let body = r#"{"message":"The request signature we calculated does not match.\n\nThe Canonical String was\n'x-amz-security-token:SECRET'"}"#;
        let found = fault(403, "InvalidSignatureException", body);
        assert_eq!(found.message, "The request signature we calculated does not match.");
    }
}
