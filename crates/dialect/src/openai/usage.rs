//! How is usage written and read in OpenAI's words?

use serde::{Deserialize, Serialize};

use domain::Usage;

/// `prompt_tokens` includes cached ones; `completion_tokens` includes reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UsageWire {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: PromptDetails,
    #[serde(default)]
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: u64,
}

impl From<&Usage> for UsageWire {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.input(),
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cache_read },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning },
        }
    }
}

/// OpenAI's words do not tell cache writes apart: they come back as uncached input.
impl From<&UsageWire> for Usage {
    fn from(wire: &UsageWire) -> Self {
        let cached = wire.prompt_tokens_details.cached_tokens.min(wire.prompt_tokens);
        Self {
            input_uncached: wire.prompt_tokens - cached,
            cache_read: cached,
            output: wire.completion_tokens,
            reasoning: wire.completion_tokens_details.reasoning_tokens,
            ..Self::default()
        }
    }
}
