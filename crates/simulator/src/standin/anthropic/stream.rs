//! Messages: which events does an answer consist of?

use serde_json::{Value, json};

use super::messages::Message;
use crate::standin::behaviour::UsageQuirk;
use crate::standin::reply::{Event, Framing, Part, Stream};
use crate::standin::tokens::tokens;

pub fn stream(message: &Message) -> Stream {
    let mut events = Vec::new();
    let mut add = |part: Part, name: &'static str, mut data: Value| {
        data["type"] = json!(name);
        events.push(Event::new(part, Some(name), &data));
    };
    let mut opening = message.envelope();
    if message.quirk != UsageQuirk::Missing {
        opening["usage"] = message.usage(1);
        if message.quirk == UsageQuirk::ChangedLate {
            // What the cache did is known only at the end.
            opening["usage"]["input_tokens"] = json!(message.tally.input());
            opening["usage"]["cache_read_input_tokens"] = json!(0);
            opening["usage"]["cache_creation_input_tokens"] = json!(0);
        }
        if message.quirk == UsageQuirk::Zeros {
            opening["usage"]["output_tokens"] = json!(0);
        }
    }
    add(Part::Opening, "message_start", json!({"message": opening}));
    for (index, block) in message.blocks.iter().enumerate() {
        let (empty, deltas) = match block["type"].as_str() {
            Some("thinking") => {
                let mut empty = block.clone();
                (empty["thinking"], empty["signature"]) = (json!(""), json!(""));
                let thought = tokens(block["thinking"].as_str().unwrap_or_default()).into_iter();
                let mut deltas: Vec<Value> =
                    thought.map(|token| json!({"type": "thinking_delta", "thinking": token})).collect();
                deltas.push(json!({"type": "signature_delta", "signature": block["signature"]}));
                (empty, deltas)
            }
            Some("tool_use") => {
                let mut empty = block.clone();
                empty["input"] = json!({});
                let pieces = [String::new()].into_iter().chain(tokens(&block["input"].to_string()));
                let deltas = pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
                (empty, deltas.collect())
            }
            _ => {
                let pieces =
                    message.said.text.iter().map(|token| json!({"type": "text_delta", "text": token}));
                (json!({"type": "text", "text": ""}), pieces.collect())
            }
        };
        add(Part::Opening, "content_block_start", json!({"index": index, "content_block": empty}));
        if index == 0 {
            add(Part::Ping, "ping", json!({}));
        }
        for delta in deltas {
            add(Part::Content, "content_block_delta", json!({"index": index, "delta": delta}));
        }
        add(Part::Opening, "content_block_stop", json!({"index": index}));
    }
    let delta = json!({"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence});
    let mut last = json!({"delta": delta});
    if message.quirk != UsageQuirk::Missing {
        let mut usage = json!({
            "input_tokens": message.tally.input_uncached,
            "cache_creation_input_tokens": message.tally.cache_written(),
            "cache_read_input_tokens": message.tally.cache_read,
            "output_tokens": message.tally.output,
        });
        if message.tally.reasoning > 0 {
            usage["output_tokens_details"] = json!({"thinking_tokens": message.tally.reasoning});
        }
        last["usage"] = usage;
    }
    if message.quirk == UsageQuirk::Twice {
        add(Part::Finish, "message_delta", last.clone());
    }
    add(Part::Finish, "message_delta", last);
    add(Part::Done, "message_stop", json!({}));
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    Stream {
        framing: Framing::ServerSent,
        events,
        broken: vec![Event::new(Part::Error, Some("error"), &error)],
        ping: Some(Event::new(Part::Ping, Some("ping"), &json!({"type": "ping"}))),
    }
}
