//! What is said about responses that are kept?

use serde_json::{Value, json};

/// Returns the answer to `DELETE /v1/responses/{id}`.
pub fn deleted_to_json(id: &str) -> Vec<u8> {
    crate::openai::stream::json(&json!({"id": id, "object": "response", "deleted": true}))
}

/// Returns the answer to `GET /v1/responses/{id}`: the object as it was answered.
pub fn response_to_json(response: &Value) -> Vec<u8> {
    crate::openai::stream::json(response)
}

/// Returns the answer to `GET /v1/responses/{id}/input_items`: one page of items, which [`with_ids`] has named.
pub fn input_items_to_json(items: &[Value], has_more: bool) -> Vec<u8> {
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    crate::openai::stream::json(&json!({
        "object": "list",
        "data": items,
        "first_id": id(items.first()),
        "last_id": id(items.last()),
        "has_more": has_more,
    }))
}

/// Returns a request's items as they are listed: each with an id and a type, and a text as a list of parts.
pub fn with_ids(response_id: &str, items: &[Value]) -> Vec<Value> {
    let named = |(place, item): (usize, &Value)| {
        let mut item = item.clone();
        if item.get("type").is_none() {
            item["type"] = json!("message");
        }
        if item["type"] == "message" {
            if let Value::String(text) = &item["content"] {
                let kind = if item["role"] == "assistant" { "output_text" } else { "input_text" };
                item["content"] = json!([{"type": kind, "text": text}]);
            }
            item["status"] = json!("completed");
        }
        if item.get("id").is_none_or(Value::is_null) {
            let prefix = match item["type"].as_str() {
                Some("message") => "msg",
                Some("function_call") => "fc",
                Some("function_call_output") => "fco",
                Some("reasoning") => "rsn",
                _ => "item",
            };
            item["id"] = json!(format!("{prefix}_{}_in_{place}", response_id.trim_start_matches("resp_")));
        }
        item
    };
    items.iter().filter(|item| item.is_object()).enumerate().map(named).collect()
}
