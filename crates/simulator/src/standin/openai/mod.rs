//! How do OpenAI's endpoints answer, at OpenAI, at Azure, and at servers that call themselves compatible?

mod chat;
mod chat_shape;
mod embeddings;
mod responses;
mod responses_shape;
mod responses_stream;

use serde_json::{Value, json};

use super::Kind;
use super::check::{Fault, Problem};
use super::http::{Request, percent_decoded};
use super::reply::{Class, Reply, Trouble};
use super::server::Context;

/// Which endpoint, and the deployment where the path names it.
struct Target {
    endpoint: Endpoint,
    deployment: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Chat,
    Responses,
    Embeddings,
    Models,
}

pub fn answer(request: &Request, mut context: Context<'_>) -> Result<Reply, Trouble> {
    let target = target(request, context.kind)?;
    authorise(request, &context)?;
    if target.endpoint == Endpoint::Models {
        return Ok(models(request));
    }
    if request.method != "POST" {
        let message = format!("Not allowed to {} on {}", request.method, request.path);
        return Err(Trouble::new(405, Class::Invalid, message));
    }
    if !request.header("content-type").is_some_and(|value| value.starts_with("application/json")) {
        return Err(Trouble::invalid(
            "Unsupported content type: this API method only accepts 'application/json' requests",
        ));
    }
    let mut body: Value = serde_json::from_slice(&request.body).map_err(|error| {
        Trouble::invalid(format!("We could not parse the JSON body of your request: {error}"))
    })?;
    if let (Some(deployment), Some(map)) = (target.deployment, body.as_object_mut()) {
        // The path decides; a model in the body is allowed and not looked at.
        map.insert("model".into(), json!(deployment));
    }
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    if model.starts_with("no-such") {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        return Err(Trouble::new(404, Class::NotFound, message));
    }
    let reply = match target.endpoint {
        Endpoint::Chat => chat::answer(&body, &mut context)?,
        Endpoint::Responses => responses::answer(&body, &mut context)?,
        Endpoint::Embeddings => embeddings::answer(&body, &context)?,
        Endpoint::Models => unreachable!("answered above"),
    };
    Ok(reply
        .with("x-request-id", context.id("req_", 1, 32))
        .with("openai-version", "2020-10-01")
        .with("openai-organization", "standin")
        .with("openai-processing-ms", "7")
        .with("x-ratelimit-limit-requests", "10000")
        .with("x-ratelimit-remaining-requests", "9999")
        .with("x-ratelimit-reset-requests", "6ms")
        .with("x-ratelimit-limit-tokens", "30000000")
        .with("x-ratelimit-remaining-tokens", "29999000")
        .with("x-ratelimit-reset-tokens", "2ms"))
}

/// `{"error": {"message", "type", "param", "code"}}`
pub fn refusal(kind: Kind, trouble: &Trouble) -> Reply {
    let (error_type, code) = match trouble.class {
        Class::Invalid | Class::Forbidden => ("invalid_request_error", code_of(trouble.problem.as_ref())),
        Class::ContextTooLong => ("invalid_request_error", json!("context_length_exceeded")),
        Class::Unauthorized => ("invalid_request_error", json!("invalid_api_key")),
        Class::NotFound => ("invalid_request_error", json!("model_not_found")),
        Class::RateLimited => ("requests", json!("rate_limit_exceeded")),
        Class::Overloaded | Class::Server => ("server_error", Value::Null),
    };
    let param = trouble.problem.as_ref().map(Problem::bracketed);
    let message = match &trouble.problem {
        Some(problem) => worded(problem),
        None => trouble.message.clone(),
    };
    let error = json!({"message": message, "type": error_type, "param": param, "code": code});
    let body = match (kind, trouble.class) {
        // Azure's gateway has words of its own, and no type.
        (Kind::Azure, Class::Unauthorized) => json!({"error": {"code": "401", "message": trouble.message}}),
        (Kind::Azure, Class::NotFound) => {
            json!({"error": {"code": "DeploymentNotFound", "message": trouble.message}})
        }
        (Kind::Azure, Class::RateLimited) => json!({"error": {"code": "429", "message": trouble.message}}),
        _ => json!({"error": error}),
    };
    Reply::json(trouble.status, &body)
}

/// Models that think, and whose fields differ: known by their names.
fn is_reasoning_model(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5", "gpt-6"].iter().any(|prefix| model.starts_with(prefix))
}

