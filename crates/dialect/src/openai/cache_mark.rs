//! How do OpenAI's clients and routers write Anthropic's `cache_control`?

use serde_json::{Value, json};

use domain::CacheMark;

pub(super) fn to_wire(mark: CacheMark) -> Value {
    match mark {
        CacheMark::FiveMinutes => json!({"type": "ephemeral"}),
        CacheMark::OneHour => json!({"type": "ephemeral", "ttl": "1h"}),
    }
}

/// A mark of another kind marks nothing.
pub(super) fn read(value: &Value) -> Option<CacheMark> {
    match (value["type"].as_str(), value["ttl"].as_str()) {
        (Some("ephemeral"), Some("1h")) => Some(CacheMark::OneHour),
        (Some("ephemeral"), _) => Some(CacheMark::FiveMinutes),
        _ => None,
    }
}
