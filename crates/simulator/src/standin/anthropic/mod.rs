//! How does Anthropic's Messages API answer?

mod messages;
mod shape;
mod stream;

use serde_json::{Value, json};

use super::check::{Fault, Problem, Step, key};
use super::http::Request;
use super::reply::{Class, Reply, Trouble};
use super::server::Context;

const VERSION_WITH_SAMPLING: &str = "2023-06-01";
const VERSION: &str = "2026-10-21";

pub fn answer(request: &Request, mut context: Context<'_>) -> Result<Reply, Trouble> {
    let counts_only = match (&*request.method, &*request.path) {
        ("POST", "/v1/messages") => false,
        ("POST", "/v1/messages/count_tokens") => true,
        (_, "/v1/messages") => return Err(Trouble::new(405, Class::Invalid, "Method Not Allowed")),
        _ => return Err(Trouble::new(404, Class::NotFound, "Not Found")),
    };
    authorise(request, &context)?;
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Trouble::invalid(format!("The request body is not valid JSON: {error}")))?;
    if request.header("anthropic-version") == Some(VERSION) {
        check_newest(&body)?;
    }
    let reply = match counts_only {
        true => messages::count(&body, &context)?,
        false => messages::answer(&body, &mut context)?,
    };
    Ok(reply
        .with("request-id", context.id("req_01", 1, 22))
        .with("anthropic-organization-id", "standin")
        .with("anthropic-ratelimit-requests-limit", "4000")
        .with("anthropic-ratelimit-requests-remaining", "3999")
        .with("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:00Z"))
}

/// `{"type": "error", "error": {"type", "message"}, "request_id"}`
pub fn refusal(trouble: &Trouble) -> Reply {
    let error_type = match trouble.class {
        Class::Invalid | Class::ContextTooLong => "invalid_request_error",
        Class::Unauthorized => "authentication_error",
        Class::Forbidden => "permission_error",
        Class::NotFound => "not_found_error",
        Class::RateLimited => "rate_limit_error",
        Class::Overloaded => "overloaded_error",
        Class::Server => "api_error",
    };
    let message = trouble.problem.as_ref().map_or_else(|| trouble.message.clone(), worded);
    let error = json!({"type": error_type, "message": message});
    Reply::json(trouble.status, &json!({"type": "error", "error": error, "request_id": "req_011standin"}))
}

/// What the newer version has taken away.
fn check_newest(body: &Value) -> Result<(), Problem> {
    if let Some(name) = ["temperature", "top_p", "top_k"].into_iter().find(|name| body.get(name).is_some()) {
        return Err(Problem { path: vec![key(name)], fault: Fault::Unknown });
    }
    for (place, message) in body["messages"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, message)| message["role"] == "user")
    {
        for (number, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            if block["type"] == "text" && block["citations"].as_array().is_some_and(|list| !list.is_empty()) {
                let at = [
                    key("messages"),
                    Step::Place(place),
                    key("content"),
                    Step::Place(number),
                    key("citations"),
                ];
                return Err(Problem { path: at.into(), fault: Fault::Unknown });
            }
        }
    }
    Ok(())
}

fn authorise(request: &Request, context: &Context<'_>) -> Result<(), Trouble> {
    // The client libraries of late 2026 send their key as a bearer token; those before, and curl, as `x-api-key`.
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match request.header("x-api-key").or(bearer) {
        Some(key) if key == context.settings.key => {}
        Some(_) => return Err(Trouble::new(401, Class::Unauthorized, "invalid x-api-key")),
        None => return Err(Trouble::new(401, Class::Unauthorized, "x-api-key header is required")),
    }
    match request.header("anthropic-version") {
        Some(VERSION_WITH_SAMPLING | VERSION) => {}
        Some(version) => {
            let text = format!("anthropic-version: \"{version}\" is not a valid version.");
            return Err(Trouble::invalid(text));
        }
        None => return Err(Trouble::invalid("anthropic-version: header is required")),
    }
    match request.header("content-type") {
        Some(value) if value.starts_with("application/json") => Ok(()),
        _ => Err(Trouble::invalid("content-type: must be application/json")),
    }
}

fn worded(problem: &Problem) -> String {
    let place = problem.dotted();
    match &problem.fault {
        Fault::Unknown => format!("{place}: Extra inputs are not permitted"),
        Fault::Missing => format!("{place}: Field required"),
        Fault::Wrong { expected, .. } => format!("{place}: Input should be a valid {expected}"),
        Fault::Range { low, found, .. } if found < low => {
            format!("{place}: Input should be greater than or equal to {low}")
        }
        Fault::Range { high, .. } => format!("{place}: Input should be less than or equal to {high}"),
        Fault::NotAmong { words, found } => {
            let words = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
            format!("{place}: Input tag '{found}' does not match any of the expected tags: {words}")
        }
        Fault::Rule(text) if place.is_empty() => text.clone(),
        Fault::Rule(text) => format!("{place}: {text}"),
    }
}