fn target(request: &Request, kind: Kind) -> Result<Target, Trouble> {
    let path = percent_decoded(&request.path);
    let not_found = || Trouble::new(404, Class::NotFound, format!("Invalid URL ({} {path})", request.method));
    let endpoint = |rest: &str| match rest {
        "chat/completions" => Some(Endpoint::Chat),
        "responses" if kind != Kind::Compatible => Some(Endpoint::Responses),
        "embeddings" => Some(Endpoint::Embeddings),
        rest if rest == "models" || rest.starts_with("models/") => Some(Endpoint::Models),
        _ => None,
    };
    if kind != Kind::Azure {
        let rest = path.strip_prefix("/v1/").ok_or_else(not_found)?;
        return Ok(Target { endpoint: endpoint(rest).ok_or_else(not_found)?, deployment: None });
    }
    if let Some(rest) = path.strip_prefix("/openai/v1/") {
        return Ok(Target { endpoint: endpoint(rest).ok_or_else(not_found)?, deployment: None });
    }
    if request.query_value("api-version").is_none_or(str::is_empty) {
        return Err(Trouble::new(
            404,
            Class::NotFound,
            "Resource not found: the api-version query parameter is missing",
        ));
    }
    let rest = path.strip_prefix("/openai/").ok_or_else(not_found)?;
    if rest == "responses" {
        return Ok(Target { endpoint: Endpoint::Responses, deployment: None });
    }
    let (deployment, rest) =
        rest.strip_prefix("deployments/").and_then(|rest| rest.split_once('/')).ok_or_else(not_found)?;
    let endpoint =
        endpoint(rest).filter(|endpoint| matches!(endpoint, Endpoint::Chat | Endpoint::Embeddings));
    Ok(Target { endpoint: endpoint.ok_or_else(not_found)?, deployment: Some(deployment.to_owned()) })
}

fn authorise(request: &Request, context: &Context<'_>) -> Result<(), Trouble> {
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let given = match context.kind {
        Kind::Azure => request.header("api-key").or(bearer),
        _ => bearer,
    };
    match given {
        Some(key) if key == context.settings.key => Ok(()),
        Some(_) => Err(Trouble::new(401, Class::Unauthorized, "Incorrect API key provided.")),
        None if context.kind == Kind::Azure => {
            Err(Trouble::new(401, Class::Unauthorized, "Access denied due to missing api-key header."))
        }
        None => Err(Trouble::new(401, Class::Unauthorized, "You didn't provide an API key.")),
    }
}

fn models(request: &Request) -> Reply {
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "standin"});
    match request.path.rsplit_once("/models/") {
        Some((_, id)) => Reply::json(200, &model(&percent_decoded(id))),
        None => Reply::json(
            200,
            &json!({"object": "list", "data": [model("gpt-standin"), model("gpt-5-standin")]}),
        ),
    }
}

fn code_of(problem: Option<&Problem>) -> Value {
    match problem.map(|problem| &problem.fault) {
        Some(Fault::Unknown) => json!("unknown_parameter"),
        Some(Fault::Missing) => json!("missing_required_parameter"),
        Some(Fault::Wrong { .. }) => json!("invalid_type"),
        Some(Fault::NotAmong { .. }) => json!("invalid_value"),
        Some(Fault::Range { low, found, .. }) if found < low => json!("decimal_below_min_value"),
        Some(Fault::Range { .. }) => json!("decimal_above_max_value"),
        Some(Fault::Rule(text)) if text.starts_with("Unsupported parameter") => {
            json!("unsupported_parameter")
        }
        Some(Fault::Rule(text)) if text.starts_with("Unsupported value") => json!("unsupported_value"),
        Some(Fault::Rule(_)) | None => Value::Null,
    }
}

fn worded(problem: &Problem) -> String {
    let place = problem.bracketed();
    match &problem.fault {
        Fault::Unknown => format!("Unknown parameter: '{place}'."),
        Fault::Missing => format!("Missing required parameter: '{place}'."),
        Fault::Wrong { expected, found } => {
            format!("Invalid type for '{place}': expected {expected}, but got {found} instead.")
        }
        Fault::Range { low, found, .. } if found < low => {
            format!(
                "Invalid '{place}': value below minimum value. Expected a value >= {low}, but got {found} instead."
            )
        }
        Fault::Range { high, found, .. } => {
            format!(
                "Invalid '{place}': value above maximum value. Expected a value <= {high}, but got {found} instead."
            )
        }
        Fault::NotAmong { words, found } => {
            let words = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
            format!("Invalid value: '{found}'. Supported values are: {words}.")
        }
        Fault::Rule(text) => text.clone(),
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
