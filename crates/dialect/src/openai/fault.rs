//! What does an error mean, in OpenAI's shape and in those of servers, proxies and clouds that are called compatible?

use serde_json::Value;

use crate::{ErrorAnswer, Fault, FaultKind};

/// Reads an answer whose status says that something is wrong.
pub(super) fn read(answer: &ErrorAnswer<'_>) -> Fault {
    let mut fault = match serde_json::from_slice::<Value>(answer.body) {
        Ok(value) => of_value(Some(answer.status), &value),
        Err(_) => of_text(answer.status, &String::from_utf8_lossy(answer.body)),
    };
    // What is left of a limit is in every answer; only where a limit was met does it say when to come back.
    fault.retry_after = match fault.kind {
        FaultKind::RateLimited => crate::retry_after::with_limits(answer.headers, answer.now),
        _ => crate::retry_after::told(answer.headers, answer.now),
    };
    fault
}

/// Whether a body of a good status is an error all the same.
pub(super) fn is_error(value: &Value) -> bool {
    let says = |name: &str, word: &str| value[name] == word;
    value.get("error").is_some_and(|error| !error.is_null())
        || says("object", "error")
        || says("type", "error")
        || value.get("detail").is_some() && value.get("choices").is_none()
        || value.get(0).is_some_and(|first| first.get("error").is_some())
}

