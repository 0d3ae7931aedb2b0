//! What may a generateContent request say?

use crate::standin::check::{Shape, fields};

use Shape::{Any, Base64, Flag, List, Map, Number, Object, Same, Text, Whole, Word};

/// The part of OpenAPI's schema that `parameters` and `responseSchema` know.
static SCHEMA: Shape = Object(fields![
    "type" ? Word(&[
        "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL",
        "string", "number", "integer", "boolean", "array", "object", "null",
    ]),
    "format" ? Text,
    "title" ? Text,
    "description" ? Text,
    "nullable" ? Flag,
    "enum" ? List(&Text),
    "items" ? Same(&SCHEMA),
    "maxItems" ? Any,
    "minItems" ? Any,
    "properties" ? Map(&SCHEMA),
    "required" ? List(&Text),
    "minProperties" ? Any,
    "maxProperties" ? Any,
    "minimum" ? Number(f64::MIN, f64::MAX),
    "maximum" ? Number(f64::MIN, f64::MAX),
    "minLength" ? Any,
    "maxLength" ? Any,
    "pattern" ? Text,
    "example" ? Any,
    "anyOf" ? List(&SCHEMA),
    "propertyOrdering" ? List(&Text),
    "default" ? Any,
]);

static PART: Shape = Object(fields![
    "text" ? Text,
    "thought" ? Flag,
    "thoughtSignature" ? Text,
    "inlineData" ? Object(fields!["mimeType" ! Text, "data" ! Base64, "displayName" ? Text]),
    "fileData" ? Object(fields!["fileUri" ! Text, "mimeType" ? Text, "displayName" ? Text]),
    "functionCall" ? Object(fields!["name" ! Text, "args" ? Map(&Any), "id" ? Text]),
    "functionResponse" ? Object(fields![
        "name" ! Text,
        "response" ! Map(&Any),
        "id" ? Text,
        "parts" ? List(&Any),
        "willContinue" ? Flag,
        "scheduling" ? Text,
    ]),
    "videoMetadata" ? Any,
    "mediaResolution" ? Any,
]);

static THINKING: Shape = Object(fields![
    "includeThoughts" ? Flag,
    "thinkingBudget" ? Whole(-1, 65_536),
    "thinkingLevel" ? Word(&["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH", "minimal", "low", "medium", "high", "xhigh"]),
]);

static GENERATION: Shape = Object(fields![
    "stopSequences" ? List(&Text),
    "responseMimeType" ? Word(&["text/plain", "application/json", "text/x.enum"]),
    "responseSchema" ? Same(&SCHEMA),
    "responseJsonSchema" ? Map(&Any),
    "responseModalities" ? List(&Text),
    "candidateCount" ? Whole(1, 8),
    "maxOutputTokens" ? Whole(1, 1_000_000),
    "temperature" ? Number(0.0, 2.0),
    "topP" ? Number(0.0, 1.0),
    "topK" ? Number(1.0, 1000.0),
    "seed" ? Whole(-2_147_483_648, 2_147_483_647),
    "presencePenalty" ? Number(-2.0, 2.0),
    "frequencyPenalty" ? Number(-2.0, 2.0),
    "responseLogprobs" ? Flag,
    "logprobs" ? Whole(0, 20),
    "thinkingConfig" ? Same(&THINKING),
    "mediaResolution" ? Text,
    "speechConfig" ? Any,
]);

static TOOL: Shape = Object(fields![
    "functionDeclarations" ? List(&Object(fields![
        "name" ! Text,
        "description" ? Text,
        "parameters" ? Same(&SCHEMA),
        "parametersJsonSchema" ? Map(&Any),
        "response" ? Same(&SCHEMA),
        "responseJsonSchema" ? Map(&Any),
        "behavior" ? Text,
    ])),
    "googleSearch" ? Any,
    "codeExecution" ? Any,
    "urlContext" ? Any,
]);

static CALLING: Shape = Object(fields![
    "mode" ? Word(&["AUTO", "ANY", "NONE", "VALIDATED"]),
    "allowedFunctionNames" ? List(&Text),
]);

pub static REQUEST: Shape = Object(fields![
    "contents" ! List(&Object(fields!["role" ? Word(&["user", "model"]), "parts" ! List(&PART)])),
    "systemInstruction" ? Object(fields!["role" ? Text, "parts" ! List(&PART)]),
    "tools" ? List(&TOOL),
    "toolConfig" ? Object(fields!["functionCallingConfig" ? Same(&CALLING), "retrievalConfig" ? Any]),
    "generationConfig" ? Same(&GENERATION),
    "safetySettings" ? List(&Object(fields!["category" ! Text, "threshold" ! Text, "method" ? Text])),
    "cachedContent" ? Text,
    "labels" ? Map(&Text),
    "serviceTier" ? Text,
    "store" ? Flag,
]);
