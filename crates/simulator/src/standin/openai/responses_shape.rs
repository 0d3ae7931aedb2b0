//! What may a Responses request say?

use crate::standin::check::{Field, Shape, fields};

use Shape::{Any, Either, Flag, List, Map, Number, Object, Tagged, Text, Whole, Word};

const BREAKPOINT: Shape = Object(fields!["mode" ! Word(&["explicit"]), "ttl" ? Word(&["30m", "12h"])]);
const STATUS: Shape = Word(&["in_progress", "completed", "incomplete"]);

const INPUT_PART: Shape = Tagged(
    "type",
    &[
        ("input_text", fields!["text" ! Text, "prompt_cache_breakpoint" ? BREAKPOINT]),
        (
            "input_image",
            fields![
                "image_url" ? Text,
                "file_id" ? Text,
                "detail" ? Word(&["low", "high", "auto", "original"]),
                "prompt_cache_breakpoint" ? BREAKPOINT,
            ],
        ),
        (
            "input_file",
            fields![
                "file_data" ? Text,
                "file_id" ? Text,
                "file_url" ? Text,
                "filename" ? Text,
                "detail" ? Word(&["auto", "low", "high"]),
                "prompt_cache_breakpoint" ? BREAKPOINT,
            ],
        ),
        // An assistant's own words come back as it said them.
        ("output_text", fields!["text" ! Text, "annotations" ? List(&Any), "logprobs" ? List(&Any)]),
        ("refusal", fields!["refusal" ! Text]),
    ],
);

const SUMMARY: Shape = List(&Tagged("type", &[("summary_text", fields!["text" ! Text])]));

const CALL_OUTPUT: &[Field] =
    fields!["call_id" ! Text, "output" ! Either(&[Text, List(&INPUT_PART)]), "id" ? Text, "status" ? STATUS];

const ITEM: Shape = Tagged(
    "type",
    &[
        (
            "message",
            fields![
                "role" ! Word(&["user", "assistant", "system", "developer"]),
                "content" ! Either(&[Text, List(&INPUT_PART)]),
                "id" ? Text,
                "status" ? STATUS,
                "phase" ? Word(&["commentary", "final_answer"]),
            ],
        ),
        (
            "function_call",
            fields!["call_id" ! Text, "name" ! Text, "arguments" ! Text, "id" ? Text, "status" ? STATUS],
        ),
        ("function_call_output", CALL_OUTPUT),
        (
            "reasoning",
            fields![
                "id" ! Text,
                "summary" ! SUMMARY,
                "content" ? List(&Tagged("type", &[("reasoning_text", fields!["text" ! Text])])),
                "encrypted_content" ? Text,
                "status" ? STATUS,
            ],
        ),
    ],
);

const FORMAT: Shape = Tagged(
    "type",
    &[
        ("text", &[]),
        ("json_object", &[]),
        ("json_schema", fields!["name" ! Text, "schema" ! Map(&Any), "description" ? Text, "strict" ? Flag]),
    ],
);

const TOOL: Shape = Tagged(
    "type",
    &[("function", fields!["name" ! Text, "parameters" ? Map(&Any), "strict" ? Flag, "description" ? Text])],
);

const TOOL_CHOICE: Shape = Either(&[
    Word(&["none", "auto", "required"]),
    Tagged(
        "type",
        &[
            ("function", fields!["name" ! Text]),
            ("allowed_tools", fields!["mode" ! Word(&["auto", "required"]), "tools" ! List(&Map(&Any))]),
        ],
    ),
]);

const REASONING: Shape = Object(fields![
    "effort" ? Word(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    "summary" ? Word(&["auto", "concise", "detailed"]),
    "generate_summary" ? Word(&["auto", "concise", "detailed"]),
    "context" ? Word(&["auto", "current_turn", "all_turns"]),
    "mode" ? Text,
]);

pub static REQUEST: Shape = Object(fields![
    "model" ! Text,
    "input" ! Either(&[Text, List(&ITEM)]),
    "background" ? Flag,
    "context_management" ? Any,
    "conversation" ? Any,
    "include" ? List(&Word(&[
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "message.input_image.image_url",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
        "reasoning.encrypted_content",
        "message.output_text.logprobs",
    ])),
    "instructions" ? Text,
    "max_output_tokens" ? Whole(16, i64::MAX),
    "max_tool_calls" ? Whole(1, i64::MAX),
    "metadata" ? Map(&Text),
    "parallel_tool_calls" ? Flag,
    "previous_response_id" ? Text,
    "prompt" ? Any,
    "prompt_cache_key" ? Text,
    "prompt_cache_options" ? Any,
    "prompt_cache_retention" ? Word(&["in_memory", "24h"]),
    "reasoning" ? REASONING,
    "safety_identifier" ? Text,
    "service_tier" ? Word(&["auto", "default", "flex", "scale", "priority", "fast"]),
    "store" ? Flag,
    "stream" ? Flag,
    "stream_options" ? Object(fields!["include_obfuscation" ? Flag]),
    "temperature" ? Number(0.0, 2.0),
    "text" ? Object(fields!["format" ? FORMAT, "verbosity" ? Word(&["low", "medium", "high"])]),
    "tool_choice" ? TOOL_CHOICE,
    "tools" ? List(&TOOL),
    "top_logprobs" ? Whole(0, 20),
    "top_p" ? Number(0.0, 1.0),
    "truncation" ? Word(&["auto", "disabled"]),
    "user" ? Text,
]);
