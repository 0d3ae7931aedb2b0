//! How does Amazon Bedrock answer Converse and ConverseStream?

mod converse;
pub mod event_stream;
mod shape;
mod signature;

use serde_json::{Value, json};

use super::check::{Fault, Problem};
use super::http::{Request, percent_decoded};
use super::reply::{Class, Reply, Trouble};
use super::server::Context;

pub fn answer(request: &Request, mut context: Context<'_>) -> Result<Reply, Trouble> {
    let path = percent_decoded(&request.path);
    let rest = path.strip_prefix("/model/").filter(|_| request.method == "POST");
    let target = rest.and_then(|rest| rest.rsplit_once('/'));
    let (model, streams) = match target {
        Some((model, "converse")) => (model.to_owned(), false),
        Some((model, "converse-stream")) => (model.to_owned(), true),
        _ => return Err(Trouble::new(404, Class::NotFound, "UnknownOperationException")),
    };
    signature::check(request, context.settings)?;
    if model.starts_with("no-such") {
        return Err(Trouble::invalid("The provided model identifier is invalid."));
    }
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|_| Trouble::new(400, Class::Invalid, "Unable to parse the request body as JSON."))?;
    let reply = converse::answer(&body, &model, streams, &mut context)?;
    Ok(reply.with("x-amzn-requestid", context.id("", 1, 36)))
}

/// `{"message"}`, and the exception's name in a header.
pub fn refusal(trouble: &Trouble) -> Reply {
    let exception = match trouble.class {
        Class::Invalid | Class::ContextTooLong => "ValidationException",
        Class::Unauthorized => "UnrecognizedClientException",
        Class::Forbidden if trouble.message.starts_with("The request signature") => {
            "InvalidSignatureException"
        }
        Class::Forbidden if trouble.message.starts_with("Missing") => "MissingAuthenticationTokenException",
        Class::Forbidden => "AccessDeniedException",
        Class::NotFound => "ResourceNotFoundException",
        Class::RateLimited => "ThrottlingException",
        Class::Overloaded => "ServiceUnavailableException",
        Class::Server => "InternalServerException",
    };
    let message = trouble.problem.as_ref().map_or_else(|| trouble.message.clone(), worded);
    let reply = Reply::json(trouble.status, &json!({"message": message}));
    let name = format!("{exception}:http://internal.amazon.com/coral/com.amazon.bedrock/");
    reply.with("x-amzn-errortype", name).with("x-amzn-requestid", "00000000-0000-0000-0000-000000000000")
}

fn worded(problem: &Problem) -> String {
    let place = problem.dotted();
    match &problem.fault {
        Fault::Unknown => {
            format!("The model returned the following errors: {place}: Extra inputs are not permitted")
        }
        Fault::Missing => {
            format!(
                "1 validation error detected: Value at '{place}' failed to satisfy constraint: Member must not be null"
            )
        }
        Fault::NotAmong { words, found } => {
            let words = words.join(", ");
            format!(
                "1 validation error detected: Value '{found}' at '{place}' failed to satisfy constraint: Member must satisfy enum value set: [{words}]"
            )
        }
        Fault::Range { low, found, .. } if found < low => {
            format!(
                "1 validation error detected: Value '{found}' at '{place}' failed to satisfy constraint: Member must have value greater than or equal to {low}"
            )
        }
        Fault::Range { high, found, .. } => {
            format!(
                "1 validation error detected: Value '{found}' at '{place}' failed to satisfy constraint: Member must have value less than or equal to {high}"
            )
        }
        Fault::Wrong { expected, found } => format!("Value at '{place}' must be {expected}, not {found}"),
        Fault::Rule(text) => text.clone(),
    }
}