/// Reads an error's object, or a body that holds one.
pub(super) fn of_value(status: Option<u16>, value: &Value) -> Fault {
    let value = value.get(0).unwrap_or(value);
    let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
    let text = |name: &str| match &error[name] {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let message = match error {
        Value::String(text) => text.clone(),
        // FastAPI says what it did not like in `detail`, as a text or as a list of places.
        error => text("message")
            .or_else(|| text("detail"))
            .or_else(|| detail(&error["detail"]))
            .unwrap_or_default(),
    };
    let inner = [&error["innererror"]["code"], &error["inner_error"]["code"]];
    let inner = inner.into_iter().find_map(Value::as_str).map(str::to_owned);
    let code = text("code").or_else(|| text("error_type")).or_else(|| text("type"));
    let status = status.or_else(|| {
        let numbers =
            [&error["code"], &error["status"], &error["statusCode"], &value["statusCode"], &value["status"]];
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        numbers
            .into_iter()
            .find_map(number)
            .filter(|status| (400..600).contains(status))
            .map(|status| status as u16)
    });
    let words = [inner, text("code"), text("type"), text("status"), text("error_type")];
    let is_rejected = words.iter().flatten().any(|word| is_rejection(word));
    let status = status.or(is_rejected.then_some(400));
    let is_flagged =
        error["metadata"]["flagged_input"].is_string() || error["metadata"]["reasons"].is_array();
    let by_word = words.iter().flatten().find_map(|word| of_word(word));
    let kind = if is_flagged { Some(FaultKind::ContentFiltered) } else { by_word };
    let kind = kind.or_else(|| of_message(status, &message)).unwrap_or_else(|| of_status(status));
    Fault { code, param: text("param"), ..told(kind, status, &message) }
}

/// Reads what is no JSON: a proxy's page, a line of text, nothing.
fn of_text(status: u16, body: &str) -> Fault {
    let body = body.trim();
    let message = match body.starts_with('<') {
        true => title(body).map(|title| format!("a page titled '{title}'")).unwrap_or_default(),
        false => body.to_owned(),
    };
    let kind = of_message(Some(status), &message).unwrap_or_else(|| of_status(Some(status)));
    told(kind, Some(status), &message)
}

/// Returns a fault with words that a client may see.
fn told(kind: FaultKind, status: Option<u16>, message: &str) -> Fault {
    match kind {
        // What is wrong with a key is said with a part of the key.
        FaultKind::Credentials => Fault::new(kind, "The upstream does not accept this server's credentials."),
        kind if message.is_empty() => {
            let status = status.map_or_else(|| "no status".to_owned(), |status| format!("status {status}"));
            Fault::new(kind, &format!("The upstream failed with {status} and said no more."))
        }
        kind => Fault::new(kind, message),
    }
}

fn detail(detail: &Value) -> Option<String> {
    let one = |problem: &Value| {
        let place: Vec<String> = problem["loc"]
            .as_array()?
            .iter()
            .map(|step| match step {
                Value::String(step) => step.clone(),
                step => step.to_string(),
            })
            .collect();
        Some(format!("{}: {}", place.join("."), problem["msg"].as_str()?))
    };
    let all: Vec<String> = detail.as_array()?.iter().filter_map(one).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn title(page: &str) -> Option<&str> {
    let begin = page.find("<title>")? + "<title>".len();
    let end = begin + page[begin..].find('<')?;
    Some(page[begin..end].trim()).filter(|title| !title.is_empty())
}

/// Codes and types, as they are written in all these places.
fn of_word(word: &str) -> Option<FaultKind> {
    let word = word.to_ascii_lowercase();
    let is = |words: &[&str]| words.contains(&word.as_str());
    let kinds = [
        (
            FaultKind::ContextOverflow,
            is(&[
                "context_length_exceeded",
                "context_window_exceeded",
                "context_overflow",
                "exceed_context_size_error",
            ]),
        ),
        (
            FaultKind::QuotaExhausted,
            is(&[
                "insufficient_quota",
                "billing_hard_limit_reached",
                "billing_not_active",
                "quota_exceeded",
                "insufficient_balance",
                "insufficient_credits",
                "account_balance_exhausted",
                "budget_exceeded",
            ]),
        ),
        (
            FaultKind::RateLimited,
            is(&[
                "rate_limit_exceeded",
                "rate_limit_error",
                "rate_limited",
                "ratelimitreached",
                "too_many_requests",
                "toomanyrequests",
                "tokens",
                "requests",
                "resource_exhausted",
                "tokens_per_minute_limit_exceeded",
            ]),
        ),
        (
            FaultKind::ContentFiltered,
            is(&[
                "content_filter",
                "content_filtered",
                "content_policy_violation",
                "responsibleaipolicyviolation",
                "moderation_blocked",
                "invalid_prompt",
                "cyber_policy",
                "data_inspection_failed",
            ]),
        ),
        (
            FaultKind::Credentials,
            is(&[
                "invalid_api_key",
                "authentication_error",
                "invalid_authentication",
                "permission_error",
                "permission_denied",
                "permissiondenied",
                "unauthorized",
                "unauthenticated",
                "account_deactivated",
                "invalid_organization",
                "no_organization",
                "unsupported_country_region_territory",
                "forbidden",
                "missing_scope",
                "ip_not_authorized",
            ]),
        ),
        (
            FaultKind::UnknownModel,
            is(&[
                "model_not_found",
                "deploymentnotfound",
                "model_not_available",
                "modelnotfound",
                "unknown_model",
                "model_not_exist",
                "model_decommissioned",
            ]),
        ),
        (
            FaultKind::Overloaded,
            is(&[
                "overloaded",
                "overloaded_error",
                "engine_overloaded",
                "engine_overloaded_error",
                "server_overloaded",
                "server_is_overloaded",
                "slow_down",
                "service_unavailable",
                "service_unavailable_error",
                "capacity_exceeded",
                "unavailable",
            ]),
        ),
        (FaultKind::Timeout, is(&["timeout", "timeout_error", "request_timeout", "deadline_exceeded"])),
        (
            FaultKind::Server,
            is(&["server_error", "internal_error", "internal_server_error", "api_error", "internal"]),
        ),
    ];
    kinds.into_iter().find(|(_, is_it)| *is_it).map(|(kind, _)| kind)
}

/// Words for a request that is wrong, which say less than the code beside them.
fn is_rejection(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    ["invalid_request_error", "invalid_request", "invalid_argument", "badrequesterror", "bad_request"]
        .contains(&&*word)
}

/// Some servers have no word for what must be told apart, only sentences.
fn of_message(status: Option<u16>, message: &str) -> Option<FaultKind> {
    let message = message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    let is_rejected = matches!(status, None | Some(400 | 413 | 422));
    if is_rejected
        && says(&[
            "maximum context length",
            "context length",
            "context window",
            "prompt is too long",
            "prompt too long",
            "input token count",
            "reduce the length",
            "exceeds the available context",
            "maximum prompt length",
        ])
    {
        return Some(FaultKind::ContextOverflow);
    }
    if is_rejected && says(&["api key not valid", "invalid api key", "incorrect api key"]) {
        return Some(FaultKind::Credentials);
    }
    let is_quota = matches!(status, Some(400 | 403 | 429))
        && says(&["exceeded your current quota", "insufficient balance", "credit balance", "out of credits"]);
    is_quota.then_some(FaultKind::QuotaExhausted)
}

fn of_status(status: Option<u16>) -> FaultKind {
    match status {
        Some(401 | 403 | 407) => FaultKind::Credentials,
        Some(402) => FaultKind::QuotaExhausted,
        // The path is ours, so what is not there is the model, or the whole address: both are ours to mend.
        Some(404 | 410) => FaultKind::UnknownModel,
        Some(408 | 499 | 504 | 522 | 524) => FaultKind::Timeout,
        // Each upstream has its own bound.
        Some(413) => FaultKind::ContextOverflow,
        Some(429) => FaultKind::RateLimited,
        // 425: not yet; 498: Groq has no room for flex; 529: Anthropic's "overloaded".
        Some(425 | 498 | 503 | 529) => FaultKind::Overloaded,
        Some(400..500) => FaultKind::BadRequest,
        _ => FaultKind::Server,
    }
}
