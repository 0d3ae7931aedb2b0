//! How is usage written and read in OpenAI's words?

use serde::{Deserialize, Serialize};

use domain::Usage;

/// `prompt_tokens` includes cached ones; `completion_tokens` includes reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct UsageWire {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    /// OpenRouter's word; OpenAI has none, so it is said only where there is something to say.
    #[serde(skip_serializing_if = "is_zero")]
    cache_write_tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}

impl From<&Usage> for UsageWire {
    fn from(usage: &Usage) -> Self {
        let cache_write_tokens = usage.cache_write_5m + usage.cache_write_1h;
        Self {
            prompt_tokens: usage.input(),
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cache_read, cache_write_tokens },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning },
        }
    }
}

/// What an upstream reports, in the words of all who are called compatible. Counts that are no counts were not reported.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UsageHeard {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Option<PromptHeard>,
    completion_tokens_details: Option<CompletionHeard>,
    /// The same in the words of the Responses API.
    input_tokens: Count,
    output_tokens: Count,
    input_tokens_details: Option<PromptHeard>,
    output_tokens_details: Option<CompletionHeard>,
    /// DeepSeek's word for cached tokens; they are among `prompt_tokens`.
    prompt_cache_hit_tokens: Count,
    /// Moonshot's.
    cached_tokens: Count,
    /// Mistral's.
    num_cached_tokens: Count,
    /// LiteLLM's words for Anthropic's counts; it adds both to `prompt_tokens`.
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    reasoning_tokens: Count,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PromptHeard {
    cached_tokens: Count,
    /// OpenRouter's word.
    cache_write_tokens: Count,
    /// LiteLLM's.
    cache_creation_tokens: Count,
    cache_creation_token_details: Option<CacheCreation>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Count,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CompletionHeard {
    reasoning_tokens: Count,
}

/// A count, if it is one: some servers write `null`, and some `3.0`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "serde_json::Value")]
struct Count(Option<u64>);

impl From<serde_json::Value> for Count {
    fn from(value: serde_json::Value) -> Self {
        let whole = |value: &serde_json::Value| {
            value.as_f64().filter(|count| (0.0..9e15).contains(count) && count.fract() == 0.0)
        };
        Self(value.as_u64().or_else(|| whole(&value).map(|count| count as u64)))
    }
}

impl UsageHeard {
    /// Returns the counts in disjoint dimensions; nothing where none was reported.
    pub fn usage(&self) -> Option<Usage> {
        let prompt = self.prompt_tokens.0.or(self.input_tokens.0);
        let completion = self.completion_tokens.0.or(self.output_tokens.0);
        if prompt.is_none() && completion.is_none() {
            return None;
        }
        let (prompt, completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
        let prompts = self.prompt_tokens_details.as_ref().or(self.input_tokens_details.as_ref());
        let prompts = prompts.cloned().unwrap_or_default();
        let completions = self.completion_tokens_details.as_ref().or(self.output_tokens_details.as_ref());
        let reasoning =
            completions.and_then(|details| details.reasoning_tokens.0).or(self.reasoning_tokens.0);
        let read = [
            &prompts.cached_tokens,
            &self.prompt_cache_hit_tokens,
            &self.cached_tokens,
            &self.num_cached_tokens,
            &self.cache_read_input_tokens,
        ];
        let write =
            [&prompts.cache_write_tokens, &prompts.cache_creation_tokens, &self.cache_creation_input_tokens];
        let reported = |counts: &[&Count]| counts.iter().find_map(|count| count.0.filter(|count| *count > 0));
        let (read, write) = (reported(&read).unwrap_or(0), reported(&write).unwrap_or(0));
        let write_1h =
            prompts.cache_creation_token_details.and_then(|details| details.ephemeral_1h_input_tokens.0);
        let write_1h = write_1h.unwrap_or(0).min(write);

        // Some count the cache beside the prompt: then it does not fit in, or the total says so.
        let surplus =
            self.total_tokens.0.map_or(0, |total| total.saturating_sub(prompt.saturating_add(completion)));
        let cached = read.saturating_add(write);
        let is_beside = cached > prompt || (cached > 0 && surplus == cached);
        let input_uncached = if is_beside { prompt } else { prompt - cached };
        // Some count what the model thought beside the answer (xAI; Google says so in the total alone). It is billed as output.
        let hidden = if is_beside { 0 } else { surplus };
        Some(Usage {
            input_uncached,
            cache_read: read,
            cache_write_5m: write - write_1h,
            cache_write_1h: write_1h,
            output: completion.saturating_add(hidden),
            reasoning: reasoning.unwrap_or(0).max(hidden).min(completion.saturating_add(hidden)),
            compute_us: 0,
        })
    }

    /// Returns what embeddings used: all of it is input, also where only the total is told.
    pub fn of_embeddings(&self) -> Option<Usage> {
        let input = self.prompt_tokens.0.or(self.input_tokens.0).or(self.total_tokens.0)?;
        Some(Usage { input_uncached: input, ..Usage::default() })
    }
}
