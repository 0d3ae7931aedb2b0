//! Which JSON is the same in requests and in answers?

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use domain::CacheMark;

/// A block of a message's content, as it is written.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    Image {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    Thinking {
        thinking: &'a str,
        /// Always there; empty where nobody signed.
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 {
        media_type: &'a str,
        data: &'a str,
    },
    /// A document that is plain text.
    Text {
        media_type: &'static str,
        data: String,
    },
    Url {
        url: &'a str,
    },
    File {
        file_id: &'a str,
    },
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cache {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Five minutes are the default, and not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl From<CacheMark> for Cache {
    fn from(mark: CacheMark) -> Self {
        let ttl = match mark {
            CacheMark::FiveMinutes => None,
            CacheMark::OneHour => Some("1h"),
        };
        Self { kind: "ephemeral", ttl }
    }
}

/// Returns `value` as JSON. Wire types are plain data, so writing them cannot fail.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types are plain data with text keys")
}

/// Returns a call's arguments as they came, if they are a JSON object; nothing at all is an empty one.
pub(super) fn object(arguments: &str) -> Option<Box<RawValue>> {
    let text = if arguments.trim().is_empty() { "{}" } else { arguments.trim() };
    let raw: Box<RawValue> = serde_json::from_str(text).ok()?;
    raw.get().starts_with('{').then_some(raw)
}
