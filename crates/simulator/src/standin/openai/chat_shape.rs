//! What may a Chat Completions request say?

use crate::standin::check::{Field, Shape, fields};

use Shape::{Any, Either, Flag, List, Map, Number, Object, Tagged, Text, Whole, Word};

const BREAKPOINT: Shape = Object(fields!["mode" ! Word(&["explicit"]), "ttl" ? Word(&["30m", "12h"])]);

const TEXT_PART: &[Field] = fields!["text" ! Text, "prompt_cache_breakpoint" ? BREAKPOINT];

const USER_PART: Shape = Tagged(
    "type",
    &[
        ("text", TEXT_PART),
        (
            "image_url",
            fields![
                "image_url" ! Object(fields!["url" ! Text, "detail" ? Word(&["auto", "low", "high", "original"])]),
                "prompt_cache_breakpoint" ? BREAKPOINT,
            ],
        ),
        (
            "input_audio",
            fields!["input_audio" ! Object(fields!["data" ! Shape::Base64, "format" ! Word(&["wav", "mp3"])])],
        ),
        (
            "file",
            fields![
                "file" ! Object(fields!["file_data" ? Text, "file_id" ? Text, "filename" ? Text]),
                "prompt_cache_breakpoint" ? BREAKPOINT,
            ],
        ),
    ],
);

const TEXTS: Shape = Either(&[Text, List(&Tagged("type", &[("text", TEXT_PART)]))]);

const INSTRUCTION: &[Field] = fields!["content" ! TEXTS, "name" ? Text];

const TOOL_CALL: Shape = Tagged(
    "type",
    &[("function", fields!["id" ! Text, "function" ! Object(fields!["name" ! Text, "arguments" ! Text])])],
);

const MESSAGE: Shape = Tagged(
    "role",
    &[
        ("system", INSTRUCTION),
        ("developer", INSTRUCTION),
        ("user", fields!["content" ! Either(&[Text, List(&USER_PART)]), "name" ? Text]),
        (
            "assistant",
            fields![
                "content" ? Either(&[Text, List(&Tagged("type", &[("text", TEXT_PART), ("refusal", fields!["refusal" ! Text])]))]),
                "refusal" ? Text,
                "name" ? Text,
                "tool_calls" ? List(&TOOL_CALL),
                "audio" ? Object(fields!["id" ! Text]),
                // Clients send a message back as it came.
                "annotations" ? List(&Any),
                "function_call" ? Any,
            ],
        ),
        ("tool", fields!["content" ! TEXTS, "tool_call_id" ! Text]),
    ],
);

const FUNCTION: Shape =
    Object(fields!["name" ! Text, "description" ? Text, "parameters" ? Map(&Any), "strict" ? Flag]);

const TOOL_CHOICE: Shape = Either(&[
    Word(&["none", "auto", "required"]),
    Tagged(
        "type",
        &[
            ("function", fields!["function" ! Object(fields!["name" ! Text])]),
            (
                "allowed_tools",
                fields!["allowed_tools" ! Object(fields!["mode" ! Word(&["auto", "required"]), "tools" ! List(&Map(&Any))])],
            ),
        ],
    ),
]);

const FORMAT: Shape = Tagged(
    "type",
    &[
        ("text", &[]),
        ("json_object", &[]),
        (
            "json_schema",
            fields!["json_schema" ! Object(fields!["name" ! Text, "description" ? Text, "schema" ? Map(&Any), "strict" ? Flag])],
        ),
    ],
);

const STREAM_OPTIONS: Shape = Object(fields!["include_usage" ? Flag, "include_obfuscation" ? Flag]);

pub static REQUEST: Shape = Object(fields![
    "messages" ! List(&MESSAGE),
    "model" ! Text,
    "audio" ? Any,
    "frequency_penalty" ? Number(-2.0, 2.0),
    "logit_bias" ? Map(&Number(-100.0, 100.0)),
    "logprobs" ? Flag,
    "max_completion_tokens" ? Whole(1, i64::MAX),
    "max_tokens" ? Whole(1, i64::MAX),
    "metadata" ? Map(&Text),
    "modalities" ? List(&Word(&["text", "audio"])),
    "n" ? Whole(1, 128),
    "parallel_tool_calls" ? Flag,
    "prediction" ? Any,
    "presence_penalty" ? Number(-2.0, 2.0),
    "prompt_cache_key" ? Text,
    "prompt_cache_options" ? Object(fields!["mode" ? Word(&["implicit", "explicit"]), "ttl" ? Word(&["30m"])]),
    "prompt_cache_retention" ? Word(&["in_memory", "24h"]),
    "reasoning_effort" ? Word(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    "response_format" ? FORMAT,
    "safety_identifier" ? Text,
    "seed" ? Whole(i64::MIN, i64::MAX),
    "service_tier" ? Word(&["auto", "default", "flex", "scale", "priority", "fast"]),
    "stop" ? Either(&[Text, List(&Text)]),
    "store" ? Flag,
    "stream" ? Flag,
    "stream_options" ? STREAM_OPTIONS,
    "temperature" ? Number(0.0, 2.0),
    "tool_choice" ? TOOL_CHOICE,
    "tools" ? List(&Tagged("type", &[("function", fields!["function" ! FUNCTION])])),
    "top_logprobs" ? Whole(0, 20),
    "top_p" ? Number(0.0, 1.0),
    "user" ? Text,
    "verbosity" ? Word(&["low", "medium", "high"]),
    "web_search_options" ? Any,
]);

/// What servers that call themselves compatible know beside it, and, as most do, what it replaced.
pub const COMPATIBLE_EXTRAS: [&str; 9] = [
    "top_k",
    "min_p",
    "repetition_penalty",
    "chat_template_kwargs",
    "ignore_eos",
    "stop_token_ids",
    "guided_json",
    "structured_outputs",
    "thinking",
];

/// Fields that a compatible server's assistant messages may have.
pub const COMPATIBLE_MESSAGE_EXTRAS: [&str; 2] = ["reasoning_content", "reasoning"];
