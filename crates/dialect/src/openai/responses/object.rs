//! What does the response object say besides its output?

use serde_json::{Map, Value, json};

use domain::{FinishReason, UsageReport};

use super::output::is_cut;
use crate::openai::tier;
use crate::read::Fields;
use crate::{Head, Trouble, TroubleKind};

/// Returns the fields that repeat the request, with the words that OpenAI has for what was not said.
pub(super) fn echo(fields: &Fields) -> Map<String, Value> {
    let said =
        |name: &str, otherwise: Value| (name.to_owned(), fields.peek(name).cloned().unwrap_or(otherwise));
    let mut echo = Map::from_iter([
        said("background", json!(false)),
        said("instructions", Value::Null),
        said("max_output_tokens", Value::Null),
        said("max_tool_calls", Value::Null),
        said("parallel_tool_calls", json!(true)),
        said("previous_response_id", Value::Null),
        said("prompt_cache_key", Value::Null),
        said("reasoning", json!({"effort": null, "summary": null})),
        said("safety_identifier", Value::Null),
        said("service_tier", json!("auto")),
        said("store", json!(true)),
        said("temperature", json!(1.0)),
        said("text", json!({"format": {"type": "text"}})),
        said("tool_choice", json!("auto")),
        said("tools", json!([])),
        said("top_logprobs", json!(0)),
        said("top_p", json!(1.0)),
        said("truncation", json!("disabled")),
        said("user", Value::Null),
        said("metadata", json!({})),
    ]);
    if let Some(Value::Object(text)) = echo.get_mut("text") {
        text.entry("format").or_insert_with(|| json!({"type": "text"}));
    }
    echo
}

/// Returns the object while the answer grows.
pub(super) fn growing(echo: &Map<String, Value>, head: &Head) -> Value {
    object(echo, head, "in_progress", Vec::new())
}

/// Returns the object of an answer that has ended.
pub(super) fn ended(
    echo: &Map<String, Value>,
    head: &Head,
    output: Vec<Value>,
    finish: Option<FinishReason>,
    report: &UsageReport,
) -> Value {
    let reason = match finish {
        Some(finish) if !is_cut(finish) => None,
        Some(FinishReason::ContentFilter) => Some("content_filter"),
        Some(FinishReason::BudgetExhausted) => Some("budget_exhausted"),
        _ => Some("max_output_tokens"),
    };
    let status = if reason.is_none() { "completed" } else { "incomplete" };
    let mut object = object(echo, head, status, output);
    if let Some(reason) = reason {
        object["incomplete_details"] = json!({"reason": reason});
    }
    if let Some(served) = report.service_tier {
        object["service_tier"] = json!(tier::word(served));
    }
    object["usage"] = usage(report);
    object
}

/// Returns the object of an answer that broke.
pub(super) fn failed(echo: &Map<String, Value>, head: &Head, output: Vec<Value>, trouble: &Trouble) -> Value {
    let code = trouble.code.as_deref().unwrap_or(match trouble.kind {
        TroubleKind::RateLimitError => "rate_limit_exceeded",
        _ => "server_error",
    });
    let mut object = object(echo, head, "failed", output);
    object["error"] = json!({"code": code, "message": trouble.message});
    object
}

fn object(echo: &Map<String, Value>, head: &Head, status: &str, output: Vec<Value>) -> Value {
    let mut object = Map::from_iter([
        ("id".to_owned(), json!(head.id)),
        ("object".to_owned(), json!("response")),
        ("created_at".to_owned(), json!(head.created)),
        ("status".to_owned(), json!(status)),
        ("error".to_owned(), Value::Null),
        ("incomplete_details".to_owned(), Value::Null),
        ("model".to_owned(), json!(head.model.as_str())),
        ("output".to_owned(), Value::Array(output)),
    ]);
    object.extend(echo.clone());
    object.insert("usage".to_owned(), Value::Null);
    Value::Object(object)
}

fn usage(report: &UsageReport) -> Value {
    let usage = &report.usage;
    let written = usage.cache_write_5m + usage.cache_write_1h;
    json!({
        "input_tokens": usage.input(),
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total(),
    })
}
