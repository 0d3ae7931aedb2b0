//! What may a Messages request say?

use crate::standin::check::{Field, Shape, fields};

use Shape::{Any, Base64, Either, Filled, Flag, List, Map, Number, Object, Tagged, Text, Whole, Word};

const CACHE: Shape = Tagged("type", &[("ephemeral", fields!["ttl" ? Word(&["5m", "1h"])])]);

const TEXT_BLOCK: &[Field] = fields!["text" ! Filled, "cache_control" ? CACHE, "citations" ? Any];

const IMAGE_SOURCE: Shape = Tagged(
    "type",
    &[
        (
            "base64",
            fields!["media_type" ! Word(&["image/jpeg", "image/png", "image/gif", "image/webp"]), "data" ! Base64],
        ),
        ("url", fields!["url" ! Text]),
        ("file", fields!["file_id" ! Text]),
    ],
);

const DOCUMENT_SOURCE: Shape = Tagged(
    "type",
    &[
        ("base64", fields!["media_type" ! Word(&["application/pdf"]), "data" ! Base64]),
        ("text", fields!["media_type" ! Word(&["text/plain"]), "data" ! Text]),
        ("url", fields!["url" ! Text]),
        ("content", fields!["content" ! Any]),
        ("file", fields!["file_id" ! Text]),
    ],
);

const IMAGE: &[Field] = fields!["source" ! IMAGE_SOURCE, "cache_control" ? CACHE, "transformations" ? Any];

const DOCUMENT: &[Field] = fields![
    "source" ! DOCUMENT_SOURCE,
    "cache_control" ? CACHE,
    "citations" ? Object(fields!["enabled" ? Flag]),
    "context" ? Text,
    "title" ? Text,
];

const RESULT_CONTENT: Shape =
    Either(&[Text, List(&Tagged("type", &[("text", TEXT_BLOCK), ("image", IMAGE), ("document", DOCUMENT)]))]);

const USER_BLOCK: Shape = Tagged(
    "type",
    &[
        ("text", TEXT_BLOCK),
        ("image", IMAGE),
        ("document", DOCUMENT),
        (
            "tool_result",
            fields!["tool_use_id" ! Text, "content" ? RESULT_CONTENT, "is_error" ? Flag, "cache_control" ? CACHE],
        ),
    ],
);

const ASSISTANT_BLOCK: Shape = Tagged(
    "type",
    &[
        ("text", TEXT_BLOCK),
        ("thinking", fields!["thinking" ! Text, "signature" ! Text]),
        ("redacted_thinking", fields!["data" ! Text]),
        (
            "tool_use",
            fields!["id" ! Text, "name" ! Text, "input" ! Map(&Any), "cache_control" ? CACHE, "caller" ? Any],
        ),
    ],
);

const MESSAGE: Shape = Tagged(
    "role",
    &[
        ("user", fields!["content" ! Either(&[Filled, List(&USER_BLOCK)])]),
        ("assistant", fields!["content" ! Either(&[Filled, List(&ASSISTANT_BLOCK)])]),
    ],
);

const THINKING: Shape = Tagged(
    "type",
    &[
        (
            "enabled",
            fields!["budget_tokens" ! Whole(1024, i64::MAX), "display" ? Word(&["summarized", "omitted"])],
        ),
        ("adaptive", fields!["display" ? Word(&["summarized", "omitted"])]),
        ("between_tools", &[]),
        ("disabled", &[]),
    ],
);

const CHOICE_FIELDS: &[Field] = fields!["disable_parallel_tool_use" ? Flag];

const TOOL_CHOICE: Shape = Tagged(
    "type",
    &[
        ("auto", CHOICE_FIELDS),
        ("any", CHOICE_FIELDS),
        ("tool", fields!["name" ! Text, "disable_parallel_tool_use" ? Flag]),
        ("none", &[]),
    ],
);

const TOOL: Shape = Object(fields![
    "name" ! Text,
    "input_schema" ! Map(&Any),
    "description" ? Text,
    "type" ? Word(&["custom"]),
    "strict" ? Flag,
    "cache_control" ? CACHE,
    "eager_input_streaming" ? Flag,
    "input_examples" ? List(&Map(&Any)),
    "defer_loading" ? Flag,
    "allowed_callers" ? List(&Text),
]);

const OUTPUT_CONFIG: Shape = Object(fields![
    "effort" ? Word(&["low", "medium", "high", "xhigh", "max"]),
    "format" ? Tagged("type", &[("json_schema", fields!["schema" ! Map(&Any)])]),
]);

const SYSTEM: Shape = Either(&[Text, List(&Tagged("type", &[("text", TEXT_BLOCK)]))]);

pub static REQUEST: Shape = Object(fields![
    "model" ! Filled,
    "messages" ! List(&MESSAGE),
    "max_tokens" ! Whole(1, i64::MAX),
    "cache_control" ? CACHE,
    "container" ? Any,
    "inference_geo" ? Text,
    "metadata" ? Object(fields!["user_id" ? Text]),
    "output_config" ? OUTPUT_CONFIG,
    "service_tier" ? Word(&["auto", "standard_only"]),
    "speed" ? Word(&["standard", "fast"]),
    "stop_sequences" ? List(&Filled),
    "stream" ? Flag,
    "system" ? SYSTEM,
    "temperature" ? Number(0.0, 1.0),
    "thinking" ? THINKING,
    "tool_choice" ? TOOL_CHOICE,
    "tools" ? List(&TOOL),
    "top_k" ? Whole(0, i64::MAX),
    "top_p" ? Number(0.0, 1.0),
]);

/// Counting asks for less and allows less.
pub static COUNT_REQUEST: Shape = Object(fields![
    "model" ! Filled,
    "messages" ! List(&MESSAGE),
    "cache_control" ? CACHE,
    "output_config" ? OUTPUT_CONFIG,
    "system" ? SYSTEM,
    "thinking" ? THINKING,
    "tool_choice" ? TOOL_CHOICE,
    "tools" ? List(&TOOL),
]);
