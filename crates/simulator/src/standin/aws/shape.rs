//! What may a Converse request say?

use crate::standin::check::{Field, Shape, fields};

use Shape::{Any, Base64, Filled, Flag, List, Map, Number, Object, Text, Union, Whole, Word};

const CACHE_POINT: Shape = Object(fields!["type" ! Word(&["default"]), "ttl" ? Word(&["5m", "1h"])]);

const S3: Shape = Object(fields!["uri" ! Text, "bucketOwner" ? Text]);

const IMAGE: Shape = Object(fields![
    "format" ! Word(&["png", "jpeg", "gif", "webp"]),
    "source" ! Union(fields!["bytes" ? Base64, "s3Location" ? S3]),
]);

const DOCUMENT: Shape = Object(fields![
    "format" ? Word(&["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"]),
    "name" ! Filled,
    "source" ! Union(fields!["bytes" ? Base64, "s3Location" ? S3, "text" ? Text, "content" ? List(&Object(fields!["text" ! Text]))]),
    "context" ? Text,
    "citations" ? Object(fields!["enabled" ! Flag]),
]);

const RESULT_PART: Shape =
    Union(fields!["json" ? Any, "text" ? Text, "image" ? IMAGE, "document" ? DOCUMENT]);

const CONTENT: &[Field] = fields![
    "text" ? Text,
    "image" ? IMAGE,
    "document" ? DOCUMENT,
    "audio" ? Any,
    "video" ? Any,
    "toolUse" ? Object(fields!["toolUseId" ! Text, "name" ! Text, "input" ! Map(&Any)]),
    "toolResult" ? Object(fields![
        "toolUseId" ! Text,
        "content" ! List(&RESULT_PART),
        "status" ? Word(&["success", "error"]),
    ]),
    "cachePoint" ? CACHE_POINT,
    "reasoningContent" ? Union(fields![
        "reasoningText" ? Object(fields!["text" ! Text, "signature" ? Text]),
        "redactedContent" ? Base64,
    ]),
    "guardContent" ? Any,
];

const INFERENCE: Shape = Object(fields![
    "maxTokens" ? Whole(1, i64::MAX),
    "temperature" ? Number(0.0, 1.0),
    "topP" ? Number(0.0, 1.0),
    "stopSequences" ? List(&Filled),
]);

const TOOL: Shape = Union(fields![
    "toolSpec" ? Object(fields![
        "name" ! Text,
        "description" ? Filled,
        "inputSchema" ! Union(fields!["json" ? Map(&Any)]),
        "strict" ? Flag,
    ]),
    "cachePoint" ? CACHE_POINT,
]);

const TOOL_CHOICE: Shape =
    Union(fields!["auto" ? Object(&[]), "any" ? Object(&[]), "tool" ? Object(fields!["name" ! Text])]);

const OUTPUT: Shape = Object(fields![
    "textFormat" ? Object(fields![
        "type" ! Word(&["json_schema"]),
        "structure" ! Union(fields!["jsonSchema" ? Object(fields!["schema" ! Text, "name" ? Text, "description" ? Text])]),
    ]),
    "effort" ? Text,
]);

pub static REQUEST: Shape = Object(fields![
    "messages" ! List(&Object(fields!["role" ! Word(&["user", "assistant"]), "content" ! List(&Union(CONTENT))])),
    "system" ? List(&Union(fields!["text" ? Filled, "cachePoint" ? CACHE_POINT, "guardContent" ? Any])),
    "inferenceConfig" ? INFERENCE,
    "toolConfig" ? Object(fields!["tools" ! List(&TOOL), "toolChoice" ? TOOL_CHOICE]),
    "guardrailConfig" ? Any,
    "additionalModelRequestFields" ? Map(&Any),
    "additionalModelResponseFieldPaths" ? List(&Text),
    "requestMetadata" ? Map(&Text),
    "performanceConfig" ? Object(fields!["latency" ? Word(&["standard", "optimized"])]),
    "serviceTier" ? Object(fields!["type" ! Word(&["priority", "default", "flex", "reserved"])]),
    "outputConfig" ? OUTPUT,
]);

/// What the models behind it know beside it.
pub const MODEL_FIELDS: [&str; 7] = [
    "thinking",
    "anthropic_beta",
    "top_k",
    "output_config",
    "reasoning_config",
    "reasoning_effort",
    "tool_choice",
];
