//! How do Google's generative models answer, in AI Studio and on Vertex?

mod generate;
mod service_account;
mod shape;

use serde_json::{Value, json};

use super::Kind;
use super::check::{Fault, Problem};
use super::http::{Request, percent_decoded};
use super::reply::{Body, Class, Reply, Trouble};
use super::server::Context;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Generate,
    /// `alt=sse` is given.
    StreamEvents,
    /// It is not: the events are one array.
    StreamArray,
    Count,
}

pub fn answer(request: &Request, mut context: Context<'_>) -> Result<Reply, Trouble> {
    let path = percent_decoded(&request.path);
    if context.kind == Kind::Vertex && path == "/token" {
        return Ok(service_account::token(request, context.settings));
    }
    let (model, verb) = target(request, &path, context.kind)?;
    authorise(request, &context)?;
    if model.starts_with("no-such") {
        let text = format!(
            "models/{model} is not found for API version v1beta, or is not supported for generateContent."
        );
        return Err(Trouble::new(404, Class::NotFound, text));
    }
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Trouble::invalid(format!("Invalid JSON payload received. {error}")))?;
    generate::answer(&in_camel_case(body), &model, verb, &mut context)
}

/// Protocol buffers' JSON takes a field by either of its names: `tool_config` is `toolConfig`.
fn in_camel_case(value: Value) -> Value {
    /// What is below these is not the API's.
    const FREE: [&str; 8] = [
        "args",
        "response",
        "parametersJsonSchema",
        "responseJsonSchema",
        "responseSchema",
        "parameters",
        "labels",
        "properties",
    ];
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(in_camel_case).collect()),
        Value::Object(map) => {
            let renamed = map.into_iter().map(|(name, value)| {
                let name = camel(&name);
                let value = if FREE.contains(&&*name) { value } else { in_camel_case(value) };
                (name, value)
            });
            Value::Object(renamed.collect())
        }
        value => value,
    }
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

/// `{"error": {"code", "message", "status", "details"}}`
pub fn refusal(trouble: &Trouble) -> Reply {
    let status = match trouble.class {
        Class::Invalid | Class::ContextTooLong => "INVALID_ARGUMENT",
        Class::Unauthorized if trouble.status == 400 => "INVALID_ARGUMENT",
        Class::Unauthorized => "UNAUTHENTICATED",
        Class::Forbidden => "PERMISSION_DENIED",
        Class::NotFound => "NOT_FOUND",
        Class::RateLimited => "RESOURCE_EXHAUSTED",
        Class::Overloaded => "UNAVAILABLE",
        Class::Server => "INTERNAL",
    };
    let message = trouble.problem.as_ref().map_or_else(|| trouble.message.clone(), worded);
    let mut error = json!({"code": trouble.status, "message": message, "status": status});
    if let Some(problem) = &trouble.problem {
        let violation = json!({"field": problem.bracketed(), "description": message});
        error["details"] =
            json!([{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]);
    }
    if trouble.class == Class::Unauthorized && trouble.status == 400 {
        error["details"] = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
            "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}}]);
    }
    Reply::json(trouble.status, &json!({"error": error}))
}

/// Says in the details when to come back.
pub fn with_retry_info(reply: &Reply, seconds: f64) -> Value {
    let mut value = match &reply.body {
        Body::Whole { bytes, .. } => serde_json::from_slice(bytes).unwrap_or_default(),
        Body::Stream(_) => Value::Null,
    };
    let delay = format!("{seconds}s");
    value["error"]["details"] =
        json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]);
    value
}

fn target(request: &Request, path: &str, kind: Kind) -> Result<(String, Verb), Trouble> {
    let not_found = || {
        Trouble::new(404, Class::NotFound, format!("The requested URL {path} was not found on this server."))
    };
    let last = match kind {
        Kind::Vertex => {
            let parts: Vec<&str> = path.split('/').collect();
            match parts[..] {
                [
                    "",
                    "v1" | "v1beta1",
                    "projects",
                    _,
                    "locations",
                    _,
                    "publishers",
                    "google",
                    "models",
                    last,
                ] => last,
                _ => return Err(not_found()),
            }
        }
        _ => {
            let rest = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"));
            rest.ok_or_else(not_found)?
        }
    };
    let (model, verb) = last.split_once(':').ok_or_else(not_found)?;
    let verb = match verb {
        _ if request.method != "POST" => return Err(not_found()),
        "generateContent" => Verb::Generate,
        "streamGenerateContent" if request.query_value("alt") == Some("sse") => Verb::StreamEvents,
        "streamGenerateContent" => Verb::StreamArray,
        "countTokens" => Verb::Count,
        _ => return Err(not_found()),
    };
    Ok((model.to_owned(), verb))
}

fn authorise(request: &Request, context: &Context<'_>) -> Result<(), Trouble> {
    let expected = &*context.settings.key;
    if context.kind == Kind::Vertex {
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        return match bearer {
            Some(token) if token == expected => Ok(()),
            _ => {
                let text = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.";
                Err(Trouble::new(401, Class::Unauthorized, text))
            }
        };
    }
    match request.header("x-goog-api-key").or(request.query_value("key")) {
        Some(key) if key == expected => Ok(()),
        Some(_) => {
            Err(Trouble::new(400, Class::Unauthorized, "API key not valid. Please pass a valid API key."))
        }
        None => {
            let text = "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.";
            Err(Trouble::new(403, Class::Forbidden, text))
        }
    }
}

fn worded(problem: &Problem) -> String {
    let place = problem.bracketed();
    match &problem.fault {
        Fault::Unknown => {
            let (parent, name) = place.rsplit_once('.').unwrap_or(("", &place));
            let at = if parent.is_empty() { String::new() } else { format!(" at '{parent}'") };
            format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field.")
        }
        Fault::Missing => format!("* GenerateContentRequest.{place}: {place} is not specified"),
        Fault::Wrong { expected, .. } => {
            format!("Invalid value at '{place}' (TYPE_{})", expected.to_uppercase())
        }
        Fault::Range { low, high, found } => {
            format!(
                "Unable to submit request because it has a {place} value of {found} but the supported range is from {low} to {high}."
            )
        }
        Fault::NotAmong { found, .. } => format!("Invalid value at '{place}', \"{found}\""),
        Fault::Rule(text) => text.clone(),
    }
}
